"""Working off a list of shards: what others have made costs two reads, what they are at is waited for."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.errors import AtlasError
from pipeline.claims import Claims
from pipeline.plan import Shard
from pipeline.progress import SilentReporter
from pipeline.store import Store, StoredShard
from pipeline.work import WorkDone, work
from tests.conformance.test_store import FACTS, make_records
from tests.pipeline.s3 import S3Server

NEVER_S = 3600.0
"""Between two signs of life: a slow machine, where one falls due, does not change what is counted."""
SHARDS = [Shard("fc", "key", 0, (first, first + 1)) for first in (0, 2, 4)]


def write(store: Store, shard: Shard) -> StoredShard:
    return store.write_shard(shard.key, make_records(list(shard.units)), FACTS)


def work_off(store: Store, claims: Claims, **options: object) -> tuple[WorkDone, list[Shard]]:
    """With the shards that were really made."""
    made: list[Shard] = []

    def make(shard: Shard) -> StoredShard:
        made.append(shard)
        return write(store, shard)

    return work(store, SHARDS, claims, make, SilentReporter(), **options), made  # type: ignore[arg-type]


def test_what_others_have_made_is_found_and_the_rest_is_made(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    write(store, SHARDS[1])
    with Claims(store.blobs) as claims:
        done, made = work_off(store, claims)
    assert made == [SHARDS[0], SHARDS[2]]
    assert [shard for shard, _ in done.found] == [SHARDS[1]]
    assert (done.num_jobs, done.waited_s) == (4, 0.0)
    assert list(tmp_path.rglob("*.claim")) == []


def test_a_shard_that_another_has_made_costs_two_reads_and_claims_nothing(bucket: str, s3: S3Server) -> None:
    """Of a hundred thousand shards that a dozen share, most are others'."""
    store = Store(f"{bucket}/store")
    for shard in SHARDS:
        write(store, shard)
    with s3.counting() as calls, Claims(store.blobs, beat_s=NEVER_S) as claims:
        done, made = work_off(store, claims)
    assert made == []
    assert len(done.found) == 3
    assert calls == {"GET": 2 * 3}


def test_a_shard_that_is_made_lists_nothing(bucket: str, s3: S3Server) -> None:
    store = Store(f"{bucket}/store")
    with s3.counting() as calls, Claims(store.blobs, beat_s=NEVER_S) as claims:
        _, made = work_off(store, claims)
    assert made == SHARDS
    # looked for twice; claim, Parquet file, manifest; claim read and removed
    assert calls == {"GET": 3 * 3, "PUT": 3 * 3, "DELETE": 3}


def test_what_another_is_at_is_waited_for_and_left_by_who_does_not_wait(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with Claims(store.blobs) as other, Claims(store.blobs) as claims:
        claim = other.take(SHARDS[0].claim_path)
        assert claim is not None
        done, made = work_off(store, claims, wait=False)
        assert made == SHARDS[1:]
        looks: list[float] = []

        def finish(seconds: float) -> None:
            looks.append(seconds)
            if len(looks) == 3:
                write(store, SHARDS[0])
                other.release(claim)

        done, made = work_off(store, claims, sleep=finish)
    assert made == []
    assert [shard for shard, _ in done.found] == [*SHARDS[1:], SHARDS[0]]
    assert done.waited_s == sum(looks) > 0


def test_what_was_finished_between_look_and_claim_is_not_made_again(tmp_path: Path) -> None:
    store = Store(str(tmp_path))

    class Late(Claims):
        def take(self, path: str):  # type: ignore[no-untyped-def]
            for shard in SHARDS:
                if shard.claim_path == path:
                    write(store, shard)
            return super().take(path)

    with Late(store.blobs) as claims:
        done, made = work_off(store, claims)
    assert made == []
    assert len(done.found) == 3


def test_a_failure_gives_the_claim_back(tmp_path: Path) -> None:
    store = Store(str(tmp_path))

    def fail(shard: Shard) -> StoredShard:
        raise AtlasError("the engine failed")

    with Claims(store.blobs) as claims, pytest.raises(AtlasError, match="the engine failed"):
        work(store, SHARDS, claims, fail, SilentReporter())
    assert list(tmp_path.rglob("*.claim")) == []
