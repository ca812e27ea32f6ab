"""Several processes at one atlas, on disk and on S3: shared work, kills, a store that goes away."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from tests.pipeline import commands
from tests.pipeline.instrument import begun, environment, stored
from tests.pipeline.models import write_tiny
from tests.pipeline.s3 import SECRET, S3Server

NUM_SHARDS = 16
START_S = 60.0


def write_config(folder: Path, store: str | None = None, steps: int = 20, site: str | None = None) -> Path:
    """The tiny atlas in shards of one unit, made by the runtime that waits."""
    path = write_tiny(folder, steps=steps, shard_size=1)
    sections = f'[store]\nurl = "{store}"\n\n' if store else ""
    sections += f'[publish]\nurl = "{site}"\n\n' if site else ""
    text = path.read_text().replace("[run]\n", f'{sections}[run]\nruntime = "waiting"\n')
    path.write_text(text)
    return path


def shards_in(store: str) -> dict[str, bytes]:
    """Parquet files and manifests by path, straight from the store."""
    from pipeline.blobs import open_blobs

    blobs = open_blobs(store)
    files = {}
    for key in blobs.folders(""):
        if len(key) == 20:
            for entry in blobs.entries(key):
                data = blobs.read(f"{key}/{entry.name}")
                assert data is not None
                files[f"{key}/{entry.name}"] = data
    return files


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an undisturbed build makes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    config = write_config(folder)
    done = commands.run("build", config, "--out", folder / "whole", env=environment(folder / "log", 0.0))
    assert done.returncode == 0, done.stderr
    return shards_in(str(folder / "whole" / "store"))


@pytest.fixture(params=["disk", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "disk":
        return str(tmp_path / "store")
    return f"{request.getfixturevalue('bucket')}/store"


def test_two_processes_share_an_atlas_and_make_no_shard_twice(tmp_path: Path, store: str, whole) -> None:
    """In folders of their own, so that they share nothing but the store."""
    config, log = write_config(tmp_path / "models", store), tmp_path / "log"
    env = environment(log, 0.02)
    processes = [commands.start("build", config, "--out", tmp_path / f"out{n}", env=env) for n in range(2)]
    for process in processes:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert set(begun(log).values()) == {1}, begun(log)
    assert len(begun(log)) == NUM_SHARDS
    makers = {line.split()[0] for line in log.read_text().splitlines() if " making " in line}
    assert len(makers) == 2, "one process did all the work"
    assert shards_in(store) == whole
    tables = {(tmp_path / f"out{n}" / "units.parquet").read_bytes() for n in range(2)}
    assert len(tables) == 1


def test_the_shard_of_a_killed_process_goes_to_the_other_and_nothing_else_is_made_again(
    tmp_path: Path, store: str, whole
) -> None:
    config, log = write_config(tmp_path / "models", store), tmp_path / "log"
    env = environment(log, 0.03)
    victim, survivor = (commands.start("build", config, "--out", tmp_path / f"out{n}", env=env) for n in range(2))
    _await(lambda: _begun_by(log, victim.pid) >= 3)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    _, err = survivor.communicate(timeout=120)
    assert survivor.returncode == 0, err
    again = [name for name, count in begun(log).items() if count > 1]
    assert len(again) <= 1
    assert max(stored(log).values()) == 1
    assert shards_in(store) == whole


def test_builds_killed_again_and_again_make_at_most_one_shard_again_per_kill(
    tmp_path: Path, bucket: str, whole
) -> None:
    store = f"{bucket}/store"
    config, log = write_config(tmp_path / "models", store), tmp_path / "log"
    env, rng, num_kills = environment(log, 0.01), random.Random(3), 3
    for kill in range(1, num_kills + 1):
        process = commands.start("build", config, "--out", tmp_path / "out", env=env)
        _await(lambda: _begun_by(log, process.pid) >= 2)  # noqa: B023
        time.sleep(rng.uniform(0.0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert sum(begun(log).values()) - len(begun(log)) <= kill
    done = commands.run("build", config, "--out", tmp_path / "out", env=env)
    assert done.returncode == 0, done.stderr
    assert sum(begun(log).values()) - len(begun(log)) <= num_kills
    assert len(begun(log)) == NUM_SHARDS
    assert shards_in(store) == whole


def test_a_store_that_goes_away_in_mid_run_is_waited_for(tmp_path: Path, bucket: str, s3: S3Server, whole) -> None:
    away_s = 5.0
    config, log = write_config(tmp_path / "models", f"{bucket}/store"), tmp_path / "log"
    process = commands.start("build", config, "--out", tmp_path / "out", env=environment(log, 0.02))
    _await(lambda: _begun_by(log, process.pid) >= 3)
    s3.stop()
    time.sleep(away_s)
    still = process.poll() is None
    s3.start()
    _, err = process.communicate(timeout=120)
    assert still
    assert process.returncode == 0, err
    assert "is away" in log.read_text()
    assert set(begun(log).values()) == {1}
    assert shards_in(f"{bucket}/store") == whole


@pytest.mark.slow
def test_a_store_that_is_away_for_a_minute_is_waited_for(tmp_path: Path, bucket: str, s3: S3Server, whole) -> None:
    """Slow: the minute of the promise."""
    config, log = write_config(tmp_path / "models", f"{bucket}/store"), tmp_path / "log"
    process = commands.start("build", config, "--out", tmp_path / "out", env=environment(log, 0.02))
    _await(lambda: _begun_by(log, process.pid) >= 3)
    s3.stop()
    time.sleep(60)
    s3.start()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert set(begun(log).values()) == {1}
    assert shards_in(f"{bucket}/store") == whole


def test_a_store_that_stays_away_ends_the_run_in_one_sentence(tmp_path: Path, bucket: str, s3: S3Server) -> None:
    config, log = write_config(tmp_path / "models", f"{bucket}/store"), tmp_path / "log"
    config.write_text(config.read_text().replace("[store]\n", "[store]\npatience_s = 2.0\n"))
    process = commands.start("build", config, "--out", tmp_path / "out", env=environment(log, 0.02))
    _await(lambda: _begun_by(log, process.pid) >= 3)
    s3.stop()
    try:
        _, err = process.communicate(timeout=120)
    finally:
        s3.start()
    assert process.returncode == 1
    assert "run again when the store is back" in err
    assert "Traceback" not in err
    assert '"outcome": "failed"' in (tmp_path / "out" / "report.json").read_text()


def test_secrets_are_in_no_file_no_log_and_no_page(tmp_path: Path, bucket: str) -> None:
    config, log = write_config(tmp_path / "models", f"{bucket}/store", site=f"{bucket}/site"), tmp_path / "log"
    done = commands.run("build", config, "--out", tmp_path / "out", env=environment(log, 0.0))
    assert done.returncode == 0, done.stderr
    written = [done.stdout, done.stderr, *(path.read_bytes().decode("latin-1") for path in _files(tmp_path))]
    written += [data.decode("latin-1") for data in shards_in(f"{bucket}/store").values()]
    assert not any(SECRET in text for text in written)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _begun_by(log: Path, pid: int) -> int:
    if not log.exists():
        return 0
    return sum(line.startswith(f"{pid} ") and " making " in line for line in log.read_text().splitlines())


def _await(condition) -> None:
    deadline = time.monotonic() + START_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
