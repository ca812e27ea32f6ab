"""SqueezeNet v1.0 as an ONNX graph, from an ``.npz`` of its weights: the judge of our images, independent of the demo.

Iandola et al. 2016. Input: BGR, 0..255 minus (104, 117, 123), 227 px. conv1 7x7/2 - pool - fire2..4 - pool - fire5..8 -
pool - fire9 - conv_final 1x1 pad 1 - ReLU - mean; pools are 3x3/2 with ceil.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from export.errors import ModelError
from export.vjp.emit import Emitter, shape_of

IMAGE_PX = 227
MEAN_BGR = (104.0, 117.0, 123.0)
FIRES = (2, 3, 4, 5, 6, 7, 8, 9)
POOL_BEFORE = (2, 5, 9)

Weights = Mapping[str, npt.NDArray[np.float32]]


def layer_names() -> list[str]:
    """Layers with weights, in forward order."""
    fires = [f"fire{i}.{part}" for i in FIRES for part in ("squeeze", "expand1x1", "expand3x3")]
    return ["conv1", *fires, "conv_final"]


def read_weights(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """``LAYER.weight`` (out, in, k, k) and ``LAYER.bias`` of every layer.

    Raises:
        ModelError: missing, or other weights.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            weights = {name: np.asarray(file[name], np.float32) for name in file.files}
    except FileNotFoundError:
        raise ModelError(f"the judge's weights were not found: {path}") from None
    except Exception as error:
        raise ModelError(f"{path} is not an .npz of SqueezeNet's weights: {error}") from error
    missing = [f"{n}.{part}" for n in layer_names() for part in ("weight", "bias") if f"{n}.{part}" not in weights]
    if missing:
        raise ModelError(f"{path} is not an .npz of SqueezeNet's weights: it lacks {', '.join(missing[:5])}")
    return weights


def squeezenet(weights: Weights, batch: int, image_px: int = IMAGE_PX) -> ir.Model:
    """The network: ``image`` (batch, 3, S, S), prepared as above -> ``scores`` (batch, classes)."""
    image = ir.Value(
        name="image", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([batch, 3, image_px, image_px])
    )
    graph = ir.Graph([image], [], nodes=[], name="squeezenet", opset_imports={"": 20})
    e = Emitter(graph, prefix="judge")

    def convolved(x: ir.Value, name: str, stride: int = 1, pad: int = 0) -> ir.Value:
        w, b = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return e.op("Relu", e.op("Conv", x, e.const(w), e.const(b), strides=[stride] * 2, pads=[pad] * 4))

    x = convolved(image, "conv1", stride=2)
    for i in FIRES:
        if i in POOL_BEFORE:
            x = e.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
        s = convolved(x, f"fire{i}.squeeze")
        x = e.op("Concat", convolved(s, f"fire{i}.expand1x1"), convolved(s, f"fire{i}.expand3x3", pad=1), axis=1)
        x.name = f"fire{i}"
    x = e.mean(convolved(x, "conv_final", pad=1), (2, 3))
    scores = e.reshape(x, shape_of(x)[:2])
    scores.name = "scores"
    graph.outputs.append(scores)
    return ir.Model(graph, ir_version=10, producer_name="neuron-atlas")


def prepared(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(227, 227, 3) RGB 0..255 -> (3, 227, 227) as the network wants it."""
    bgr = image[:, :, ::-1].astype(np.float32) - np.asarray(MEAN_BGR, np.float32)
    return np.ascontiguousarray(bgr.transpose(2, 0, 1))
