"""The flow on a real Prefect server with a real worker, deployed as ``deploy/prefect.yaml`` says."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from tests.pipeline import commands
from tests.pipeline.models import write_tiny
from tests.pipeline.test_build import shards_of

ROOT = Path(__file__).parents[2]
PREFECT = [sys.executable, "-m", "prefect"]
START_S = 120.0
SQLITE_IS_LOCKED = 503
"""Prefect's answer when its database is busy; its own client tries again too."""


@dataclass(frozen=True)
class Site:
    """A Prefect server, and a project folder whose deployment ``atlas/tiny`` a worker serves."""

    project: Path
    url: str
    env: dict[str, str]

    def prefect(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PREFECT, "--no-prompt", *arguments],
            cwd=self.project,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=START_S,
            check=False,
        )

    def post(self, path: str, **body: object) -> Any:
        request = urllib.request.Request(
            f"{self.url}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        for attempt in range(10):
            try:
                with urllib.request.urlopen(request, timeout=30) as response:
                    return json.load(response)
            except urllib.error.HTTPError as error:
                if error.code != SQLITE_IS_LOCKED or attempt == 9:
                    raise
                error.close()
                time.sleep(1)
        return None

    def deployment(self, name: str) -> dict[str, Any]:
        (found,) = [deployment for deployment in self.post("deployments/filter") if deployment["name"] == name]
        return found  # type: ignore[no-any-return]

    def run(self, **parameters: object) -> dict[str, Any]:
        """Run the deployment to its end, without the slow start of the command."""
        deployment = self.deployment("tiny")
        run = self.post(
            f"deployments/{deployment['id']}/create_flow_run", parameters=parameters, idempotency_key=str(uuid4())
        )
        deadline = time.monotonic() + START_S
        while run["state_type"] not in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
            assert time.monotonic() < deadline, run
            time.sleep(0.2)
            (run,) = self.post("flow_runs/filter", flow_runs={"id": {"any_": [run["id"]]}})
        return run  # type: ignore[no-any-return]

    def tasks(self, run: dict[str, Any]) -> list[str]:
        """First words of the names of a run's tasks; the server learns of them some time after the run has ended."""
        deadline = time.monotonic() + START_S
        names: list[str] = []
        while not any(name.startswith("publish") for name in names) and time.monotonic() < deadline:
            runs = self.post("task_runs/filter", flow_runs={"id": {"any_": [run["id"]]}})
            names = [task["name"] for task in runs]
            time.sleep(0.2)
        return [re.split("[ -]", name)[0] for name in names]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Start a server and a worker, deploy; end both by their process groups."""
    project = tmp_path_factory.mktemp("project")
    _write_project(project)
    url = f"http://127.0.0.1:{_free_port()}/api"
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")} | {
        "PWD": str(project),
        "PYTHONPATH": str(ROOT),
        "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect")),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_ENABLED": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "DO_NOT_TRACK": "1",
    }
    site = Site(project, url, env)
    port = url.removesuffix("/api").rpartition(":")[2]
    with _running(site, "server", "start", "--host", "127.0.0.1", "--port", port):
        _await_health(url)
        for arguments in (
            ("work-pool", "create", "atlas", "--type", "process"),
            ("deploy", "--all", "--prefect-file", "deploy/prefect.yaml"),
        ):
            done = site.prefect(*arguments)
            assert done.returncode == 0, done.stdout + done.stderr
        with _running(site, "worker", "start", "--pool", "atlas", "--limit", "1"):
            yield site


def test_a_run_makes_the_same_files_as_the_command_and_leaves_artifacts(site: Site, tmp_path: Path) -> None:
    done = site.prefect("deployment", "run", "atlas/tiny", "--watch")
    assert done.returncode == 0, done.stdout + done.stderr
    out = site.project / "build" / "tiny"
    assert (out / "site" / "index.html").is_file()
    command = commands.run("build", site.project / "deploy" / "atlases" / "tiny.toml", "--out", tmp_path / "out")
    assert command.returncode == 0, command.stderr
    assert shards_of(out) == shards_of(tmp_path / "out")
    assert (out / "units.parquet").read_bytes() == (tmp_path / "out" / "units.parquet").read_bytes()

    artifacts = {artifact["key"]: artifact for artifact in site.post("artifacts/filter")}
    kinds = ("summary", "layers", "shards", "site", "preview", "progress")
    assert set(artifacts) == {f"tiny-{kind}" for kind in kinds}
    assert float(artifacts["tiny-progress"]["data"]) == 100.0
    assert artifacts["tiny-preview"]["data"].startswith("data:image/jpeg;base64,")
    assert "16 of 16 jobs to run in 9 shards" in artifacts["tiny-summary"]["data"]
    rows = json.loads(artifacts["tiny-shards"]["data"])
    assert sum(row["jobs"] for row in rows) == 16
    assert (out / "site" / "index.html").resolve().as_uri() in artifacts["tiny-site"]["data"]
    (first,) = site.post("flow_runs/filter", flow_runs={"state": {"type": {"any_": ["COMPLETED"]}}})
    assert sorted(site.tasks(first)) == sorted(["plan", *["relu1"] * 3, *["fc"] * 6, "publish"])

    again = site.run()
    assert again["state_type"] == "COMPLETED"
    assert sorted(site.tasks(again)) == ["plan", "publish"]
    summaries = [a["data"] for a in site.post("artifacts/filter", sort="CREATED_DESC") if a["key"] == "tiny-summary"]
    assert "nothing to do: 16 of 16 jobs are already in the store" in summaries[0]


def test_wrong_input_fails_the_run_with_the_sentence(site: Site) -> None:
    run = site.run(layers=["reelu1"])
    assert run["state_type"] == "FAILED"
    assert "has no layer 'reelu1'; did you mean relu1" in run["state"]["message"]


@pytest.mark.parametrize(("name", "value"), [("seeds", 0), ("layers", "fc"), ("out", 3)])
def test_parameters_of_the_wrong_type_are_refused_when_asked_for(site: Site, name: str, value: object) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        site.run(**{name: value})
    with refused.value as answer:
        assert 400 <= answer.code < 500
        assert name in answer.read().decode()


def test_the_deployment_is_nightly_tagged_and_one_at_a_time(site: Site) -> None:
    deployment = site.deployment("tiny")
    assert (deployment["name"], deployment["entrypoint"]) == ("tiny", "pipeline.flows:atlas")
    (schedule,) = deployment["schedules"]
    assert schedule["active"]
    assert schedule["schedule"]["timezone"]
    assert deployment["tags"]
    assert deployment["version"]
    assert deployment["description"]
    assert deployment["global_concurrency_limit"]["limit"] == 1


def _write_project(project: Path) -> None:
    """The project's own deployments: that of the demo, for another atlas, and the helper."""
    write_tiny(project / "deploy" / "atlases")
    raw = yaml.safe_load((ROOT / "deploy" / "prefect.yaml").read_text())
    chosen = {deployment["name"]: deployment for deployment in raw["deployments"]}
    tiny = {**chosen["lite0"], "name": "tiny", "parameters": {"config": "tiny"}}
    raw["deployments"] = [tiny, chosen["helper"]]
    (project / "deploy" / "prefect.yaml").write_text(yaml.safe_dump(raw))


class _running:
    """A Prefect process that runs inside the block; its process group ends with it."""

    def __init__(self, site: Site, *arguments: str) -> None:
        self._log = (site.project / f"{arguments[0]}.log").open("w")
        self._process = subprocess.Popen(
            [*PREFECT, *arguments],
            cwd=site.project,
            env=site.env,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._log.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await_health(url: str) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            assert time.monotonic() < deadline, "the Prefect server did not start"
            time.sleep(0.2)
