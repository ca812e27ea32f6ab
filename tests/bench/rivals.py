"""One row of ``make bench`` as a process: builds one way to take ascent steps, then takes one for every line it reads.

    python -m tests.bench.rivals ROW WORKLOAD LAYER [--batch 8]

Prints ``ready SECONDS`` once it is built and warm, then for each line of its input ``step SECONDS IMAGES``, and at the
end ``peak BYTES``. Every row computes the same step for the same units: generator, view, network cut at the layer,
gradient with respect to the code, normalised ascent, clip, decay. The rivals get the forward graph that we compile,
with BatchNorm folded, as plain PyTorch operators or as ONNX; they do not get the cone, which no rival has.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx

from engine.runtimes import get_builder
from export.generator import Declared, Generator, load_generator, resolve_generator
from export.manifest import StepGraph
from export.models import ASSETS
from export.network import Network, load_network, resolve_network
from export.prior import CodePrior
from export.step import compile_step
from export.update import Ascent

CACHE = Path("build") / "bench"
BOX = {"kind": "box", "low": 0}
"""The published program's, instead of the bundled generator's own prior."""
PUBLISHED = Ascent(kind="normalized", steps=200, lr=0.3, lr_end=1e-10)

Step = Callable[[], None]


def workload(name: str) -> tuple[Network, Generator, str]:
    """Network, generator, and how the image meets the network."""
    if name == "lite0":
        generator = resolve_generator("bundled:lite0-hybrid", declared=Declared(prior=BOX))
        return load_network(ASSETS / "lite0.onnx"), generator, "resize"
    file = CACHE / "fc6.onnx"
    if not file.exists():
        from export.generators.deepsim import randomised, save_generator

        CACHE.mkdir(parents=True, exist_ok=True)
        save_generator(randomised(), file)
    return resolve_network("torchvision:resnet50", cache=CACHE), load_generator(file), "crop"


def step_graph(
    name: str,
    layer: str,
    batch: int,
    ascent: Ascent = PUBLISHED,
    *,
    cone: bool = True,
    opened: tuple[Network, Generator, str] | None = None,
) -> StepGraph:
    network, generator, fit = opened or workload(name)
    return compile_step(network, generator, layer, batch=batch, ascent=replace(ascent, fit=fit), cone=cone)


def forward_model(name: str, layer: str, batch: int) -> onnx.ModelProto:
    """``code`` (batch, D) and ``unit`` (batch,) -> ``activation`` (batch,)."""
    model = onnx.load_from_string(step_graph(name, layer, batch, cone=False).step)
    return onnx.utils.Extractor(model).extract_model(["code", "unit"], ["activation"])


def ours(runtime: str, name: str, layer: str, batch: int, threads: int) -> tuple[Step, int]:
    runner = get_builder(runtime).build(
        step_graph(name, layer, max(1, batch // threads)), {"threads": threads, "lanes": threads}
    )
    units = np.arange(runner.num_slots) % runner.manifest.num_units
    runner.fill(range(runner.num_slots), units.tolist(), start(name, runner.num_slots))
    return lambda: runner.step(1), runner.num_slots


def with_torch(kind: str, name: str, layer: str, batch: int, threads: int) -> tuple[Step, int]:
    import onnx_ir as ir
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    from export.sources import torch_import
    from export.sources.operators.table import OPERATORS

    def resize(node: ir.Node, x: Any, roi: Any = None, scales: Any = None, sizes: Any = None) -> Any:
        """PyTorch's own: the oracle's, which is a matrix product, would slow the rivals down."""
        assert node.attributes["mode"].value == "nearest"
        return torch.nn.functional.interpolate(x, scale_factor=scales.detach().numpy()[2:].tolist(), mode="nearest")

    OPERATORS["Resize"] = resize
    torch.set_num_threads(threads)
    batch = 1 if kind == "published" else batch
    model = ir.from_proto(forward_model(name, layer, batch))
    dtype = torch.bfloat16 if "bf16" in kind else torch.float32
    unit = torch.arange(batch)
    code = torch.from_numpy(start(name, batch))
    weights = {n: torch.from_numpy(np.array(v.const_value.numpy())) for n, v in model.graph.initializers.items()}
    forward = make_fx(lambda c, u: torch_import.run_torch(model, {**weights, "code": c, "unit": u})["activation"])(
        code, unit
    )
    if dtype != torch.float32:
        forward = forward.to(dtype)
        for attribute, value in list(vars(forward).items()):
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                setattr(forward, attribute, value.to(dtype))
    prior: CodePrior = workload(name)[1].prior
    low, high, decay = (torch.from_numpy(x) for x in (prior.low, prior.high, prior.decay))

    def step(code: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
        code = code.detach().requires_grad_(True)
        activation = forward(code.to(dtype), unit)
        (gradient,) = torch.autograd.grad(activation.sum(), code)
        moved = code + rate * gradient / gradient.abs().mean(1, keepdim=True).clamp(min=1e-30)
        return torch.minimum(torch.maximum(moved, low), high).detach() * decay

    run = torch.compile(step) if kind.startswith("torch-compile") else step
    state = [code]
    rate = torch.tensor(PUBLISHED.lr)

    def once() -> None:
        state[0] = run(state[0], rate)

    return once, batch


def with_onnx_ad(name: str, layer: str, batch: int, threads: int) -> tuple[Step, int]:
    import onnx_ad
    import onnxruntime

    made = onnx_ad.reverse(forward_model(name, layer, batch), inputs=["code"], outputs=["activation"], layout="onnx")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(made.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    prior, state = workload(name)[1].prior, [start(name, batch)]
    feeds = {"unit": np.arange(batch), "adj_activation": np.ones((batch, 1), np.float32)}

    def once() -> None:
        _, gradient = session.run(["activation", "adj_code"], {**feeds, "code": state[0]})
        gradient = gradient.reshape(batch, -1)
        size = np.maximum(np.abs(gradient).mean(1, keepdims=True), 1e-30)
        state[0] = np.clip(state[0] + np.float32(PUBLISHED.lr) * gradient / size, prior.low, prior.high) * prior.decay

    return once, batch


def start(name: str, count: int) -> np.ndarray:
    prior = workload(name)[1].prior
    noise = np.random.default_rng(0).normal(size=(count, prior.code_dim))
    return np.clip(prior.mean + 0.1 * prior.std * noise, prior.low, prior.high).astype(np.float32)


def build(row: str, name: str, layer: str, batch: int, threads: int) -> tuple[Step, int]:
    if row == "onnx-ad":
        return with_onnx_ad(name, layer, batch, threads)
    if row in ("onnxruntime", "openvino"):
        return ours(row, name, layer, batch, threads)
    return with_torch(row, name, layer, batch, threads)


@click.command()
@click.argument("row")
@click.argument("name")
@click.argument("layer")
@click.option("--batch", default=8)
@click.option("--threads", default=2)
def main(row: str, name: str, layer: str, batch: int, threads: int) -> None:
    """Serve steps."""
    begun = time.perf_counter()
    step, images = build(row, name, layer, batch, threads)
    step()
    print(f"ready {time.perf_counter() - begun}", flush=True)
    for _ in sys.stdin:
        begun = time.perf_counter()
        step()
        print(f"step {time.perf_counter() - begun} {images}", flush=True)
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}", flush=True)


if __name__ == "__main__":
    main()
