"""Helpers: sent out, looked after, withdrawn; and a server that does not answer costs the run nothing."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import pytest

from pipeline.config import load_config
from pipeline.flows import helpers
from pipeline.flows.helpers import ATTEMPTS, FanOut, Helpers
from pipeline.plan import Plan, make_plan
from pipeline.report import RunReport
from pipeline.workspace import Workspace, open_workspace


class Server:
    """States of runs by id, as Prefect's client tells them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.states: dict[str, str] = {}
        self.cancelled: list[str] = []
        self.is_away = False
        self.sent: list[dict[str, Any]] = []
        monkeypatch.setattr(helpers, "get_client", lambda sync_client: self)
        monkeypatch.setattr(helpers, "dispatch_task", self.dispatch)
        monkeypatch.setattr(helpers, "get_run_logger", lambda: logging.getLogger("run"))
        monkeypatch.setattr(helpers, "LOOK_S", 0.0)

    def __enter__(self) -> Server:
        if self.is_away:
            raise RuntimeError("Failed to reach API")
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def dispatch(self, deployment: str, name: str, parameters: dict[str, Any]) -> str:
        if self.is_away:
            raise httpx.ConnectError("refused")
        run = str(uuid4())
        self.states[run] = "SCHEDULED"
        self.sent.append(parameters)
        return run

    def read_flow_run(self, run: Any) -> Any:
        return SimpleNamespace(state_type=SimpleNamespace(value=self.states[str(run)]))

    def set_flow_run_state(self, run: Any, state: Any, force: bool) -> None:
        self.cancelled.append(str(run))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    return Server(monkeypatch)


@pytest.fixture
def workspace(tiny: Path, tmp_path: Path) -> Workspace:
    return open_workspace(load_config(str(tiny)), tmp_path / "out")


def helpers_of(workspace: Workspace, **fan_out: int) -> tuple[Helpers, RunReport]:
    plan, report = make_plan(workspace), RunReport(workspace)
    return Helpers(workspace, plan, FanOut(**fan_out), None, report), report  # type: ignore[arg-type]


def orders(workspace: Workspace) -> list[str]:
    return [entry.name for entry in workspace.store.blobs.entries("orders")]


def test_there_are_no_more_helpers_than_shards_for_them(workspace: Workspace, server: Server) -> None:
    """Nine shards, two for each helper at least."""
    crew, _ = helpers_of(workspace, helpers=8, shards_each=2)
    with crew:
        assert [(sent["part"], sent["parts"]) for sent in server.sent] == [(1, 5), (2, 5), (3, 5), (4, 5)]
        assert len(orders(workspace)) == 1
    assert orders(workspace) == []


def test_a_plan_with_nothing_to_do_sends_nobody(workspace: Workspace, server: Server) -> None:
    with Helpers(workspace, Plan((), ()), FanOut(), None, RunReport(workspace)):
        assert server.sent == []


def test_one_that_crashed_is_sent_out_again_but_not_for_ever(workspace: Workspace, server: Server, caplog) -> None:
    crew, report = helpers_of(workspace, helpers=1, shards_each=1)
    with crew:
        for _ in range(ATTEMPTS + 3):
            server.states = dict.fromkeys(server.states, "CRASHED")
            crew.tend()
    assert len(server.sent) == ATTEMPTS
    assert report.num_helper_retries == ATTEMPTS - 1
    assert caplog.text.count("going on without it") == 1


def test_those_that_nobody_has_taken_up_are_withdrawn_and_those_at_work_are_not(
    workspace: Workspace, server: Server
) -> None:
    crew, _ = helpers_of(workspace, helpers=2, shards_each=1)
    with crew:
        waiting, working = server.states
        server.states[working] = "RUNNING"
    assert server.cancelled == [waiting]


def test_a_server_that_is_away_while_they_are_looked_after_costs_nothing(
    workspace: Workspace, server: Server, caplog
) -> None:
    crew, report = helpers_of(workspace, helpers=1, shards_each=1)
    with crew:
        server.states = dict.fromkeys(server.states, "CRASHED")
        server.is_away = True
        crew.tend()
        assert "the helpers cannot be looked after (Failed to reach API); going on" in caplog.text
        server.is_away = False
        crew.tend()  # it is remembered, and sent out again
        assert report.num_helper_retries == 1
        server.is_away = True
    assert "the helpers that wait cannot be withdrawn" in caplog.text
    assert orders(workspace) == []


def test_a_server_that_is_away_at_the_start_leaves_the_run_alone(workspace: Workspace, server: Server, caplog) -> None:
    server.is_away = True
    crew, _ = helpers_of(workspace, helpers=2, shards_each=1)
    with crew:
        assert server.sent == []
    assert "no more helpers can be sent out" in caplog.text
