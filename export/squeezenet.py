"""SqueezeNet v1.0 (Iandola et al. 2016, BSD) as ONNX, from a file of its weights: a judge independent of the network.

Input BGR 0..255 minus (104, 117, 123), 227 px, as in its Caffe release; 1,000 ImageNet classes in their usual order.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.cards import CARD_KEY
from export.errors import ModelError
from export.models import ASSETS

FIRES = ("pool", "fire2", "fire3", "fire4", "pool", "fire5", "fire6", "fire7", "fire8", "pool", "fire9")
FEATURES = "fire9"
"""Tensor whose mean over positions serves as the judge's features, (N, 512, H, W)."""
SIDE = 227
LABELS = ASSETS / "imagenet1k_labels.txt"


def squeezenet(weights: Path) -> onnx.ModelProto:
    """Build the network.

    Args:
        weights: ``.npz`` with ``conv1.weight``, ``conv1.bias``, ``fireN.squeeze.weight``, ``fireN.expand1x1.weight``,
            ..., ``conv_final.bias``.

    Raises:
        ModelError: the file is missing, unreadable or lacks an array.
    """
    try:
        with np.load(weights, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name], np.float32) for name in file.files}
    except (OSError, ValueError) as error:
        raise ModelError(f"judge {weights} cannot be read: {error}") from error
    build = _Build(arrays, str(weights))
    value = build.relu(build.conv("image", "conv1", stride=2))
    for number, kind in enumerate(FIRES):
        value = build.pool(value, f"pool{number}") if kind == "pool" else build.fire(value, kind)
    value = build.relu(build.conv(value, "conv_final", pad=1))
    build.node("GlobalAveragePool", [value], "mean")
    build.node("Flatten", ["mean"], "scores", axis=1)
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ("N", 1000))]
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, ("N", 3, SIDE, SIDE))]
    graph = helper.make_graph(build.nodes, "squeezenet", inputs, outputs, build.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    card = {
        "title": "SqueezeNet v1.0",
        "source": "Iandola et al. 2016, arXiv 1602.07360",
        "licence": "BSD",
        "input": {
            "height": SIDE,
            "width": SIDE,
            "channels": "BGR",
            "mean": [m / 255 for m in (104, 117, 123)],
            "std": 1 / 255,
        },
        "labels": LABELS.read_text(encoding="utf-8").splitlines(),
    }
    entry = model.metadata_props.add()
    entry.key, entry.value = CARD_KEY, json.dumps(card)
    return model


class _Build:
    def __init__(self, arrays: dict[str, np.ndarray], source: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._arrays, self._source = arrays, source

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def conv(self, value: str, name: str, *, stride: int = 1, pad: int = 0) -> str:
        for part in ("weight", "bias"):
            if f"{name}.{part}" not in self._arrays:
                raise ModelError(f"judge {self._source} holds no {name}.{part}; give SqueezeNet v1.0's weights")
            self.constants.append(numpy_helper.from_array(self._arrays[f"{name}.{part}"], f"{name}.{part}"))
        inputs = [value, f"{name}.weight", f"{name}.bias"]
        return self.node("Conv", inputs, name, strides=[stride] * 2, pads=[pad] * 4)

    def relu(self, value: str, output: str = "") -> str:
        return self.node("Relu", [value], output or f"{value}.relu")

    def pool(self, value: str, name: str) -> str:
        return self.node("MaxPool", [value], name, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)

    def fire(self, value: str, name: str) -> str:
        squeezed = self.relu(self.conv(value, f"{name}.squeeze"))
        one = self.relu(self.conv(squeezed, f"{name}.expand1x1"))
        three = self.relu(self.conv(squeezed, f"{name}.expand3x3", pad=1))
        return self.node("Concat", [one, three], name, axis=1)
