"""What the cone saves, by count of multiply-additions, per layer: network and generator, forward.

    python tests/bench/cone.py [torchvision:resnet50]

The backward pass has the same products as the forward pass, so the ratio holds for the whole step. Layers are the
network's convolutions; the mean is over channels, each of which is a job.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import onnx_ir as ir

from export.arithmetic import multiply_additions
from export.cone import Cone
from export.cone.regions import whole
from export.generator import Generator, load_generator
from export.generators.deepsim import randomised, save_generator
from export.network import LayerInfo, Network, resolve_network
from export.passes.batchnorm import fold_batchnorm
from export.passes.pads import fold_pads
from export.step import cut_at, position_region
from export.view import make_view


def counts(
    network: Network, model: ir.Model, generator: Generator, prior: ir.Model, layer: LayerInfo
) -> tuple[int, int]:
    """(full, cone) multiply-additions of one image forward."""
    card = network.card.input
    view = make_view(generator.image_px, card.height, card.width, fit="crop", jitter_px=0, steps=1)
    body, image = model.clone(), prior.clone()
    cut_at(body, layer.tensor)
    full = multiply_additions(body.graph) + multiply_additions(image.graph)
    of, source = body.graph.outputs[0], body.graph.inputs[0]
    region = position_region(of, (layer.shape[1] // 2, layer.shape[2] // 2))
    seen = Cone(body.graph, of, region)
    seen.narrow(source)
    _, part = view.part(*seen.needed(source)[2:])
    whole_image = whole((1, 3, generator.image_px, generator.image_px))
    Cone(image.graph, image.graph.outputs[0], (*whole_image[:2], *part)).narrow(image.graph.inputs[0])
    return full, multiply_additions(body.graph) + multiply_additions(image.graph)


@click.command()
@click.argument("source", default="torchvision:resnet50")
def main(source: str) -> None:
    """Print a table."""
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        network = resolve_network(source, cache=cache)
        save_generator(randomised(), cache / "fc6.onnx")
        generator = load_generator(cache / "fc6.onnx")
        model, prior = network.model(1), generator.model(1)
        for part in (model, prior):
            fold_batchnorm(part)
            fold_pads(part)
        convs = {v.name for node in model.graph if node.op_type == "Conv" for v in node.outputs}
        layers = {i.tensor: i for i in network.layers if i.tensor in convs and len(i.shape) == 3}
        rows = [(info, *counts(network, model, generator, prior, info)) for info in layers.values()]
    for info, full, cone in rows:
        print(
            f"{info.name:28} {info.num_units:5} units  {full / 1e6:8.0f} M  {cone / 1e6:8.0f} M  {full / cone:6.2f} x"
        )
    channels = sum(info.num_units for info, _, _ in rows)
    for title, chosen in (
        ("all", rows),
        *((f"to {name}", rows[: i + 1]) for name, i in _ends(rows).items()),
    ):
        full, cone = (sum(info.num_units * r[k] for info, *r in chosen) for k in (0, 1))
        units = sum(i.num_units for i, _, _ in chosen)
        mean = sum(i.num_units * f / c for i, f, c in chosen) / units
        print(
            f"{title}: {units} of {channels} channels, {full / cone:.2f} x less arithmetic in all, "
            f"{mean:.2f} x on the mean over channels"
        )


def _ends(rows: list[tuple[LayerInfo, int, int]]) -> dict[str, int]:
    """Last row of every top-level module."""
    return {info.name.split(".")[0]: i for i, (info, _, _) in enumerate(rows)}


if __name__ == "__main__":
    main()
