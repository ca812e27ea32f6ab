"""ONNX Runtime sessions on fixed tensors: on the CPU, or on a CUDA device.

ONNX Runtime gives way to the CPU without an error: where the CUDA provider cannot be loaded, and for every node that it
has no kernel for. Here neither passes: a session runs wholly where it was asked to, or it is not made.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.checks import TensorSpec
from engine.protocol import Array
from export.errors import EngineError

PACKAGES = ("onnxruntime", "onnxruntime-gpu")
DTYPES = {"tensor(float)": "float32", "tensor(int64)": "int64", "tensor(bool)": "bool", "tensor(int32)": "int32"}
ERRORS_ONLY = 3
CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"


@dataclass(frozen=True)
class Place:
    """Where sessions run.

    Attributes:
        provider: ONNX Runtime's name of it.
        device: what its tensors lie on, as OrtValue calls it; the first such device.
        settings: of the provider.
    """

    provider: str = CPU_PROVIDER
    device: str = "cpu"
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def graphs(self) -> bool:
        """Whether runs are captured as CUDA graphs."""
        return self.settings.get("enable_cuda_graph") == "1"


def cuda_place(*, graphs: bool) -> Place:
    """The first visible GPU.

    TF32 is off, so that fp32 is fp32. Convolution algorithms are chosen by rule: the default, to time them, chooses
    another when the clock says so, and then the same recipe gives other bytes.
    """
    settings = {
        "device_id": "0",
        "enable_cuda_graph": str(int(graphs)),
        "use_tf32": "0",
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
    }
    return Place(CUDA_PROVIDER, "cuda", settings)


class OrtMemory:
    """Tensors as OrtValues on a device, see :class:`engine.memory.Memory`; every look is a copy."""

    def __init__(self, library: Any, place: Place) -> None:
        self._library, self._place = library, place

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Any:
        """See :meth:`engine.memory.Memory.zeros`."""
        make = self._library.OrtValue.ortvalue_from_shape_and_type
        tensor = make(list(shape), np.dtype(dtype).type, self._place.device, 0)
        self.write(tensor, np.zeros(shape, dtype))
        return tensor

    def read(self, tensor: Any) -> npt.NDArray[Any]:
        """See :meth:`engine.memory.Memory.read`."""
        return np.array(tensor.numpy())

    def write(self, tensor: Any, content: Array) -> None:
        """See :meth:`engine.memory.Memory.write`."""
        tensor.update_inplace(np.ascontiguousarray(content))


class OnnxRuntimeModel:
    """A session and its bindings; see :class:`engine.host.HostModel`. On the CPU bindings may run side by side.

    Args:
        model: serialised.
        what: for messages.
        threads: of one run, 0 for all cores.
        place: where it runs.
        library: the module ``onnxruntime``, imported unless given.

    Raises:
        EngineError: ONNX Runtime refuses the model, or cannot run all of it there.
    """

    def __init__(self, model: bytes, what: str, threads: int, place: Place = Place(), library: Any = None) -> None:
        self._library: Any = library or importlib.import_module("onnxruntime")
        self._place, self._what = place, what
        self._num_bound = 0
        self._session = self._open(model, threads)
        self.inputs = {node.name: _spec(node) for node in self._session.get_inputs()}
        self.outputs = {node.name: _spec(node) for node in self._session.get_outputs()}

    def bind(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Callable[[], None]:
        """See :meth:`engine.host.HostModel.bind`; tensors are arrays in host memory or those of an OrtMemory.

        Every binding is a CUDA graph of its own: a graph replays the addresses with which it was captured. The first
        run of a binding runs it twice, to warm up and to capture; no output is an input of the same binding, so that
        this changes nothing.
        """
        binding = self._session.io_binding()
        for name, tensor in inputs.items():
            binding.bind_ortvalue_input(name, self._value(tensor))
        for name, tensor in outputs.items():
            binding.bind_ortvalue_output(name, self._value(tensor))
        self._num_bound += 1
        options = self._library.RunOptions()
        if self._place.graphs:
            options.add_run_config_entry("gpu_graph_id", str(self._num_bound))
        session = self._session
        return lambda: session.run_with_iobinding(binding, options)

    def _value(self, tensor: Any) -> Any:
        kind = self._library.OrtValue
        return kind.ortvalue_from_numpy(tensor) if isinstance(tensor, np.ndarray) else tensor

    def _open(self, model: bytes, threads: int) -> Any:
        place, settings = self._place, self._settings(threads)
        if place.provider != CPU_PROVIDER:
            settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        loading = load_libraries(self._library, place)
        try:
            session = self._library.InferenceSession(
                model, settings, providers=[(place.provider, dict(place.settings))], enable_fallback=0
            )
        except Exception as error:
            reason = self._not_there(model, threads, loading) if place.provider != CPU_PROVIDER else ""
            if reason:
                raise EngineError(f"ONNX Runtime cannot run the {self._what} graph on the GPU: {reason}") from error
            raise EngineError(
                f"ONNX Runtime refuses the {self._what} graph; compile it again or use another runtime: {error}"
            ) from error
        if place.provider not in session.get_providers():
            raise EngineError(
                f"ONNX Runtime cannot run the {self._what} graph on the GPU: {self._no_provider(loading)}"
            )
        return session

    def _settings(self, threads: int) -> Any:
        settings = self._library.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.inter_op_num_threads = 1
        settings.execution_mode = self._library.ExecutionMode.ORT_SEQUENTIAL
        settings.use_deterministic_compute = True
        settings.log_severity_level = ERRORS_ONLY
        # A spinning worker wins microseconds per operator and takes a whole core from every other process.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return settings

    def _not_there(self, model: bytes, threads: int, loading: str) -> str:
        """Why a session cannot run wholly on its provider, empty if that is not why it was refused."""
        settings = self._settings(threads)
        settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        place = self._place
        eager = {**place.settings, "enable_cuda_graph": "0"}
        try:
            session = self._library.InferenceSession(
                model, settings, providers=[(place.provider, eager)], enable_fallback=0
            )
        except Exception:
            return ""
        if place.provider not in session.get_providers():
            return self._no_provider(loading)
        others = [
            f"{node.op_type} {node.name!r}" if node.name else str(node.op_type)
            for part in session.get_provider_graph_assignment_info()
            if part.ep_name != place.provider
            for node in part.get_nodes()
        ]
        if not others:
            return ""
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        return f"it has no kernel there for {', '.join(others[:5])}{more}; use runtime tensorrt, or one on the CPU"

    def _no_provider(self, loading: str) -> str:
        cause = f" ({loading})" if loading else ""
        return (
            f"its CUDA provider could not be loaded{cause}; run `pip install neuron-atlas[gpu]`, which brings its CUDA "
            "libraries, and see whether nvidia-smi finds the driver"
        )


def load_libraries(library: Any, place: Place) -> str:
    """Load CUDA and cuDNN from their Python packages, which ONNX Runtime does not find by itself.

    Returns:
        What it said, in one line: empty where all is well.
    """
    if place.provider != CUDA_PROVIDER or not hasattr(library, "preload_dlls"):
        return ""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        library.preload_dlls()
    return "; ".join(line.strip() for line in said.getvalue().splitlines() if "Failed" in line)


def installed_versions() -> dict[str, str]:
    """Version of each installed package that provides ``onnxruntime``."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def package_conflict(versions: Mapping[str, str]) -> str:
    """What is wrong with the installed packages, and the remedy; empty if nothing is."""
    if len(versions) < 2:
        return ""
    return (
        "onnxruntime and onnxruntime-gpu are both installed and overwrite each other; run "
        "`pip uninstall onnxruntime onnxruntime-gpu`, then install the one you want again"
    )


def _spec(node: Any) -> TensorSpec:
    return TensorSpec(tuple(node.shape), DTYPES.get(node.type, node.type))
