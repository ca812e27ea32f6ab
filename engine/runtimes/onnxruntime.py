"""ONNX Runtime on the CPU."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence

from engine.host import HostRunner, chosen_precision, num_lanes, num_threads
from engine.ort import OnnxRuntimeModel, installed_versions, package_conflict
from engine.protocol import Availability, Runner
from export.errors import EngineError
from export.manifest import StepGraph


class OnnxRuntimeBuilder:
    """Makes ONNX Runtime sessions; fp32."""

    name = "onnxruntime"
    device = "cpu"
    rank = 20

    def availability(self) -> Availability:
        versions = installed_versions()
        conflict = package_conflict(versions)
        if conflict:
            return Availability(False, conflict)
        if not versions or importlib.util.find_spec("onnxruntime") is None:
            return Availability(False, "onnxruntime is not installed; run `pip install neuron-atlas[cpu]`")
        return Availability(True, f"{next(iter(versions.values()))}, CPU")

    def precisions(self) -> Sequence[str]:
        return ("fp32",)

    def build(self, graph: StepGraph, options: Mapping[str, object]) -> Runner:
        """See :meth:`engine.protocol.Builder.build`."""
        threads = num_threads(options)
        chosen_precision(options, self.precisions(), self.name)
        state = self.availability()
        if not state.ok:
            raise EngineError(f"ONNX Runtime cannot start: {state.detail}")
        lanes = num_lanes(options, threads)
        step, decode = (
            OnnxRuntimeModel(model, what, threads // lanes)
            for model, what in ((graph.step, "step"), (graph.decode, "decode"))
        )
        return HostRunner(self.name, graph.manifest, step, decode, lanes)


BUILDER = OnnxRuntimeBuilder()
