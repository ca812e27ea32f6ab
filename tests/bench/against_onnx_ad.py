"""ResNet-50 seen through the fc6 generator: our gradient graph against the one that onnx-ad makes, side by side.

    python tests/bench/against_onnx_ad.py [--batch 8] [--rounds 5]

Both get the same forward graph (code -> logits, BatchNorm folded) and a cotangent of the logits; both are run by ONNX
Runtime with its optimisations, in turn. Prints compile time, nodes, memory of the file and image-steps per second.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import onnx_ad
import onnx_ir as ir
import onnxruntime

from export.generator import load_generator
from export.generators.deepsim import CODE_DIM, randomised, save_generator
from export.network import resolve_network
from export.passes.batchnorm import fold_batchnorm
from export.passes.merge import merge_into
from export.passes.pads import fold_pads
from export.passes.shapes import infer_shapes
from export.vjp import append_gradient
from export.vjp.emit import Emitter


def forward(batch: int, folder: Path) -> ir.Model:
    """code (batch, 4096) -> logits (batch, 1000); the image is cropped to the network's 224."""
    network = resolve_network("torchvision:resnet50", cache=folder)
    save_generator(randomised(), folder / "fc6.onnx")
    prior, body = load_generator(folder / "fc6.onnx").model(batch), network.model(batch)
    for part in (prior, body):
        fold_batchnorm(part)
        fold_pads(part)
    graph = prior.graph
    e = Emitter(graph, "view")
    image = graph.outputs[0]
    crop = e.op("Slice", image, e.ints(16, 16), e.ints(240, 240), e.ints(2, 3))
    seen = e.op("Mul", crop, e.const(np.full((1, 3, 1, 1), 1 / 58, np.float32)))
    logits = merge_into(graph, body, "network", {str(body.graph.inputs[0].name): seen})
    graph.outputs.clear()
    graph.outputs.append(next(v for v in logits.values() if v.shape == ir.Shape((batch, 1000))))
    graph.outputs[0].name = "logits"
    infer_shapes(prior)
    return prior


def ours(model: ir.Model) -> tuple[bytes, dict[str, str]]:
    of, code = model.graph.outputs[0], model.graph.inputs[0]
    cotangent = ir.Value(name="cotangent", type=of.type, shape=of.shape)
    model.graph.inputs.append(cotangent)
    (gradient,) = append_gradient(model.graph, of, [code], cotangent)
    gradient.name = "d_code"
    model.graph.outputs.append(gradient)
    return ir.to_proto(model).SerializeToString(), {"cotangent": "cotangent", "gradient": "d_code"}


def theirs(model: ir.Model) -> tuple[bytes, dict[str, str]]:
    code = str(model.graph.inputs[0].name)
    made = onnx_ad.reverse(ir.to_proto(model), inputs=[code], outputs=["logits"], layout="onnx")
    return made.SerializeToString(), {"cotangent": "adj_logits", "gradient": f"adj_{code}"}


@click.command()
@click.option("--batch", default=8, show_default=True)
@click.option("--rounds", default=5, show_default=True)
def main(batch: int, rounds: int) -> None:
    """Print the two, and the ratios."""
    with tempfile.TemporaryDirectory() as folder:
        model = forward(batch, Path(folder))
    nodes = len(list(model.graph))
    rng = np.random.default_rng(0)
    code = rng.uniform(0, 3, (batch, CODE_DIM)).astype(np.float32)
    cotangent = rng.normal(size=(batch, 1000)).astype(np.float32)
    sessions: dict[str, Any] = {}
    for name, make in (("ours", ours), ("onnx-ad", theirs)):
        start = time.perf_counter()
        serialised, names = make(model.clone())
        took = time.perf_counter() - start
        total = len(onnx.load_from_string(serialised).graph.node)
        session = onnxruntime.InferenceSession(serialised, providers=["CPUExecutionProvider"])
        seed = cotangent if name == "ours" else cotangent[..., None]
        feeds = {session.get_inputs()[0].name: code, names["cotangent"]: seed}
        sessions[name] = (session, names["gradient"], feeds)
        size = f"{len(serialised) >> 20} MiB"
        print(f"{name:8} compiled in {took:5.1f} s: {nodes} forward nodes, {total - nodes} more, {size}")
    gradients, times = {}, {name: [] for name in sessions}
    for turn in range(rounds + 1):
        for name, (session, output, feeds) in sessions.items():
            start = time.perf_counter()
            (gradients[name],) = session.run([output], feeds)
            if turn:
                times[name].append(time.perf_counter() - start)
    a, b = gradients["ours"], gradients["onnx-ad"].reshape(batch, -1)
    print(f"they differ by {np.linalg.norm(a - b) / np.linalg.norm(b):.1e} (L2, relative)")
    for name, spent in times.items():
        low, high = min(spent), max(spent)
        print(
            f"{name:8} {batch / statistics.median(spent):6.2f} image-steps/s ({batch / high:.2f} to {batch / low:.2f})"
        )
    ratios = [y / x for x, y in zip(times["ours"], times["onnx-ad"], strict=True)]
    print(f"ours is {statistics.median(ratios):.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
