"""How far fp16 is from fp32, and from overflow, on a CPU: every fp16 tensor rounded (tests/export/passes/rounding.py).

    python -m tests.bench.half_precision NETWORK LAYER [--steps 1000] [--batch 2]

NETWORK is what `neuron-atlas` takes, or `resnet50-calibrated`: random convolutions whose BatchNorm statistics, and the
size of whose logits, come from photographs (`--images`), so that signals have about the sizes of a trained network; or
`squeezenet`, trained, from `--weights` (layers `fire9` and `scores`): its inputs reach 255 and nothing normalises them.
Gradients are compared at the codes of the fp16 ascent, so that differences do not add up.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import onnxruntime

from engine.slots import Job
from engine.start import start_code
from export.generator import Generator, resolve_generator
from export.judge_network import squeezenet_with_card
from export.manifest import StepGraph
from export.network import Network, load_network, resolve_network
from export.passes.precision import step_in
from export.step import compile_step
from export.update import Ascent
from pipeline.dataset.images import fitted, open_images
from tests.export.passes.rounding import rounding

Feeds = dict[str, Any]
LARGEST = 65504.0


def network_of(source: str, folder: Path, images: Path | None, weights: Path | None, residual: float) -> Network:
    """The network that SOURCE names; see the module."""
    if source == "resnet50-calibrated":
        if images is None:
            raise click.UsageError("resnet50-calibrated needs photographs; say where with --images")
        return resnet50_calibrated(folder, images, residual)
    if source == "squeezenet":
        if weights is None:
            raise click.UsageError("squeezenet needs its trained weights; say where with --weights")
        onnx.save(squeezenet_with_card(weights), folder / "squeezenet.onnx")
        return load_network(folder / "squeezenet.onnx")
    return resolve_network(source, cache=folder)


NUM_PHOTOGRAPHS = 32
LOGIT_STD = 2.5
"""Over classes, about that of torchvision's trained ResNet-50."""


def resnet50_calibrated(folder: Path, images: Path, residual: float) -> Network:
    """ResNet-50 at 224 px with data-dependent initial weights.

    He-normal convolutions; the BatchNorm statistics are those of photographs, averaged over batches of 16; the
    classifier is scaled so that logits spread as those of a trained network do. ``residual`` is the scale of the last
    BatchNorm of every block: 1 as torchvision begins; with less, a block adds less, as in networks whose training began
    with 0 (Goyal et al. 2017), and a small change grows less on its way.
    """
    import torch
    import torchvision

    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = torchvision.models.resnet50(weights=None)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # type: ignore[assignment]  # a plain average over batches
        if isinstance(module, torchvision.models.resnet.Bottleneck):
            torch.nn.init.constant_(module.bn3.weight, residual)
    photographs = open_images(images)
    chosen = photographs.order(0)[:NUM_PHOTOGRAPHS]
    pixels = np.stack([fitted(photographs.read(int(index)), 224, 224) for index in chosen])
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    normal = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - mean) / std
    with torch.no_grad():
        for part in normal.split(16):
            model.train()(part)
        spread = torch.cat([model.eval()(part) for part in normal.split(16)]).std(dim=1).mean()
        model.fc.weight *= LOGIT_STD / spread
    weights = folder / "resnet50.pt"
    torch.save(model.state_dict(), weights)
    return resolve_network("torchvision:resnet50", weights=weights, cache=folder)


class StepRun:
    """A model under ONNX Runtime; called with feeds, it returns its outputs by name."""

    def __init__(self, model: bytes, *, watch: bool = False) -> None:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1
        settings.log_severity_level = 3
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if watch:
            model = with_sizes(model)
        self._session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
        self.outputs = [o.name for o in self._session.get_outputs()]

    def __call__(self, feeds: Feeds) -> Feeds:
        return dict(zip(self.outputs, self._session.run(None, feeds), strict=True))


def with_sizes(model: bytes) -> bytes:
    """The model with the largest absolute value of every rounded tensor as an output ``NAME/size``.

    fp16's largest number itself does not count: a padded maximum is filled with it. What overflows is infinite.
    """
    proto = onnx.load_from_string(model)
    for name, value in (("filling", LARGEST), ("nothing", 0.0)):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(value), name))
    for name in [o for n in proto.graph.node for o in n.output if o.endswith("/up")]:
        for op, inputs, output in (
            ("Abs", [name], "abs"),
            ("Equal", [f"{name}/abs", "filling"], "filled"),
            ("Where", [f"{name}/filled", "nothing", f"{name}/abs"], "counted"),
        ):
            proto.graph.node.append(onnx.helper.make_node(op, inputs, [f"{name}/{output}"]))
        proto.graph.node.append(onnx.helper.make_node("ReduceMax", [f"{name}/counted"], [f"{name}/size"], keepdims=0))
        proto.graph.output.append(onnx.helper.make_tensor_value_info(f"{name}/size", onnx.TensorProto.FLOAT, []))
    data: bytes = proto.SerializeToString()
    return data


