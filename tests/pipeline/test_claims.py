"""Claims: one holder, given back, taken over from the dead and from nobody else."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from pipeline.blobs import Blobs, open_blobs
from pipeline.claims import Claims
from tests.pipeline.s3 import S3Server

PATH = "key/shard.claim"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class ClaimConformance:
    """Subclass with a fixture ``url`` of an empty place."""

    @pytest.fixture
    def blobs(self, url: str) -> Blobs:
        return open_blobs(url)

    def test_one_holder_at_a_time(self, blobs: Blobs) -> None:
        with Claims(blobs) as one, Claims(blobs) as two:
            claim = one.take(PATH)
            assert claim is not None
            assert two.take(PATH) is None
            assert one.take(PATH) is None
            one.release(claim)
            assert two.take(PATH) is not None
            assert one.take(PATH) is None
        assert blobs.read(PATH) is None

    def test_many_at_once_have_one_winner(self, url: str) -> None:
        barrier, won = threading.Barrier(8), list[int]()

        def race(number: int) -> None:
            claims = Claims(open_blobs(url))
            barrier.wait()
            if claims.take(PATH) is not None:
                won.append(number)

        threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1

    def test_the_claim_of_a_dead_process_here_is_taken_over_at_once(self, blobs: Blobs, dead_pid: int, caplog) -> None:
        with Claims(blobs) as claims:
            assert claims.take(PATH) is not None
            content = json.loads(blobs.read(PATH) or b"")
        blobs.write(PATH, json.dumps({**content, "pid": dead_pid}).encode())
        with Claims(blobs) as claims:
            assert claims.take(PATH) is not None
        assert f"took over {PATH} from process {dead_pid}" in caplog.text

    @pytest.mark.parametrize("content", [b'{"machine": "elsewhere", "pid": 1, "host": "far", "beat": 3}', b"junk", b""])
    def test_a_claim_without_a_sign_of_life_is_taken_over_after_the_lease(self, blobs: Blobs, content: bytes) -> None:
        """By the clock of who waits: what the holder's clock says is nowhere."""
        blobs.write(PATH, content)
        clock = Clock()
        claims = Claims(blobs, lease_s=60, clock=clock)
        assert claims.take(PATH) is None
        clock.now += 59
        assert claims.take(PATH) is None
        clock.now += 1
        assert claims.take(PATH) is not None
        claims.__exit__(None, None, None)

    def test_a_claim_that_shows_life_is_never_taken_over(self, blobs: Blobs) -> None:
        clock = Clock()
        claims = Claims(blobs, lease_s=60, clock=clock)
        for beat in range(5):
            blobs.write(PATH, json.dumps({"machine": "elsewhere", "pid": 1, "beat": beat}).encode())
            assert claims.take(PATH) is None
            clock.now += 50

    def test_a_holder_shows_life_and_notices_that_it_lost(self, blobs: Blobs, caplog) -> None:
        with Claims(blobs, beat_s=0.05) as claims:
            claim = claims.take(PATH)
            assert claim is not None
            seen: Counter[bytes] = Counter()
            deadline = time.monotonic() + 10
            while len(seen) < 4 and time.monotonic() < deadline:
                seen[blobs.read(PATH) or b""] += 1
            assert len(seen) >= 4
            blobs.write(PATH, b"another's")
            while "was taken over" not in caplog.text and time.monotonic() < deadline:
                time.sleep(0.01)
            claims.release(claim)
        assert "was taken over by another" in caplog.text
        assert blobs.read(PATH) == b"another's"

    def test_two_who_find_a_dead_claim_do_not_both_get_it(self, url: str, dead_pid: int) -> None:
        from pipeline.temporary import machine

        open_blobs(url).write(PATH, json.dumps({"machine": machine(), "pid": dead_pid}).encode())
        barrier, won = threading.Barrier(6), list[int]()

        def race(number: int) -> None:
            claims = Claims(open_blobs(url))
            barrier.wait()
            if claims.take(PATH) is not None:
                won.append(number)

        threads = [threading.Thread(target=race, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1


class TestLocalClaims(ClaimConformance):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return str(tmp_path / "store")


class TestS3Claims(ClaimConformance):
    @pytest.fixture
    def url(self, bucket: str) -> str:
        return f"{bucket}/store"

    def test_a_claims_life_lists_nothing(self, blobs: Blobs, s3: S3Server) -> None:
        with s3.counting() as calls, Claims(blobs, beat_s=3600.0) as claims:  # no sign of life falls due
            claim = claims.take(PATH)
            assert claim is not None
            claims.release(claim)
        assert calls == {"PUT": 1, "GET": 1, "DELETE": 1}


class TestMemoryClaims(ClaimConformance):
    @pytest.fixture
    def url(self, request: pytest.FixtureRequest) -> str:
        return f"memory://claims{abs(hash(request.node.nodeid))}"


HOLD = """
import sys, time
from pathlib import Path
from pipeline.blobs import open_blobs
from pipeline.claims import Claims
claims = Claims(open_blobs(sys.argv[1]))
assert claims.take(sys.argv[2])
print("held", flush=True)
time.sleep(60)
"""


def test_a_killed_holders_claim_is_free_at_once_and_a_living_ones_is_not(tmp_path: Path) -> None:
    url = str(tmp_path / "store")
    process = subprocess.Popen([sys.executable, "-c", HOLD, url, PATH], stdout=subprocess.PIPE, text=True)
    with process, Claims(open_blobs(url)) as claims:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert claims.take(PATH) is None
        assert claims.holder(PATH).startswith(f"process {process.pid} on ")
        process.kill()
        process.wait()
        assert claims.take(PATH) is not None
