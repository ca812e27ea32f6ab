"""ResNet-50 seen through the fc6 generator: our gradient graph against the one that onnx-ad makes, side by side.

    python tests/bench/against_onnx_ad.py [--layer fc] [--batch 8] [--rounds 5]

Both differentiate the same units with respect to the code, BatchNorm folded, with a cotangent of the layer's units;
both are run by ONNX Runtime with its optimisations, in turn. For a feature map ours is narrowed to the cone of its
centre, which onnx-ad has no word for. Prints compile time, nodes, size of the file and image-steps per second.
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

from export.cone import narrow
from export.cone.regions import shape_of, whole
from export.generator import load_generator
from export.generators.deepsim import CODE_DIM, randomised, save_generator
from export.network import resolve_network
from export.passes.batchnorm import fold_batchnorm
from export.passes.merge import merge_into
from export.passes.pads import fold_pads
from export.passes.shapes import infer_shapes
from export.step import cut_at
from export.vjp import append_gradient
from export.vjp.emit import Emitter

EDGE = (256 - 224) // 2


def forward(batch: int, folder: Path, layer: str, *, cone: bool) -> ir.Model:
    """code (batch, 4096) -> the layer's units (batch, C), at the centre of a feature map.

    The image is cropped to the network's 224; with ``cone`` everything is narrowed to what the centre sees.
    """
    network = resolve_network("torchvision:resnet50", cache=folder)
    if not (folder / "fc6.onnx").exists():
        save_generator(randomised(), folder / "fc6.onnx")
    prior, body = load_generator(folder / "fc6.onnx").model(batch), network.model(batch)
    info = network.layer(layer)
    cut_at(body, info.tensor)
    for model in (prior, body):
        fold_batchnorm(model)
        fold_pads(model)
    of, source, image = body.graph.outputs[0], body.graph.inputs[0], prior.graph.outputs[0]
    position = tuple(side // 2 for side in info.shape[1:])
    rows, columns = (EDGE, EDGE + 224), (EDGE, EDGE + 224)
    if cone and position:
        region = (*whole(shape_of(of))[:2], *((at, at + 1) for at in position))
        seen = narrow(body.graph, of, region, source)
        (top, bottom), (left, right) = seen[2:]
        part = ((EDGE + top, EDGE + bottom), (EDGE + left, EDGE + right))
        narrow(prior.graph, image, (*whole(shape_of(image))[:2], *part), prior.graph.inputs[0])
        rows, columns = ((0, end - start) for start, end in part)
        position = (0, 0)
    graph = prior.graph
    e = Emitter(graph, "view")
    crop = e.slice(e.slice(graph.outputs[0], 2, *rows), 3, *columns)
    seen_image = e.op("Mul", crop, e.const(np.full((1, 3, 1, 1), 1 / 58, np.float32)))
    units = merge_into(graph, body, "network", {str(source.name): seen_image})[info.tensor]
    if position:
        units = e.slice(e.slice(units, 2, position[0], position[0] + 1), 3, position[1], position[1] + 1)
    graph.outputs.clear()
    graph.outputs.append(e.op("Reshape", units, e.ints(batch, info.num_units)))
    graph.outputs[0].name = "units"
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
    made = onnx_ad.reverse(ir.to_proto(model), inputs=[code], outputs=["units"], layout="onnx")
    return made.SerializeToString(), {"cotangent": "adj_units", "gradient": f"adj_{code}"}


@click.command()
@click.option("--layer", default="fc", show_default=True)
@click.option("--batch", default=8, show_default=True)
@click.option("--rounds", default=5, show_default=True)
def main(layer: str, batch: int, rounds: int) -> None:
    """Print the two, and the ratios."""
    with tempfile.TemporaryDirectory() as folder:
        models = {name: forward(batch, Path(folder), layer, cone=name == "ours") for name in ("ours", "onnx-ad")}
    rng = np.random.default_rng(0)
    code = rng.uniform(0, 3, (batch, CODE_DIM)).astype(np.float32)
    cotangent = rng.normal(size=shape_of(models["ours"].graph.outputs[0])).astype(np.float32)
    sessions: dict[str, Any] = {}
    for name, make in (("ours", ours), ("onnx-ad", theirs)):
        nodes = len(list(models[name].graph))
        start = time.perf_counter()
        serialised, names = make(models[name])
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
