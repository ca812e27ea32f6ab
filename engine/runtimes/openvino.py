"""OpenVINO on the CPU."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from engine.checks import TensorSpec
from engine.host import HostRunner, chosen_precision, num_lanes, num_threads
from engine.protocol import Array, Availability, Runner
from export.errors import EngineError
from export.manifest import StepGraph

PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
BF16_FLAGS = {"avx512_bf16", "amx_bf16"}
CPUINFO = Path("/proc/cpuinfo")


class OpenVinoBuilder:
    """Makes OpenVINO engines; fp32, and bf16 where the processor has it."""

    name = "openvino"
    device = "cpu"
    rank = 10

    def availability(self) -> Availability:
        try:
            version = metadata.version("openvino")
        except metadata.PackageNotFoundError:
            version = ""
        if not version or importlib.util.find_spec("openvino") is None:
            return Availability(False, "openvino is not installed; run `pip install neuron-atlas[cpu]`")
        return Availability(True, f"{version}, CPU ({', '.join(self.precisions())})")

    def precisions(self) -> Sequence[str]:
        return ("fp32", "bf16") if BF16_FLAGS & cpu_flags() else ("fp32",)

    def build(self, graph: StepGraph, options: Mapping[str, object]) -> Runner:
        """See :meth:`engine.protocol.Builder.build`."""
        threads = num_threads(options)
        precision = chosen_precision(options, self.precisions(), self.name)
        state = self.availability()
        if not state.ok:
            raise EngineError(f"OpenVINO cannot start: {state.detail}")
        lanes = num_lanes(options, threads)
        step = OpenVinoModel(graph.step, "step", threads, precision, lanes)
        # An image is shown, not climbed: decoding costs little, so it is always exact.
        decode = OpenVinoModel(graph.decode, "decode", threads, "fp32", lanes)
        return HostRunner(self.name, graph.manifest, step, decode, lanes)


class OpenVinoModel:
    """A compiled model; see :class:`engine.host.HostModel`. As many of its requests as it has lanes run side by side.

    Args:
        model: serialised.
        what: for messages.
        threads: of all lanes together.
        precision: ``fp32`` or ``bf16``.
        lanes: requests that run at once.
    """

    def __init__(self, model: bytes, what: str, threads: int, precision: str, lanes: int) -> None:
        import openvino

        core = _core()
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise EngineError("OpenVINO does not run bf16 on this processor; use precision fp32")
        settings = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
            "NUM_STREAMS": lanes,
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        }
        try:
            graph = core.read_model(model)
            _unshare_weights(graph, openvino)
            self._compiled: Any = core.compile_model(graph, "CPU", settings)
        except Exception as error:
            raise EngineError(
                f"OpenVINO refuses the {what} graph; compile it again or use another runtime: {error}"
            ) from error
        self._library: Any = openvino
        self.inputs = dict(spec for port in self._compiled.inputs for spec in _specs(port))
        self.outputs = dict(spec for port in self._compiled.outputs for spec in _specs(port))

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Callable[[], None]:
        """See :meth:`engine.host.HostModel.bind`."""
        request = self._compiled.create_infer_request()
        for name, array in {**inputs, **outputs}.items():
            request.set_tensor(name, self._library.Tensor(array, shared_memory=True))

        def run() -> None:
            request.start_async(share_inputs=True)
            request.wait()

        return run


@cache
def _core() -> Any:
    """The one Core of this process, never let go.

    Its CPU plugin gives the thread that compiles a signal stack of its own and frees it with the last Core, but leaves
    it in place (2026.4): the next signal, an interrupt from the keyboard for one, would then end the process with a
    segmentation fault.
    """
    import openvino

    return openvino.Core()


def _unshare_weights(graph: Any, library: Any) -> None:
    """Give every operator that reads a weight a copy of its own.

    OpenVINO 2026.4 keeps a weight in one layout for all its readers: a Conv and a ConvTranspose that share one, or the
    two Gemms of a layer and its gradient, then compute something else (relative error 0.1 to 1.4).
    """
    for node in graph.get_ops():
        readers = list(node.output(0).get_target_inputs()) if node.get_type_name() == "Constant" else []
        if len(readers) < 2 or len(node.output(0).get_shape()) < 2 or node.get_element_type().is_integral():
            continue
        for reader in readers[1:]:
            own = library.op.Constant(np.array(node.data), shared_memory=False)
            reader.replace_source_output(own.output(0))


def cpu_flags() -> set[str]:
    """Instruction sets of this processor as Linux names them; empty where Linux does not tell."""
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())


def _specs(port: Any) -> list[tuple[str, TensorSpec]]:
    shape = tuple(port.get_shape()) if port.get_partial_shape().is_static else ()
    dtype = port.get_element_type().to_dtype().name
    return [(name, TensorSpec(shape, dtype)) for name in port.get_names()]


BUILDER = OpenVinoBuilder()
