"""An ``onnxruntime`` with a GPU, whose device memory is numpy and whose execution is the real one on the CPU.

Strict where the real one is: tensors lie on the device or are refused, device memory is not zero at first, looking at a
tensor copies it, and with CUDA graphs the second run of an id replays the addresses of its first, whatever is bound.
How the real one behaves without a kernel or without its provider was seen with onnxruntime-gpu 1.31 on a machine
without a GPU.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime

from engine.ort import CPU_PROVIDER, CUDA_PROVIDER


class Illegal(Exception):
    """What would be undefined on a GPU: a bug, reported at once."""


class FakeValue:
    """An OrtValue in device memory."""

    made: list[FakeValue]

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        noise = np.random.default_rng(len(self.made)).integers(1, 255, int(np.prod(shape)) * np.dtype(dtype).itemsize)
        self.memory = noise.astype(np.uint8).view(dtype).reshape(shape)
        self.made.append(self)

    @classmethod
    def ortvalue_from_shape_and_type(cls, shape: Any, element_type: Any, device_type: str, device_id: int) -> FakeValue:
        if (device_type, device_id) != ("cuda", 0):
            raise Illegal(f"a tensor on {device_type} {device_id}")
        return cls(tuple(shape), element_type)

    @classmethod
    def ortvalue_from_numpy(cls, array: Any) -> FakeValue:
        raise Illegal("host memory is bound to a session on the GPU")

    def numpy(self) -> np.ndarray:
        return self.memory.copy()

    def update_inplace(self, data: np.ndarray) -> None:
        if data.shape != self.memory.shape or data.dtype != self.memory.dtype:
            raise Illegal(f"{data.dtype}{data.shape} into {self.memory.dtype}{self.memory.shape}")
        self.memory[...] = data


class FakeOrt:
    """Stands for the module.

    Attributes:
        without_kernel: operators that the GPU has no kernel for.
        provider_loads: whether the CUDA provider can be loaded.
        heeds: whether ``session.disable_cpu_ep_fallback`` is heeded.
        sessions: made, in order.
        values: every tensor made.
    """

    ExecutionMode, SessionOptions, RunOptions = (
        onnxruntime.ExecutionMode,
        onnxruntime.SessionOptions,
        onnxruntime.RunOptions,
    )

    def __init__(self) -> None:
        self.without_kernel: set[str] = set()
        self.provider_loads = self.heeds = True
        self.sessions: list[FakeSession] = []
        self.values: list[FakeValue] = []
        self.OrtValue = type("OrtValue", (FakeValue,), {"made": self.values})

    def InferenceSession(self, model: bytes, settings: Any, providers: Any, enable_fallback: int = 1) -> FakeSession:
        session = FakeSession(self, model, settings, providers, enable_fallback)
        self.sessions.append(session)
        return session

    def preload_dlls(self) -> None:
        if not self.provider_loads:
            print("Failed to load libcublasLt.so.13: cannot open shared object file\nPlease follow the instructions")


class FakeSession:
    """An InferenceSession."""

    def __init__(self, ort: FakeOrt, model: bytes, settings: Any, providers: Any, enable_fallback: int) -> None:
        assert enable_fallback == 0, "it would print, and go on with the CPU"
        [(name, self.settings)] = providers
        assert name == CUDA_PROVIDER
        quiet = onnxruntime.SessionOptions()
        quiet.intra_op_num_threads, quiet.log_severity_level = 1, settings.log_severity_level
        self._real = onnxruntime.InferenceSession(model, quiet, providers=[CPU_PROVIDER])
        self._nodes = [(node.op_type, node.name) for node in onnx.load_from_string(model).graph.node]
        self._without = ort.without_kernel if ort.provider_loads else {op for op, _ in self._nodes}
        self._loads, self._recorded = ort.provider_loads, _entry(settings, "session.record_ep_graph_assignment_info")
        left = any(op in self._without for op, _ in self._nodes)
        if left and ort.heeds and _entry(settings, "session.disable_cpu_ep_fallback") == "1":
            raise RuntimeError("This session contains graph nodes that are assigned to the default CPU EP")
        if left and self._loads and self.settings["enable_cuda_graph"] == "1":
            raise RuntimeError("This session cannot use the graph capture feature as requested by the user")
        self.captured: dict[str, FakeBinding] = {}

    def get_inputs(self) -> Any:
        return self._real.get_inputs()

    def get_outputs(self) -> Any:
        return self._real.get_outputs()

    def get_providers(self) -> list[str]:
        return [CUDA_PROVIDER, CPU_PROVIDER] if self._loads else [CPU_PROVIDER]

    def get_provider_graph_assignment_info(self) -> list[Any]:
        assert self._recorded == "1"
        parts: dict[str, list[Any]] = {}
        for op, name in self._nodes:
            provider = CPU_PROVIDER if op in self._without else CUDA_PROVIDER
            parts.setdefault(provider, []).append(SimpleNamespace(op_type=op, name=name))
        return [SimpleNamespace(ep_name=name, get_nodes=lambda n=nodes: n) for name, nodes in parts.items()]

    def io_binding(self) -> FakeBinding:
        return FakeBinding()

    def run_with_iobinding(self, binding: FakeBinding, options: Any) -> None:
        if self.settings["enable_cuda_graph"] != "1":
            self._run(binding)
            return
        key = _entry(options, "gpu_graph_id") or "0"
        if key in self.captured:
            self._run(self.captured[key])
            return
        for _ in range(2):  # to warm up, and to capture
            self._run(binding)
        self.captured[key] = binding

    def _run(self, binding: FakeBinding) -> None:
        feeds = {name: value.memory.copy() for name, value in binding.inputs.items()}
        names = list(binding.outputs)
        for name, result in zip(names, self._real.run(names, feeds), strict=True):
            binding.outputs[name].update_inplace(result)


class FakeBinding:
    """An IOBinding."""

    def __init__(self) -> None:
        self.inputs: dict[str, FakeValue] = {}
        self.outputs: dict[str, FakeValue] = {}

    def bind_ortvalue_input(self, name: str, value: FakeValue) -> None:
        self.inputs[name] = value

    def bind_ortvalue_output(self, name: str, value: FakeValue) -> None:
        self.outputs[name] = value


def _entry(options: Any, key: str) -> str:
    get = getattr(options, "get_session_config_entry", None) or options.get_run_config_entry
    try:
        return str(get(key))
    except RuntimeError:
        return ""
