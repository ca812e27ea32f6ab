"""The Builder of both TensorRT libraries: precision, plan from the cache or built, engines, runner."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from engine.cuda.buffers import Scratch, Stream
from engine.cuda.device import Cuda, load_cuda, why_no_gpu
from engine.cuda.engine import CudaEngine
from engine.cuda.runner import CudaRunner
from engine.host import chosen_precision, num_lanes, num_threads
from engine.plan_cache import PlanCache, PlanKey
from engine.plans import build_plan, failure, log_of
from engine.protocol import Availability, Runner
from export.errors import EngineError, ModelError
from export.manifest import StepGraph

PLANS = Path("build") / "engines"
"""Where plans are kept unless told."""


class TensorRtBuilder:
    """Makes TensorRT engines for the first visible GPU; fp32 unless told."""

    device = "gpu"

    def __init__(
        self,
        name: str,
        extra: str,
        rank: int,
        load: Callable[[str], Any] = importlib.import_module,
        cuda: Callable[[], Cuda] = load_cuda,
        no_gpu: Callable[[], str] = why_no_gpu,
    ) -> None:
        """``name`` is the module's; ``load``, ``cuda`` and ``no_gpu`` are replaced by tests."""
        self.name, self.rank = name, rank
        self._extra, self._load, self._cuda, self._no_gpu = extra, load, cuda, no_gpu

    def availability(self) -> Availability:
        """See :meth:`engine.protocol.Builder.availability`."""
        try:
            version = metadata.version(self.name)
        except metadata.PackageNotFoundError:
            version = ""
        if not version or importlib.util.find_spec(self.name) is None:
            return Availability(False, f"{self.name} is not installed; run `pip install neuron-atlas[{self._extra}]`")
        reason = self._no_gpu()
        if reason:
            return Availability(False, reason)
        return Availability(True, f"{version}, GPU ({', '.join(self.precisions())})")

    def precisions(self) -> Sequence[str]:
        return ("fp32", "fp16", "bf16")

    def build(self, graph: StepGraph, options: Mapping[str, object]) -> Runner:
        """See :meth:`engine.protocol.Builder.build`.

        A runner ``beside`` which this one is built shares its stream and its scratch memory with it. Further options:
        ``engine_cache`` (path of the plans' folder), ``graphs`` (bool, CUDA graphs, on unless told).
        """
        num_threads(options)
        num_lanes(options)  # one GPU runs one batch at a time: a single lane, whatever is asked for
        precision = chosen_precision(options, self.precisions(), self.name)
        state = self.availability()
        if not state.ok:
            raise EngineError(f"{self.name} cannot start: {state.detail}")
        from export.passes.precision import step_in

        trt, cuda = self._load(self.name), self._cuda()
        cache = PlanCache(Path(str(options.get("engine_cache", PLANS))))
        try:
            step = step_in(graph.step, precision)
        except ModelError as error:
            raise EngineError(str(error)) from error
        engines = [
            self._engine(trt, model, f"{what} of {graph.manifest.layer}, {precision}", what, cache, device_of(cuda))
            for model, what in ((step, "step"), (graph.decode, "decode"))
        ]
        beside = options.get("beside")
        shared = beside.scratch if isinstance(beside, CudaRunner) and beside.scratch.users else None
        scratch = shared or Scratch(Stream(cuda))
        graphs = bool(options.get("graphs", True))
        return CudaRunner(self.name, graph.manifest, engines[0], engines[1], scratch, graphs=graphs)

    def _engine(self, trt: Any, model: bytes, about: str, what: str, cache: PlanCache, device: str) -> CudaEngine:
        key = PlanKey.of(model, self.name, trt.__version__, device)
        log = log_of(trt)
        runtime = trt.Runtime(log)
        plan = cache.get(key)
        if plan is not None:
            engine = runtime.deserialize_cuda_engine(plan)
            if engine is not None:
                return CudaEngine(trt, engine, runtime, log.messages)
            cache.drop(key)
        plan = build_plan(trt, model, what, cache=cache.folder)
        cache.put(key, plan, about)
        log.messages.clear()
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise EngineError(failure(trt, f"cannot load the {what} engine it has just built", log.messages))
        return CudaEngine(trt, engine, runtime, log.messages)


def device_of(cuda: Cuda) -> str:
    """Architecture and name of the current GPU, such as ``SM89 NVIDIA L4``."""
    number = cuda.call("cudaGetDevice")
    properties = cuda.call("cudaGetDeviceProperties", number)
    name = properties.name.decode() if isinstance(properties.name, bytes) else str(properties.name)
    return f"SM{properties.major}{properties.minor} {name}"
