"""A Prefect server, workers and a project folder with deployments, for tests; killed and started again at will."""

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
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

ROOT = Path(__file__).parents[2]
PREFECT = [sys.executable, "-m", "prefect"]
START_S = 240.0
BUSY = (503, 500)
"""Prefect's answers when its database is busy; its own client tries again too."""
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


class Process:
    """A Prefect process in a group of its own; it and its children end together."""

    def __init__(self, site: Site, name: str, *arguments: str) -> None:
        self.log = site.project / f"{name}.log"
        self._site, self._arguments = site, arguments
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*PREFECT, *self._arguments],
                cwd=self._site.project,
                env=self._site.env,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL to this process alone; its children live on."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def kill_group(self) -> None:
        """SIGKILL to this process and the runs it started."""
        assert self._process is not None
        for child in children(self._process.pid):
            _kill(child)
        _kill(self._process.pid)
        self._process.wait()

    def end(self) -> None:
        """SIGTERM, then SIGKILL."""
        assert self._process is not None
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill_group()


class Site:
    """A server, and a project folder whose deployments ``atlas/tiny`` and ``shards/helper`` workers serve."""

    def __init__(self, project: Path, home: Path, env: dict[str, str] | None = None) -> None:
        """``env`` is what the server, workers and runs get; by default this process's own."""
        self.project, self.port = project, free_port()
        self.url = f"http://127.0.0.1:{self.port}/api"
        inherited = {
            name: value
            for name, value in (env or dict(os.environ)).items()
            if not name.startswith("PREFECT_") or name.startswith("PREFECT_SERVER_CONCURRENCY_")
        }
        self.env = inherited | {
            "PWD": str(project),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), inherited.get("PYTHONPATH", "")])),
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_UI_ENABLED": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_LOGGING_EXTRA_LOGGERS": "pipeline",
            "DO_NOT_TRACK": "1",
        }
        self.processes: list[Process] = []

    def start_server(self) -> Process:
        server = Process(self, "server", "server", "start", "--host", "127.0.0.1", "--port", str(self.port))
        self.processes.append(server)
        self.await_health()
        return server

    def start_worker(self, name: str) -> Process:
        worker = Process(self, name, "worker", "start", "--pool", "atlas", "--limit", "1", "--name", name)
        self.processes.append(worker)
        return worker

    def set_up(self) -> None:
        """Work pool and deployments."""
        for arguments in (
            ("work-pool", "create", "atlas", "--type", "process"),
            ("deploy", "--all", "--prefect-file", "deploy/prefect.yaml"),
        ):
            done = self.prefect(*arguments)
            assert done.returncode == 0, done.stdout + done.stderr

    def end(self) -> None:
        for process in reversed(self.processes):
            process.end()

    def await_health(self) -> None:
        deadline = time.monotonic() + START_S
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                assert time.monotonic() < deadline, "the Prefect server did not start"
                time.sleep(0.2)

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

    def python(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run Python as an operator would who has the server's address."""
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.project,
            env=self.env | env,
            capture_output=True,
            text=True,
            timeout=START_S,
            check=False,
        )

    def post(self, path: str, **body: object) -> Any:
        request = urllib.request.Request(
            f"{self.url}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        for attempt in range(60):
            try:
                with urllib.request.urlopen(request, timeout=30) as response:
                    return json.load(response)
            except urllib.error.HTTPError as error:
                if error.code not in BUSY or attempt == 59:
                    raise
                error.close()
                time.sleep(1)
        raise AssertionError("unreachable")

    def deployment(self, name: str) -> dict[str, Any]:
        (found,) = [deployment for deployment in self.post("deployments/filter") if deployment["name"] == name]
        return found  # type: ignore[no-any-return]

    def begin(self, **parameters: object) -> dict[str, Any]:
        """Ask for a run of the deployment ``tiny``."""
        deployment = self.deployment("tiny")
        return self.post(  # type: ignore[no-any-return]
            f"deployments/{deployment['id']}/create_flow_run", parameters=parameters, idempotency_key=str(uuid4())
        )

    def read(self, run: dict[str, Any]) -> dict[str, Any]:
        """The run as it is now."""
        (found,) = self.post("flow_runs/filter", flow_runs={"id": {"any_": [run["id"]]}})
        return found  # type: ignore[no-any-return]

    def run(self, **parameters: object) -> dict[str, Any]:
        """Run the deployment to its end, without the slow start of the command."""
        run = self.begin(**parameters)
        deadline = time.monotonic() + START_S
        while run["state_type"] not in ENDED:
            assert time.monotonic() < deadline, run
            time.sleep(0.2)
            run = self.read(run)
        return run

    def tasks(self, run: dict[str, Any]) -> list[str]:
        """First words of the names of a run's tasks; the server learns of them some time after the run has ended."""
        deadline = time.monotonic() + START_S
        names: list[str] = []
        while not any(name.startswith("publish") for name in names) and time.monotonic() < deadline:
            runs = self.post("task_runs/filter", flow_runs={"id": {"any_": [run["id"]]}})
            names = [task["name"] for task in runs]
            time.sleep(0.2)
        return [re.split("[ -]", name)[0] for name in names]


def write_project(project: Path, config_edits: dict[str, str] | None = None, **tiny: int) -> None:
    """The project's own deployments: that of the demo, for a tiny atlas, and the helper."""
    from tests.pipeline.models import write_tiny

    path = write_tiny(project / "deploy" / "atlases", **tiny)
    text = path.read_text()
    for old, new in (config_edits or {}).items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    raw = yaml.safe_load((ROOT / "deploy" / "prefect.yaml").read_text())
    chosen = {deployment["name"]: deployment for deployment in raw["deployments"]}
    deployment = {**chosen["lite0"], "name": "tiny", "parameters": {"config": "tiny"}, "schedules": []}
    raw["deployments"] = [deployment, chosen["helper"]]
    (project / "deploy" / "prefect.yaml").write_text(yaml.safe_dump(raw))


def children(pid: int) -> list[int]:
    """Every process below one, deepest first."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            direct = [int(child) for child in task.read_text().split()]
        except OSError:
            continue
        for child in direct:
            found += [*children(child), child]
    return found


def flow_processes(worker: Process) -> list[int]:
    """The runs that a worker has started."""
    found = []
    for child in children(worker.pid):
        try:
            if b"prefect" in (Path("/proc") / str(child) / "cmdline").read_bytes():
                found.append(child)
        except OSError:
            continue
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
