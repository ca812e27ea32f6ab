"""A training checkpoint -> the generator users run: ONNX, code prior, encoder statistics and card.

python -m export.generators.publish RUN/checkpoint.pt OUT.onnx [--trained-on TEXT]
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx_ir as ir
import torch

from export.cards import CARD_KEY, GeneratorOutput
from export.errors import ModelError
from export.generators.architecture import GeneratorConfig, HybridGenerator
from export.generators.checkpoint import layers_of, read_checkpoint, shape_of
from export.generators.encoder import EncoderLayers
from export.generators.sources import check_parity
from export.generators.statistics import CodeStatistics, code_pace, code_prior
from export.network import Network, resolve_network
from export.output_range import check_output
from export.passes.half import store_as_half
from export.sources.torch_export import to_onnx

OF_THE_GENERATOR = ("basis", "candidates")
"""Statistics that encoding an image does not need."""

HALF_PARITY = 1e-2
"""Largest difference that storing the weights as fp16 may make, in units of white - black."""


def publish(
    checkpoint: Path, out: Path, trained_on: str, *, title: str | None = None, network: Network | None = None
) -> dict[str, Any]:
    """Write ``out`` (ONNX, weights as fp16) and, beside it, ``.codes.npz`` and ``.encoder.npz``, from averaged weights.

    Args:
        checkpoint: of :class:`export.generators.train.Trainer`.
        out: the ONNX file.
        trained_on: what the images were, and on what terms.
        title: of the card.
        network: the encoder, where it is open already.

    Returns:
        The card.

    Raises:
        ModelError: weights that are not finite, or an exported graph that does not agree with the module.
        InputError: statistics that do not fit the generator.
    """
    state = read_checkpoint(checkpoint)
    shape, layers, statistics = shape_of(state), layers_of(state), CodeStatistics(**state["statistics"])
    generator = HybridGenerator(shape)
    generator.load_state_dict(state["average"])
    generator.eval()
    if not all(bool(torch.isfinite(p).all()) for p in generator.parameters()):
        raise ModelError(f"{checkpoint} holds weights that are not finite; resume from an earlier checkpoint")
    network = network or resolve_network(layers.source, cache=Path("build") / "networks")
    prior = code_prior(statistics, shape)
    noise = np.random.default_rng(0).normal(size=(2, shape.code_dim)).astype(np.float32)
    code = torch.from_numpy(prior.constrain(prior.mean + 0.5 * noise))
    with torch.no_grad():
        image = generator(code)
    model = to_onnx(generator, code, "code", layers=False)
    check_parity(model, code, image, 1.0, str(checkpoint))
    store_as_half(model)
    check_parity(model, code, image, 1.0, str(checkpoint), HALF_PARITY)
    check_output(model, prior, GeneratorOutput(), str(checkpoint))
    card = make_card(state, shape, layers, network, trained_on, title)
    model.metadata_props[CARD_KEY] = json.dumps(card)
    part = out.with_suffix(".part")
    ir.save(model, part)
    starts = None if statistics.candidates is None else statistics.candidates.cpu().numpy()
    prior.save(out.with_suffix(".codes.npz"), code_pace(shape), starts)
    arrays: dict[str, Any] = {
        k: v.numpy() for k, v in vars(statistics).items() if isinstance(v, torch.Tensor) and k not in OF_THE_GENERATOR
    }
    np.savez(out.with_suffix(".encoder.npz"), **arrays)
    part.replace(out)
    return card


def make_card(
    state: dict[str, Any],
    shape: GeneratorConfig,
    layers: EncoderLayers,
    network: Network,
    trained_on: str,
    title: str | None,
) -> dict[str, Any]:
    """What the file says about itself."""
    parts = []
    if layers.global_layer is not None:
        parts.append(f"{shape.global_dim} features of {layers.global_layer}")
    if layers.spatial_layer is not None:
        where = f"{shape.grid}x{shape.grid}"
        what = f"{shape.map_dim} components of" if shape.map_dim else f"{shape.spatial_dim} whitened channels of"
        parts.append(f"{what} {layers.spatial_layer} at {where}")
    pixels = f"{network.card.input.height}x{network.card.input.width}"
    return {
        "title": title or f"{network.card.title} generator, {shape.image_px} px",
        "source": "trained with neuron-atlas train-generator",
        "licence": "Apache-2.0 (weights); see trained_on for the terms of the images",
        "output": {"channels": "RGB", "scale": 1.0, "offset": 0.0},
        "encoder": f"{network.card.title} at {pixels}: {' and '.join(parts)}",
        "encoder_layers": layers.to_state() | {"digest": network.digest, "grid": shape.grid},
        "image_px": shape.image_px,
        "parameters": sum(tensor.numel() for tensor in state["average"].values()),
        "training_steps": state["done"],
        "training_images_seen": state["done"] * state["config"]["batch"],
        "trained_on": trained_on,
        "recipe": state["config"],
    }


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--trained-on", default="not stated", help="what the images were and on what terms")
@click.option("--title", help="of the card")
def main(checkpoint: Path, out: Path, trained_on: str, title: str | None) -> None:
    """Publish a checkpoint as a generator."""
    publish(checkpoint, out, trained_on, title=title)


if __name__ == "__main__":
    main()
