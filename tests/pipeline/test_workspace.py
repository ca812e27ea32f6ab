from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace

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
    section, compiler = AscentSection().model_dump(), asdict(Ascent())
    assert section.pop("zoom") is None  # depends on the layer
    del compiler["zoom"]
    assert {name: section[name] for name in compiler} == compiler


def test_classes_are_seen_from_nearer_too_unless_the_configuration_says_otherwise(
    open_tiny: Callable[..., Workspace],
) -> None:
    workspace = open_tiny()

    def zooms(**ascent: object) -> list[tuple[float, float]]:
        section = AscentSection.model_validate(ascent)
        changed = replace(workspace, config=workspace.config.model_copy(update={"ascent": section}))
        return [changed.ascent(name).zoom for name in ("fc", "-fc", "relu1")]

    assert zooms() == [(1, 2), (1, 2), (1, 1)]
    assert zooms(kind="normalized") == [(1, 1)] * 3
    assert zooms(zoom=[0.9, 1.1]) == [(0.9, 1.1)] * 3
    assert zooms(zoom=[1, 1]) == [(1, 1)] * 3
