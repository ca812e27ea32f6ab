"""Which step graphs ONNX Runtime would run wholly on a GPU, asked of its CUDA provider without one: `make ort-check`.

    python -m tests.bench.ort_check [--network NAME] [--layer LAYER] [--generator fc6] [--precision fp16]

The package onnxruntime-gpu lies in build/onnxruntime-gpu, where it does not disturb the one that is installed; the CUDA
libraries are stubs (stub_cuda.py). Each graph is loaded as the runtime `onnxruntime_cuda` loads it, with CUDA graphs
and without a way back to the CPU. Nothing is computed. First the runner's way through the bindings is walked, on a
graph without convolutions: two directions of the step and the decoder must be captured once each and launched after.
Results go to build/ort-check.json; what is there is not asked again unless --again. The last line is
`taken N, refused M`.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click

from engine.ort import ERRORS_ONLY
from export.errors import AtlasError
from export.manifest import StepGraph
from export.network import resolve_network
from export.step import compile_step
from export.update import Ascent
from tests.bench.stub_cuda import load_stubs
from tests.bench.trt_check import CACHE, DEFAULT, GENERATORS, NETWORKS, generator_of
from tests.engine.graphs import Mlp

FOLDER = Path("build") / "onnxruntime-gpu"
REPORT = Path("build") / "ort-check.json"
PRECISIONS = ("fp32", "fp16")


def builder() -> Any:
    """The runtime, told that its package is installed: it lies in FOLDER."""
    from engine.runtimes.onnxruntime_cuda import OnnxRuntimeCudaBuilder

    return OnnxRuntimeCudaBuilder(installed=lambda: {"onnxruntime-gpu": "in build/"}, no_gpu=lambda: "")


def walk(runtime: Any) -> str:
    """Fill, step, refill and decode; how often CUDA graphs were captured and launched."""
    mlp = Mlp.random(code_dim=8, num_units=2)
    with builder().build(mlp.graph(2), {"threads": 1}) as runner:
        codes = runner.codes([0, 1])
        for _ in range(2):
            runner.fill([0, 1], [0, 1], codes)
            runner.step(5)
            runner.fill([1], [0], codes[:1])
            runner.step(2)
            runner.decode(codes)
    counts = [count_of(runtime, name) for name in ("captures", "launches")]
    assert counts[0] == 3, f"captured {counts[0]} times, not once for each direction and once for the decoder"
    return f"captured {counts[0]} graphs, launched {counts[1]} times"


def count_of(runtime: Any, name: str) -> int:
    """A counter of the stub."""
    return int(ctypes.c_int.in_dll(runtime, name).value)


def compiled(source: str, kind: str, layer: str, batch: int) -> StepGraph:
    """A step graph. In a process of its own: PyTorch does not load beside stubs of CUDA."""
    generator = generator_of(kind, CACHE)
    ascent = Ascent(fit="crop" if generator.image_px == 256 else "resize", jitter_px=2)
    return compile_step(resolve_network(source, cache=CACHE), generator, layer, batch=batch, ascent=ascent)


def ask(graph: StepGraph, precision: str) -> dict[str, Any]:
    began = time.monotonic()
    try:
        builder().build(graph, {"precision": precision, "threads": 1}).__exit__(None, None, None)
    except AtlasError as error:
        return {"taken": False, "error": str(error)}
    return {"taken": True, "seconds": round(time.monotonic() - began, 1)}


@click.command()
@click.option("--network", "networks", multiple=True, type=click.Choice(list(NETWORKS)), default=list(NETWORKS))
@click.option("--layer", "only", multiple=True, help="Only these layers; otherwise all that are listed.")
@click.option("--generator", "generators", multiple=True, type=click.Choice(list(GENERATORS)), default=DEFAULT)
@click.option("--precision", "precisions", multiple=True, type=click.Choice(PRECISIONS), default=PRECISIONS)
@click.option("--batch", default=2, show_default=True)
@click.option("--again", is_flag=True, help="Ask also for what the report has.")
def main(**options: Any) -> None:
    """Ask for all of them."""
    provider = FOLDER / "onnxruntime" / "capi" / "libonnxruntime_providers_cuda.so"
    if not provider.exists():
        raise click.UsageError(f"{provider} is missing; `make ort-check` puts it there")
    with ProcessPoolExecutor(1, get_context("spawn")) as apart:
        apart.submit(int).result()  # it starts here, before the libraries that it must not see
        runtime = load_stubs(provider, Path("build") / "stub-cuda")
        sys.path.insert(0, str(FOLDER.resolve()))
        ask_all(runtime, apart, options)


def ask_all(runtime: Any, apart: Executor, options: dict[str, Any]) -> None:
    """The walk, then every step graph; ends the program."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(ERRORS_ONLY)
    assert "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    click.echo(f"onnxruntime-gpu {onnxruntime.__version__}: {walk(runtime)}")
    rows: dict[str, Any] = json.loads(REPORT.read_text()) if REPORT.exists() and not options["again"] else {}
    wanted = []
    for name in options["networks"]:
        source, layers = NETWORKS[name]
        for kind in options["generators"]:
            for layer in (layer for layer in layers if layer in options["only"] or not options["only"]):
                keys = {precision: f"{name} {layer} {kind} {precision}" for precision in options["precisions"]}
                wanted += keys.values()
                if all(key in rows for key in keys.values()):
                    continue
                graph = apart.submit(compiled, source, kind, layer, options["batch"]).result()
                for precision, key in keys.items():
                    rows[key] = ask(graph, precision)
                    click.echo(f"{'taken' if rows[key]['taken'] else 'refused'} {key} {rows[key].get('error', '')}")
                REPORT.parent.mkdir(exist_ok=True)
                REPORT.write_text(json.dumps(rows, indent=1, sort_keys=True))
    found = [rows[key] for key in wanted]
    taken = sum(row["taken"] for row in found)
    click.echo(f"taken {taken}, refused {len(found) - taken}")
    raise SystemExit(int(taken < len(found)))


if __name__ == "__main__":
    main()
