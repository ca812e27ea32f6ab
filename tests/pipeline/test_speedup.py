"""Two do the work in half the time where cores do not bind them: steps that wait, as those of two GPUs would."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipeline import commands
from tests.pipeline.instrument import begun, environment
from tests.pipeline.prefect_site import Site, write_project
from tests.pipeline.test_together import write_config

STEP_S = 0.6
NUM_SHARDS = 16
NEEDED = 1.9

pytestmark = pytest.mark.slow


def work_s(log: Path, number: int) -> float:
    """Time from the first shard begun to the last one stored, by ``number`` processes.

    While the later one starts, the first works alone; that time counts as if it had been shared, since a start is not
    what is measured here.
    """
    assert set(begun(log).values()) == {1}
    assert len(begun(log)) == NUM_SHARDS
    lines = [line.split() for line in log.read_text().splitlines()]
    first = {words[0]: float(words[1]) for words in reversed(lines) if words[2] == "making"}
    last = max(float(words[1]) for words in lines if words[2] == "stored")
    assert len(first) == number
    late_s = max(first.values()) - min(first.values())
    return last - max(first.values()) + late_s / number


def test_two_processes_are_nearly_twice_as_fast(tmp_path: Path) -> None:
    """Slow: three minutes of steps that wait."""
    took = {}
    for number in (1, 2):
        config = write_config(tmp_path / f"models{number}", str(tmp_path / f"store{number}"), steps=10)
        log = tmp_path / f"log{number}"
        env = environment(log, STEP_S)
        options = ["--layers", "fc", "--units", "0:4", "--seeds", "4"]
        outs = [tmp_path / f"out{number}-{n}" for n in range(number)]
        processes = [commands.start("build", config, "--out", out, *options, env=env) for out in outs]
        for process in processes:
            _, err = process.communicate(timeout=240)
            assert process.returncode == 0, err
        took[number] = work_s(log, number)
    print(f"one process {took[1]:.1f} s, two processes {took[2]:.1f} s: {took[1] / took[2]:.2f} times as fast")
    assert took[1] / took[2] >= NEEDED


def test_two_workers_of_prefect_are_nearly_twice_as_fast(tmp_path: Path) -> None:
    """Slow: three minutes of steps that wait, and the start of a server."""
    took = {}
    log = tmp_path / "log"
    project = tmp_path / "project"
    write_project(project, {"[run]\n": '[run]\nruntime = "waiting"\n'}, steps=10, shard_size=1)
    site = Site(project, tmp_path / "prefect", environment(log, STEP_S))
    try:
        site.start_server()
        site.set_up()
        for number in (1, 2):
            site.start_worker(f"worker{number}")
            run = site.run(
                out=str(tmp_path / f"out{number}"),
                layers=["fc"],
                units="0:4",
                seeds=4,
                fan_out={"helpers": number - 1, "shards_each": 1},
            )
            assert run["state_type"] == "COMPLETED", run["state"]["message"]
            took[number] = work_s(log, number)
            log.rename(tmp_path / f"log{number}")
    finally:
        site.end()
    print(f"one worker {took[1]:.1f} s, two workers {took[2]:.1f} s: {took[1] / took[2]:.2f} times as fast")
    assert took[1] / took[2] >= NEEDED
