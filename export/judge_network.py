"""A judge as a network with a card: SqueezeNet v1.0 from the file of its weights."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import onnx_ir as ir

from export.cards import CARD_KEY
from export.errors import ModelError
from export.models import ASSETS
from export.network import LAYERS_KEY
from export.squeezenet import FIRES, IMAGE_PX, MEAN_BGR, read_weights, squeezenet

FEATURES = "fire9"
"""Layer whose mean over positions serves as the judge's features, (N, 512, H, W)."""
LEAST_PX = 48
"""Side of the smallest input that every pooling still fits."""
LABELS = ASSETS / "imagenet1k_labels.txt"


def squeezenet_with_card(weights: Path, image_px: int = IMAGE_PX) -> onnx.ModelProto:
    """SqueezeNet with layers ``fire2`` to ``fire9`` and ``scores``, its preprocessing and ImageNet's class names.

    Args:
        weights: the ``.npz`` of :func:`export.squeezenet.read_weights`.
        image_px: side of its input; it was trained at 227.

    Raises:
        ModelError: the file is missing or holds other weights, or the input is too small for it.
    """
    if image_px < LEAST_PX:
        raise ModelError(f"SqueezeNet takes {LEAST_PX} px or more, not {image_px}")
    model = squeezenet(read_weights(weights), 1, image_px)
    mean = [value / 255 for value in MEAN_BGR]
    card = {
        "title": "SqueezeNet v1.0" + (f", {image_px} px" if image_px != IMAGE_PX else ""),
        "source": "Iandola et al. 2016, arXiv 1602.07360",
        "licence": "BSD",
        "input": {"height": image_px, "width": image_px, "channels": "BGR", "mean": mean, "std": 1 / 255},
        "labels": LABELS.read_text(encoding="utf-8").splitlines(),
    }
    names = [*(f"fire{i}" for i in FIRES), "scores"]
    model.metadata_props[CARD_KEY] = json.dumps(card)
    model.metadata_props[LAYERS_KEY] = json.dumps({name: name for name in names})
    return ir.to_proto(model)
