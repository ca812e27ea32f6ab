"""The soak: processes killed at random while Prefect runs an atlas. ``make soak`` runs it; it takes many minutes."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.pipeline import commands
from tests.pipeline.instrument import begun, environment, stored
from tests.pipeline.prefect_site import ENDED, Process, Site, flow_processes, write_project
from tests.pipeline.test_build import shards_of

NUM_KILLS = 20
STEP_S = 0.04
FIELDS = {"seeds": 24, "layers": ["fc"]}
NUM_SHARDS = 24 * 5
PROGRESS_S = 90.0
"""How long a kill waits for the run before it to have begun a shard."""

LEASES = "prefect.server.concurrency.lease_storage.filesystem"
"""As the runbook starts the server. By default Prefect keeps leases in memory, and ends runs whose lease is gone."""

pytestmark = pytest.mark.slow


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    project = tmp_path / "project"
    write_project(project, {"[run]\n": '[run]\nruntime = "waiting"\n'}, shard_size=1)
    deploy = project / "deploy" / "prefect.yaml"
    raw = yaml.safe_load(deploy.read_text())
    for deployment in raw["deployments"]:
        deployment.pop("concurrency_limit", None)  # so that a new run need not wait for the place of a dead one
    deploy.write_text(yaml.safe_dump(raw))
    site = Site(project, tmp_path / "prefect", environment(project / "made.log", STEP_S))
    try:
        site.start_server()
        site.set_up()
        yield site
    finally:
        site.end()


def test_twenty_random_kills_cost_at_most_a_shard_each_and_change_no_byte(site: Site, tmp_path: Path) -> None:
    """Slow: twenty kills with the restarts between them."""
    log, rng = site.project / "made.log", random.Random(20)
    config = site.project / "deploy" / "atlases" / "tiny.toml"
    options = ["--layers", "fc", "--seeds", "24", "--out", str(tmp_path / "whole")]
    whole = commands.run("build", config, *options, env=environment(tmp_path / "whole.log", 0.0))
    assert whole.returncode == 0, whole.stderr

    server = site.processes[0]
    workers = [site.start_worker(f"worker{number}") for number in range(2)]
    kinds: Counter[str] = Counter()
    rounds = [site.project / "out0"]
    for kill in range(NUM_KILLS):
        if len(list((rounds[-1] / "store").glob("*/0*.json"))) >= NUM_SHARDS - 8:
            _finish(site, rounds[-1])
            rounds.append(site.project / f"out{len(rounds)}")
        before = sum(begun(log).values())
        _keep_running(site, workers, rounds[-1])
        deadline = time.monotonic() + PROGRESS_S
        while sum(begun(log).values()) <= before and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(rng.uniform(0.0, 2.0))
        kind = _kill(rng, server, workers)
        kinds[kind] += 1
        print(
            f"kill {kill + 1}: {kind}; {sum(begun(log).values())} shards begun, {len(stored(log))} stored", flush=True
        )
        server_died = kind == "server"
        if server_died:
            server.start()
            site.await_health()
        at_work = len(workers)  # shards that are begun and not yet stored
        assert sum(begun(log).values()) - sum(stored(log).values()) <= kill + 1 + at_work
    _finish(site, rounds[-1])
    for out in rounds:
        assert shards_of(out) == shards_of(tmp_path / "whole")
        assert (out / "units.parquet").read_bytes() == (tmp_path / "whole" / "units.parquet").read_bytes()
    again = sum(begun(log).values()) - NUM_SHARDS * len(rounds)
    assert 0 <= again <= NUM_KILLS
    print(f"kills: {dict(kinds)}; rounds: {len(rounds)} atlases of {NUM_SHARDS} shards")
    print(f"shards begun: {sum(begun(log).values())} for {NUM_SHARDS * len(rounds)} that there are")
    print(f"made again: {again}, at most {NUM_KILLS} are allowed")
    print("every file equals that of the undisturbed run")


def test_a_server_that_is_killed_and_comes_back_does_not_end_a_run(tmp_path: Path) -> None:
    """Slow: half a minute without a server. With the deployment's limit, whose lease must outlive the server."""
    project = tmp_path / "project"
    write_project(project, {"[run]\n": '[run]\nruntime = "waiting"\n'}, shard_size=1)
    log = project / "made.log"
    env = environment(log, STEP_S) | {"PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": LEASES}
    site = Site(project, tmp_path / "prefect", env)
    try:
        server = site.start_server()
        site.set_up()
        site.start_worker("worker0")
        run = site.begin(out=str(project / "out"), **FIELDS, fan_out={"helpers": 0})
        deadline = time.monotonic() + 240
        while not stored(log):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        server.kill()
        time.sleep(30)
        server.start()
        site.await_health()
        while site.read(run)["state_type"] not in ENDED:
            assert time.monotonic() < deadline + 300
            time.sleep(1)
        state = site.read(run)
        assert state["state_type"] == "COMPLETED", state["state"]["message"]
        assert set(begun(log).values()) == {1}
        assert len(begun(log)) == NUM_SHARDS
    finally:
        site.end()


