from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import pytest

import pipeline.workspace
from export.update import Ascent
from pipeline.config.sections import AscentSection
from pipeline.tuning import compiled
from pipeline.workspace import Workspace


def test_the_decode_graph_is_compiled_once_for_all_layers_of_a_batch(
    open_tiny: Callable[..., Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = pipeline.workspace.compile_decode
    monkeypatch.setattr(
        pipeline.workspace, "compile_decode", lambda generator, batch: asked.append(batch) or real(generator, batch)
    )
    workspace = open_tiny()
    first, second = (compiled(workspace, layer, 3) for layer in ("relu1", "fc"))
    assert first.decode is second.decode
    assert first.decode == real(workspace.generator, 3)
    assert compiled(workspace, "fc", 1).decode == real(workspace.generator, 1)
    assert asked == [3, 1]


def test_a_configuration_and_the_compiler_have_the_same_ascent_by_default() -> None:
    section = AscentSection().model_dump()
    assert {name: section[name] for name in asdict(Ascent())} == asdict(Ascent())
