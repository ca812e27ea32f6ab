"""A tiny atlas to build."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import pipeline.checked
import pipeline.tuning
from engine.protocol import Builder
from engine.runtimes import builders
from pipeline.config import Overrides, load_config
from pipeline.workspace import Workspace, open_workspace
from tests.pipeline.models import write_tiny


@pytest.fixture(autouse=True)
def engine_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's engines keep what was measured of them."""
    folder = tmp_path / "engines"
    monkeypatch.setattr(pipeline.tuning, "CACHE", folder)
    return folder


@pytest.fixture(autouse=True)
def store_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where it is kept which files of this test's stores were found whole."""
    folder = tmp_path / "stores"
    monkeypatch.setattr(pipeline.checked, "CACHE", folder)
    return folder


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Configuration of a tiny network and generator, in a folder of its own."""
    return write_tiny(tmp_path / "models")


@pytest.fixture
def open_tiny(tiny: Path, tmp_path: Path) -> Callable[..., Workspace]:
    """``open_tiny(layers=("fc",), units="0:2", ...)``: a workspace with overrides, in ``tmp_path / "out"``."""

    def open_with(**overrides: object) -> Workspace:
        config = Overrides(**overrides).apply(load_config(str(tiny)))  # type: ignore[arg-type]
        return open_workspace(config, tmp_path / "out")

    return open_with


@pytest.fixture(scope="session")
def dead_pid() -> int:
    """Id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def workspace_of(open_tiny: Callable[..., Workspace]) -> Callable[..., Workspace]:
    """``workspace_of(BUILDER, threads=2, ...)``: a workspace with another runtime and changes of ``[run]``."""

    def open_with(builder: Builder | str = "onnxruntime", **run: object) -> Workspace:
        workspace = open_tiny()
        config = workspace.config
        return dataclasses.replace(
            workspace,
            builder=builders()[builder] if isinstance(builder, str) else builder,
            config=config.model_copy(update={"run": config.run.model_copy(update=run)}),
        )

    return open_with
