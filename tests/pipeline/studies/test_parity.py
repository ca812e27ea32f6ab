"""Parity: an engine against itself, and against one that is wrong by a known amount."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from engine.runtimes import get_builder
from pipeline.config import load_config, read_overrides
from pipeline.studies import parity
from pipeline.studies.base.context import Context
from pipeline.studies.base.study import TooFew
from pipeline.studies.parity import STUDY, Engine, engines_here, relative
from tests.pipeline.studies.study_cases import Folders


class Wrong:
    """ONNX Runtime that reports activations 10% too high."""

    name = "wrong"

    def __init__(self) -> None:
        self._honest = get_builder("onnxruntime")

    def build(self, graph, options):  # type: ignore[no-untyped-def]
        runner = self._honest.build(graph, options)
        honest = runner.scalars

        def scalars():  # type: ignore[no-untyped-def]
            from dataclasses import replace

            found = honest()
            return replace(found, activation=found.activation * np.float32(1.1))

        runner.scalars = scalars
        return runner


def test_a_known_error_is_reported(colours: Folders, context_of: Callable[..., Context], monkeypatch) -> None:
    engines = [Engine(get_builder("onnxruntime"), "fp32"), Engine(Wrong(), "fp32")]  # type: ignore[arg-type]
    monkeypatch.setattr(parity, "engines_here", lambda reference: engines)
    output = STUDY.run(context_of(colours))
    row = output.findings[0].blocks[0].rows[0]  # type: ignore[union-attr]
    assert row[:2] == ("wrong fp32", "24")
    median, _, largest = (float(part) for part in row[2].split(" / "))
    assert median == pytest.approx(0.1, rel=0.02)
    assert largest == pytest.approx(0.1, rel=0.02)
    assert float(row[3].split(" / ")[2]) < 1e-6, "gradients are the same"
    assert row[4] == "0 / 0 / 0"
    ascents = output.findings[1].blocks[0].rows[0]  # type: ignore[union-attr]
    assert ascents[2].startswith("1.000 [1.000, 1.000], n = 12"), "the best code and its activation are the same"


def test_the_engines_that_are_here_agree(colours: Folders, context_of: Callable[..., Context]) -> None:
    engines = engines_here("onnxruntime")
    assert engines[0].name == "onnxruntime fp32"
    if len(engines) < 2:
        pytest.skip("one engine only")
    row = next(r for r in STUDY.run(context_of(colours)).findings[0].blocks[0].rows if "fp32" in r[0])  # type: ignore[union-attr]
    assert float(row[2].split(" / ")[2]) < 1e-4


def test_errors_are_relative_to_no_less_than_a_hundredth_of_the_largest() -> None:
    assert relative(np.asarray([1.1, 0.001]), np.asarray([1.0, 0.0])) == pytest.approx([0.1, 0.1])


def test_one_engine_or_too_few_units_are_refused(
    colours: Folders, context_of: Callable[..., Context], monkeypatch
) -> None:
    config = read_overrides("fc", "0:3", None, None).apply(load_config(str(colours.config)))
    with pytest.raises(TooFew, match="3 units are alive"):
        STUDY.run(context_of(colours, config))
    monkeypatch.setattr(parity, "engines_here", lambda reference: engines_here(reference)[:1])
    with pytest.raises(TooFew, match="only openvino fp32"):
        STUDY.run(context_of(colours))
