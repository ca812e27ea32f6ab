"""A finished atlas of colours with its dataset pass, and contexts over it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.build import build
from pipeline.config import AtlasConfig, load_config
from pipeline.evidence import Given, dataset_pass
from pipeline.plan import make_plan
from pipeline.progress import LineReporter
from pipeline.studies.base.context import Context, Inputs
from pipeline.workspace import open_workspace
from tests.pipeline.studies.study_cases import CONFIG, Folders, write_generator, write_network, write_pictures


def made(folder: Path, *, per_class: int = 20, strength: float = 0.5, seeds: int = 1) -> Folders:
    """Build the atlas of colours in ``folder`` and run its dataset pass."""
    models = folder / "models"
    write_network(models / "network.onnx")
    write_generator(models / "generator.onnx")
    write_network(folder / "judge.onnx", gain=[1.0] * 6 + [0.5] * 6)
    path = models / "colours.toml"
    path.write_text(CONFIG.replace('title = "Classes"', f'title = "Classes"\nseeds = {seeds}'))
    folders = Folders(
        path, write_pictures(folder / "pictures", per_class, strength=strength), folder / "judge.onnx", folder / "out"
    )
    config = load_config(str(path))
    build(config, folders.out, LineReporter([].append))
    dataset_pass(config, folders.out, Given(images=folders.images), lambda progress: None)
    return folders


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """The atlas of colours; nothing may be written into it."""
    return made(tmp_path_factory.mktemp("colours"))


@pytest.fixture
def copied(colours: Folders, tmp_path: Path) -> Folders:
    """A copy of it that a test may write into."""
    out = tmp_path / "out"
    shutil.copytree(colours.out, out)
    return Folders(colours.config, colours.images, colours.judge, out)


@pytest.fixture
def context_of() -> Callable[..., Context]:
    """``context_of(folders, judge_layer="pool", ...)``: what studies read, with inputs replaced."""

    def open_with(folders: Folders, config: AtlasConfig | None = None, **inputs: Any) -> Context:
        workspace = open_workspace(config or load_config(str(folders.config)), folders.out)
        given = {"images": folders.images, "judge": folders.judge, "judge_layer": "pool"} | inputs
        return Context(workspace, make_plan(workspace), Inputs(**given))

    return open_with
