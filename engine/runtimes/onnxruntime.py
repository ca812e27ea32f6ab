"""ONNX Runtime on the CPU."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Any

from engine.host import HostRunner, TensorSpec, chosen_precision, num_lanes, num_threads
from engine.protocol import Array, Availability, Runner
from export.errors import EngineError
from export.manifest import StepGraph

PACKAGES = ("onnxruntime", "onnxruntime-gpu")
DTYPES = {"tensor(float)": "float32", "tensor(int64)": "int64", "tensor(bool)": "bool", "tensor(int32)": "int32"}
ERRORS_ONLY = 3


class OnnxRuntimeBuilder:
    """Makes ONNX Runtime sessions; fp32."""

    name = "onnxruntime"
    device = "cpu"
    rank = 20

    def availability(self) -> Availability:
        versions = installed_versions()
        if len(versions) > 1:
            return Availability(
                False,
                "onnxruntime and onnxruntime-gpu are both installed and overwrite each other; run "
                "`pip uninstall onnxruntime onnxruntime-gpu`, then install the one you want again",
            )
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


class OnnxRuntimeModel:
    """A session and its bindings; see :class:`engine.host.HostModel`. Bindings may run side by side.

    Args:
        model: serialised.
        what: for messages.
        threads: of one run.
    """

    def __init__(self, model: bytes, what: str, threads: int) -> None:
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.inter_op_num_threads = 1
        settings.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        settings.use_deterministic_compute = True
        settings.log_severity_level = ERRORS_ONLY
        # A spinning worker wins microseconds per operator and takes a whole core from every other process.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise EngineError(
                f"ONNX Runtime refuses the {what} graph; compile it again or use another runtime: {error}"
            ) from error
        self._library: Any = onnxruntime
        self.inputs = {node.name: _spec(node) for node in self._session.get_inputs()}
        self.outputs = {node.name: _spec(node) for node in self._session.get_outputs()}

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Callable[[], None]:
        """See :meth:`engine.host.HostModel.bind`."""
        binding = self._session.io_binding()
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, self._library.OrtValue.ortvalue_from_numpy(array))
        for name, array in outputs.items():
            binding.bind_ortvalue_output(name, self._library.OrtValue.ortvalue_from_numpy(array))
        session = self._session
        return lambda: session.run_with_iobinding(binding)


def installed_versions() -> dict[str, str]:
    """Version of each installed package that provides ``onnxruntime``."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _spec(node: Any) -> TensorSpec:
    return TensorSpec(tuple(node.shape), DTYPES.get(node.type, node.type))


BUILDER = OnnxRuntimeBuilder()