def start(graph: StepGraph, generator: Generator) -> Feeds:
    manifest = graph.manifest
    batch = manifest.batch
    rng = np.random.default_rng(0)
    feeds: Feeds = {"unit": rng.integers(0, manifest.num_units, batch)}
    for f in manifest.state:
        feeds[f.name] = np.full((batch, *f.shape), f.initial or 0, f.dtype)
    jobs = [Job(int(unit), seed) for seed, unit in enumerate(feeds["unit"])]
    feeds["code"] = np.stack([start_code(generator.prior, manifest.layer, job, 0.1) for job in jobs])
    return feeds


def advance(feeds: Feeds, outputs: Feeds) -> Feeds:
    return {name: outputs.get(f"{name}.next", value) for name, value in feeds.items()}


@click.command()
@click.argument("source")
@click.argument("layer")
@click.option("--steps", default=1000)
@click.option("--batch", default=2)
@click.option("--compare-every", default=25, help="Steps between comparisons with fp32.")
@click.option("--lr", default=0.3)
@click.option("--images", type=click.Path(path_type=Path, exists=True), help="Photographs, for resnet50-calibrated.")
@click.option("--residual", default=1.0, show_default=True, help="Of resnet50-calibrated, see there.")
@click.option("--weights", type=click.Path(path_type=Path, exists=True), help="Of squeezenet.")
def main(source: str, layer: str, steps: int, batch: int, compare_every: int, lr: float, **of_network: Any) -> None:
    """Print one JSON object."""
    with tempfile.TemporaryDirectory() as folder:
        generator = resolve_generator("bundled:lite0-hybrid", cache=Path(folder))
        network = network_of(source, Path(folder), **of_network)
        graph = compile_step(network, generator, layer, batch=batch, ascent=Ascent(steps=steps, lr=lr, jitter_px=4))
        lowered = step_in(graph.step, "fp16")
        full, half, watched = StepRun(graph.step), StepRun(rounding(lowered)), StepRun(rounding(lowered), watch=True)
    feeds = start(graph, generator)
    activation: list[float] = []
    size: list[float] = []
    angle: list[float] = []
    largest: dict[str, float] = {}
    for step in range(steps):
        outputs = half(feeds)
        bad = [
            name for name, value in outputs.items() if name != "best_activation.next" and not np.isfinite(value).all()
        ]
        if bad:
            raise SystemExit(f"step {step}: {', '.join(bad)} not finite")
        if step % compare_every == 0 or step == steps - 1:
            for name, value in watched(feeds).items():
                if name.endswith("/size"):
                    largest[name] = max(largest.get(name, 0.0), float(value))
            fresh = {n: np.zeros_like(v) if n.startswith("moment") else v for n, v in feeds.items()}
            a, b = full(fresh), half(fresh)
            activation += (np.abs(b["activation"] - a["activation"]) / np.abs(a["activation"])).tolist()
            size += np.abs(b["gradient"] / a["gradient"] - 1).tolist()
            g, h = a["moment1.next"], b["moment1.next"]
            angle += ((g * h).sum(1) / np.linalg.norm(g, axis=1) / np.linalg.norm(h, axis=1)).tolist()
        feeds = advance(feeds, outputs)
    reference = start(graph, generator)
    half_best = feeds["best_activation"].tolist()
    for _ in range(min(steps, 200)):
        reference = advance(reference, full(reference))
    name = max(largest, key=lambda n: largest[n])
    report = {
        "network": source, "layer": layer, "steps": steps, "batch": batch,
        "activation_relative_error": quantiles(activation),
        "gradient_size_relative_error": quantiles(size),
        "gradient_cosine": quantiles(angle),
        "largest_fp16_value": largest[name], "largest_fp16_tensor": name,
        "best_activation_fp16": half_best,
        f"best_activation_fp32_after_{min(steps, 200)}": reference["best_activation"].tolist(),
    }  # fmt: skip
    print(json.dumps(report, indent=1))


def quantiles(values: list[float]) -> dict[str, float]:
    return {name: float(np.quantile(values, q)) for name, q in (("min", 0), ("median", 0.5), ("max", 1))}


if __name__ == "__main__":
    main()
