"""A training checkpoint -> the generator users run: ONNX, code prior and card.

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

from export.cards import CARD_KEY
from export.errors import ModelError
from export.generators.architecture import GeneratorConfig, HybridGenerator
from export.passes.half import store_as_half
from export.prior import CodePrior
from export.priors.box import BoxPrior
from export.sources.torch_export import to_onnx

GLOBAL_DECAY, SPATIAL_DECAY, SPATIAL_BOUND = 0.99, 0.98, 2.5


def code_prior(state: dict[str, Any], shape: GeneratorConfig) -> CodePrior:
    """The published method's box on the global part (0 to mean + 3 standard deviations), +-2.5 on the whitened map."""
    mean = state["statistics"]["global_mean"].numpy().astype(np.float32)
    num_spatial = shape.spatial_dim * shape.grid**2
    parts = [
        BoxPrior(mean, np.ones_like(mean), np.zeros_like(mean), mean + 3, np.full_like(mean, GLOBAL_DECAY)),
        BoxPrior(
            np.zeros(num_spatial, np.float32),
            np.ones(num_spatial, np.float32),
            np.full(num_spatial, -SPATIAL_BOUND, np.float32),
            np.full(num_spatial, SPATIAL_BOUND, np.float32),
            np.full(num_spatial, SPATIAL_DECAY, np.float32),
        ),
    ]
    names = ("mean", "std", "low", "high", "decay")
    return BoxPrior(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def publish(checkpoint: Path, out: Path, trained_on: str) -> None:
    """Write ``out`` (ONNX, weights as fp16) and ``out`` with suffix ``.codes.npz`` from the averaged weights.

    Raises:
        ModelError: the checkpoint holds weights that are not finite.
    """
    state = torch.load(checkpoint, weights_only=True)
    raw = state["shape"]
    shape = GeneratorConfig(**raw | {"widths": tuple(raw["widths"])})
    generator = HybridGenerator(shape)
    generator.load_state_dict(state["average"])
    if not all(bool(torch.isfinite(p).all()) for p in generator.parameters()):
        raise ModelError(f"{checkpoint} holds weights that are not finite; resume from an earlier checkpoint")
    model = to_onnx(generator.eval(), torch.rand(2, shape.code_dim), "code", layers=False)
    store_as_half(model)
    card = {
        "title": "Lite0 hybrid generator",
        "source": "trained for this project",
        "command": "python -m export.generators.train, then python -m export.generators.publish",
        "licence": "Apache-2.0 (weights); see trained_on for the terms of the images",
        "output": {"channels": "RGB", "scale": 1.0, "offset": 0.0},
        "encoder": "EfficientNet-Lite0 at 128 px: 1280 pooled features and 32 whitened channels of _blocks.15 at 4x4",
        "image_px": shape.image_px,
        "parameters": sum(p.numel() for p in generator.parameters()),
        "training_steps": state["done"],
        "training_images_seen": state["done"] * state["config"]["batch"],
        "trained_on": trained_on,
        "recipe": state["config"],
    }
    model.metadata_props[CARD_KEY] = json.dumps(card)
    ir.save(model, out)
    code_prior(state, shape).save(out.with_suffix(".codes.npz"))


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--trained-on", default="not stated", help="what the images were and on what terms")
def main(checkpoint: Path, out: Path, trained_on: str) -> None:
    """Publish a checkpoint as a generator."""
    publish(checkpoint, out, trained_on)


if __name__ == "__main__":
    main()