def test_a_run_of_a_killed_worker_does_not_stay_running_for_ever(site: Site) -> None:
    """Slow: the automation waits for 150 s without a sign of life."""
    done = site.prefect(
        "automation", "create", "--from-file", str(Path(__file__).parents[2] / "deploy/automations.yaml")
    )
    assert done.returncode == 0, done.stdout + done.stderr
    worker = site.start_worker("worker0")
    run = site.begin(out=str(site.project / "out"), **FIELDS, fan_out={"helpers": 0})
    log = site.project / "made.log"
    deadline = time.monotonic() + 120
    while not begun(log):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(35)  # a heartbeat
    assert site.read(run)["state_type"] == "RUNNING"
    worker.kill_group()
    killed = time.monotonic()
    while site.read(run)["state_type"] not in ENDED:
        assert time.monotonic() - killed < 300, "still Running after five minutes"
        time.sleep(2)
    state = site.read(run)
    print(f"marked {state['state_type']} {time.monotonic() - killed:.0f} s after the kill")
    assert state["state_type"] == "CRASHED"


def test_a_run_that_lives_is_not_marked_crashed(site: Site) -> None:
    """Slow: a run of more than the automation's 150 s, most of it in one shard that is silent."""
    done = site.prefect(
        "automation", "create", "--from-file", str(Path(__file__).parents[2] / "deploy/automations.yaml")
    )
    assert done.returncode == 0, done.stdout + done.stderr
    config = site.project / "deploy" / "atlases" / "tiny.toml"
    config.write_text(
        config.read_text().replace("shard_size = 1", "shard_size = 64").replace("steps = 10", "steps = 4000")
    )
    site.start_worker("worker0")
    run = site.begin(out=str(site.project / "out"), layers=["fc"], units="0:1", seeds=1, fan_out={"helpers": 0})
    start = time.monotonic()
    while (state := site.read(run))["state_type"] not in ENDED:
        assert time.monotonic() - start < 500
        time.sleep(2)
    assert state["state_type"] == "COMPLETED", state["state"]["message"]
    assert time.monotonic() - start > 150


def _keep_running(site: Site, workers: list[Process], out: Path) -> None:
    """See that workers live and a run is at work."""
    for worker in workers:
        if worker._process is not None and worker._process.poll() is not None:
            worker.start()
    if not any(flow_processes(worker) for worker in workers):
        site.begin(out=str(out), **FIELDS, fan_out={"helpers": 1, "shards_each": 1})


def _kill(rng: random.Random, server: Process, workers: list[Process]) -> str:
    """SIGKILL something that runs; tell what."""
    busy = [worker for worker in workers if flow_processes(worker)] or workers
    kind = rng.choice(["flow", "flow", "worker and flow", "worker alone", "server"])
    worker = rng.choice(busy)
    if kind == "server":
        server.kill()
    elif kind == "worker and flow":
        worker.kill_group()
    elif kind == "worker alone":
        worker.kill()
    else:
        flows = flow_processes(worker)
        if not flows:
            worker.kill_group()
            return "worker and flow"
        os.kill(rng.choice(flows), signal.SIGKILL)
    return kind


def _finish(site: Site, out: Path) -> None:
    """Run until it completes; what was killed before is no excuse now."""
    deadline = time.monotonic() + 600
    for worker in site.processes[1:]:
        if worker._process is not None and worker._process.poll() is not None:
            worker.start()
    while True:
        run = site.begin(out=str(out), **FIELDS, fan_out={"helpers": 1, "shards_each": 1})
        while run["state_type"] not in ENDED:
            assert time.monotonic() < deadline, run
            time.sleep(0.5)
            run = site.read(run)
        if run["state_type"] == "COMPLETED":
            return
        assert time.monotonic() < deadline, run["state"]
