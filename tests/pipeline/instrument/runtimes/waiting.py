"""A runtime whose steps take a fixed time, as if a device of their own did the work: ONNX Runtime and a pause."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from engine.runtimes.onnxruntime import OnnxRuntimeBuilder
from export.manifest import StepGraph

STEP_S = float(os.environ.get("ATLAS_TEST_STEP_S", "0.01"))


class WaitingBuilder(OnnxRuntimeBuilder):
    name = "waiting"
    rank = 99

    def build(self, graph: StepGraph, options: Mapping[str, object]) -> Any:
        return WaitingRunner(super().build(graph, options))


class WaitingRunner:
    def __init__(self, inner: Any, step_s: float = STEP_S) -> None:
        self._inner, self._step_s = inner, step_s
        self.manifest = inner.manifest

    def __enter__(self) -> WaitingRunner:
        self._inner.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._inner.__exit__(*exc)

    def step(self, count: int) -> None:
        end = time.monotonic() + count * self._step_s
        self._inner.step(count)
        time.sleep(max(0.0, end - time.monotonic()))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


BUILDER = WaitingBuilder()
