"""ONNX Runtime on an NVIDIA GPU, for graphs that TensorRT refuses. Not yet run on one; see deploy/gpu.md."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engine.cuda.device import why_no_gpu
from engine.host import HostRunner, chosen_precision, num_lanes, num_threads
from engine.ort import OnnxRuntimeModel, OrtMemory, Place, cuda_place, installed_versions, package_conflict
from engine.protocol import Availability, Runner
from export.errors import EngineError, ModelError
from export.manifest import StepGraph

INSTALL = "run `pip install neuron-atlas[gpu]`"


class OnnxRuntimeCudaBuilder:
    """Makes ONNX Runtime sessions on the first visible GPU, all of their tensors there; fp32 unless told."""

    name = "onnxruntime_cuda"
    device = "gpu"
    rank = 7

    def __init__(
        self,
        place: Callable[[bool], Place] = lambda graphs: cuda_place(graphs=graphs),
        load: Callable[[str], Any] = importlib.import_module,
        installed: Callable[[], Mapping[str, str]] = installed_versions,
        no_gpu: Callable[[], str] = why_no_gpu,
    ) -> None:
        """All four are replaced by tests; ``place`` of the CPU runs the same way through the same bindings."""
        self._place, self._load, self._installed, self._no_gpu = place, load, installed, no_gpu

    def availability(self) -> Availability:
        """See :meth:`engine.protocol.Builder.availability`."""
        versions = self._installed()
        conflict = package_conflict(versions)
        if conflict:
            return Availability(False, conflict)
        if "onnxruntime" in versions:
            return Availability(
                False, f"the onnxruntime installed here is the one for the CPU; uninstall it, then {INSTALL}"
            )
        if not versions or importlib.util.find_spec("onnxruntime") is None:
            return Availability(False, f"onnxruntime-gpu is not installed; {INSTALL}")
        reason = self._no_gpu()
        if reason:
            return Availability(False, reason)
        return Availability(True, f"{versions['onnxruntime-gpu']}, GPU ({', '.join(self.precisions())})")

    def precisions(self) -> Sequence[str]:
        return ("fp32", "fp16")

    def build(self, graph: StepGraph, options: Mapping[str, object]) -> Runner:
        """See :meth:`engine.protocol.Builder.build`.

        Further options: ``graphs`` (bool, CUDA graphs, on unless told).
        """
        threads = num_threads(options)
        num_lanes(options)  # one GPU runs one batch at a time: a single lane, whatever is asked for
        precision = chosen_precision(options, self.precisions(), self.name)
        state = self.availability()
        if not state.ok:
            raise EngineError(f"{self.name} cannot start: {state.detail}")
        from export.passes.precision import step_in
        from export.passes.symmetric import with_symmetric_pads

        library = self._load("onnxruntime")
        place = self._place(bool(options.get("graphs", True)))

        def load(model: bytes, what: str, precision: str) -> OnnxRuntimeModel:
            try:
                lowered = with_symmetric_pads(step_in(model, precision))
            except ModelError as error:
                raise EngineError(f"ONNX Runtime refuses the {what} graph: {error}") from error
            return OnnxRuntimeModel(lowered, what, threads, place, library)

        step, decode = load(graph.step, "step", precision), load(graph.decode, "decode", "fp32")
        return HostRunner(self.name, graph.manifest, step, decode, memory=OrtMemory(library, place))


BUILDER = OnnxRuntimeCudaBuilder()
