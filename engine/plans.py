"""ONNX to a serialised TensorRT engine (a *plan*), with the module that is given: ``tensorrt`` or ``tensorrt_rtx``.

TensorRT for RTX builds for a named architecture without a GPU, which is how these builds are checked; TensorRT builds
for the GPU that is there. Types are those of the graph; TF32 is off, so that fp32 is fp32. Rows of reductions and of
batched products are computed alike, as far as TensorRT promises it (distributive independence; it says nothing of
convolutions), since a job's bytes must not depend on its slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.plan_cache import write_whole
from export.errors import EngineError

ADVICE = (
    ("out of memory", "use a smaller batch, or precision fp16"),
    ("outofmemory", "use a smaller batch, or precision fp16"),
    ("insufficient memory", "use a smaller batch, or precision fp16"),
    ("insufficient driver", "update the NVIDIA driver"),
    ("no cuda-capable device", "run it where there is a GPU, or name a target architecture with tensorrt_rtx"),
    ("cuda initialization failure", "check the NVIDIA driver with nvidia-smi"),
    ("compute capability", "name an architecture this TensorRT supports"),
    ("could not find any implementation", "run the layer with another precision or runtime"),
)
TIMING_CACHE = "timing.cache"


def log_of(trt: Any) -> Any:
    """A logger for ``trt`` that keeps the errors it is told, as ``messages``, and lets the rest go."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.messages: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity.value <= trt.ILogger.Severity.ERROR.value:
                self.messages.append(message.strip())

    return Log()


def architectures(trt: Any) -> list[str]:
    """Names of the architectures that can be targeted without a GPU: ``SM80``, ...; none with ``tensorrt``."""
    if trt.__name__ != "tensorrt_rtx":
        return []
    return [name for name in trt.ComputeCapability.__members__ if name.startswith("SM")]


def build_plan(trt: Any, model: bytes, what: str, *, target: str | None = None, cache: Path | None = None) -> bytes:
    """Build a plan.

    Args:
        trt: the module.
        model: serialised ONNX with static shapes.
        what: ``step`` or ``decode``, for messages.
        target: architecture such as ``SM89``; None for the GPU that is there.
        cache: folder of the timing cache, with ``tensorrt``.

    Raises:
        EngineError: the graph was refused or the build failed; the message has the node, the cause and the remedy.
    """
    log = log_of(trt)
    builder = trt.Builder(log)
    flags = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flags is None else 1 << int(flags))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model):
        raise EngineError(_refusal(trt, what, [parser.get_error(i) for i in range(parser.num_errors)]))
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    config.set_flag(trt.BuilderFlag.DISTRIBUTIVE_INDEPENDENCE)
    if target is not None:
        _set_target(trt, config, target)
    timing = _timing_cache(trt, config, cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(failure(trt, f"could not build the {what} graph", log.messages))
    measured = config.get_timing_cache() if timing is not None else None
    if timing is not None and measured is not None:
        write_whole(timing, bytes(measured.serialize()))
    return bytes(plan)


def failure(trt: Any, what: str, messages: Sequence[str]) -> str:
    """A sentence of what failed, the first cause TensorRT logged, and the remedy."""
    cause = next((m for m in messages if m), "its log is empty")
    known = [remedy for sign, remedy in ADVICE if any(sign in m.lower() for m in messages)]
    remedy = known[0] if known else "compile the layer again or use another runtime"
    return f"{trt.__name__} {trt.__version__} {what}: {' '.join(cause.split())[:400]}; {remedy}"


def _refusal(trt: Any, what: str, errors: Sequence[Any]) -> str:
    nodes = [
        f"{e.node_operator()} {e.node_name()!r}: {' '.join(e.desc().split())[:200]}"
        for e in errors
        if e.node_operator()
    ]
    listing = "; ".join(nodes) or "; ".join(" ".join(e.desc().split())[:200] for e in errors) or "it is no ONNX model"
    return (
        f"{trt.__name__} {trt.__version__} refuses the {what} graph: {listing}; compile it again or use another runtime"
    )


def _set_target(trt: Any, config: Any, target: str) -> None:
    known = architectures(trt)
    if target not in known:
        able = ", ".join(known) if known else "none: it builds for the GPU that is there"
        raise EngineError(f"{trt.__name__} cannot build for {target!r}; it can for: {able}")
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, target), 0)


def _timing_cache(trt: Any, config: Any, folder: Path | None) -> Path | None:
    """Give the build what earlier builds have measured; TensorRT for RTX measures nothing."""
    if folder is None or trt.__name__ == "tensorrt_rtx":
        return None
    path = folder / TIMING_CACHE
    for known in (path.read_bytes() if path.exists() else b"", b""):
        made = config.create_timing_cache(known)
        if made is not None and config.set_timing_cache(made, False):
            return path
    return None  # not even an empty one; the build measures for itself
