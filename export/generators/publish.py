"""A training checkpoint -> the generator users run: ONNX, code prior, encoder statistics and card.

python -m export.generators.publish RUN/checkpoint.pt OUT.onnx [--trained-on TEXT] [--start-from FILE --start-share S]
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx_ir as ir
import torch

from export.cards import CARD_KEY, GeneratorOutput
from export.errors import InputError, ModelError
from export.generators.architecture import GeneratorConfig, HybridGenerator
from export.generators.checkpoint import layers_of, read_checkpoint, shape_of, statistics_of
from export.generators.encoder import Encoder, EncoderLayers
from export.generators.sources import check_parity
from export.generators.statistics import CodeStatistics, code_pace, code_prior
from export.generators.weights import published_statistics, published_weights
from export.models import digest_of
from export.network import Network, resolve_network
from export.output_range import check_output
from export.passes.half import store_as_half
from export.sources.torch_export import to_onnx

OF_THE_GENERATOR = ("basis", "candidates")
"""Statistics that encoding an image does not need."""

HALF_PARITY = 1e-2
"""Largest difference that storing the weights as fp16 may make, in units of white - black."""


@dataclass(frozen=True)
class Start:
    """The generator whose weights a training took over, and its share in what is published.

    Weights of models that were trained on from one another can be averaged, and the average often does better than
    either (Wortsman et al., "Robust fine-tuning of zero-shot models", 2022).

    Attributes:
        path: of the generator.
        share: 0 to 1; the trained weights have the rest.
    """

    path: Path
    share: float

    @classmethod
    def of(cls, path: Path | None, share: float) -> Start | None:
        """None for no share.

        Raises:
            InputError: a share of nothing.
        """
        if share and path is None:
            raise InputError("--start-share is a share of the generator that --start-from names; give both, or neither")
        return cls(path, share) if share and path else None


def publish(
    checkpoint: Path,
    out: Path,
    trained_on: str,
    *,
    title: str | None = None,
    network: Network | None = None,
    start: Start | None = None,
) -> dict[str, Any]:
    """Write ``out`` (ONNX, weights as fp16) and, beside it, ``.codes.npz`` and ``.encoder.npz``, from averaged weights.

    Args:
        checkpoint: of :class:`export.generators.train.Trainer`.
        out: the ONNX file.
        trained_on: what the images were, and on what terms.
        title: of the card.
        network: the encoder, where it is open already.
        start: has a share in the weights; None for none.

    Returns:
        The card.

    Raises:
        ModelError: weights that are not finite, or an exported graph that does not agree with the module.
        InputError: statistics that do not fit the generator, or ``start`` has other codes or another shape.
    """
    state = read_checkpoint(checkpoint)
    shape, layers, statistics = shape_of(state), layers_of(state), statistics_of(state)
    generator = HybridGenerator(shape)
    network = network or resolve_network(layers.source, cache=Path("build") / "networks")
    weights = state["average"]
    if start is not None:
        weights = averaged(weights, start, statistics, shape, Encoder(network, layers))
    generator.load_state_dict(weights)
    generator.eval()
    if not all(bool(torch.isfinite(p).all()) for p in generator.parameters()):
        raise ModelError(f"{checkpoint} holds weights that are not finite; resume from an earlier checkpoint")
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
    if start is not None:
        card["averaged_with"] = {"digest": digest_of(start.path), "share": start.share}
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


def averaged(
    weights: dict[str, torch.Tensor], start: Start, statistics: CodeStatistics, shape: GeneratorConfig, encoder: Encoder
) -> dict[str, torch.Tensor]:
    """The mean of a training's weights and of those that it started from.

    Raises:
        InputError: they do not mean the same.
    """
    others = published_weights(start.path)
    known = published_statistics(start.path, others, shape, encoder)
    alike = known is not None and all(
        value is None or torch.allclose(getattr(known, name), value.cpu(), rtol=1e-2, atol=1e-2)
        for name, value in vars(statistics).items()
        if name != "candidates"
    )
    if not alike or any(name not in others or others[name].shape != w.shape for name, w in weights.items()):
        raise InputError(
            f"the weights of {start.path} cannot have a share: its codes or its shape are others than those of the "
            "training, which did not start from it; leave --start-share out"
        )
    return {name: w.cpu().lerp(others[name].float(), start.share) for name, w in weights.items()}


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
@click.option("--start-from", type=click.Path(path_type=Path), help="the generator that the training started from")
@click.option("--start-share", type=click.FloatRange(0, 1), default=0.0, help="its share in the weights")
def main(
    checkpoint: Path, out: Path, trained_on: str, title: str | None, start_from: Path | None, start_share: float
) -> None:
    """Publish a checkpoint as a generator."""
    publish(checkpoint, out, trained_on, title=title, start=Start.of(start_from, start_share))


if __name__ == "__main__":
    main()
