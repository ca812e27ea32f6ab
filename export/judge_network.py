"""A judge as a network with a card: SqueezeNet v1.0 from the file of its weights."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import onnx_ir as ir

from export.cards import CARD_KEY
from export.models import ASSETS
from export.network import LAYERS_KEY
from export.squeezenet import IMAGE_PX, MEAN_BGR, read_weights, squeezenet

FEATURES = "fire9"
"""Layer whose mean over positions serves as the judge's features, (N, 512, H, W)."""
LABELS = ASSETS / "imagenet1k_labels.txt"


def squeezenet_with_card(weights: Path) -> onnx.ModelProto:
    """SqueezeNet with layers ``fire9`` and ``scores``, its preprocessing and the names of ImageNet's classes.

    Raises:
        ModelError: the file is missing or holds other weights.
    """
    model = squeezenet(read_weights(weights), 1)
    last = [node.outputs[0] for node in model.graph if node.op_type == "Concat"][-1]
    last.name = FEATURES
    mean = [value / 255 for value in MEAN_BGR]
    card = {
        "title": "SqueezeNet v1.0",
        "source": "Iandola et al. 2016, arXiv 1602.07360",
        "licence": "BSD",
        "input": {"height": IMAGE_PX, "width": IMAGE_PX, "channels": "BGR", "mean": mean, "std": 1 / 255},
        "labels": LABELS.read_text(encoding="utf-8").splitlines(),
    }
    model.metadata_props[CARD_KEY] = json.dumps(card)
    model.metadata_props[LAYERS_KEY] = json.dumps({FEATURES: FEATURES, "scores": "scores"})
    return ir.to_proto(model)
