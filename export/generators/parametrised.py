"""Images as their own code: what the pixel and the Fourier generator share. No training, no torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from export.cards import CARD_KEY
from export.errors import ModelError
from export.models import OPSET
from export.prior import CodePrior
from export.vjp.emit import Emitter

LEAST_PX, MOST_PX = 8, 1024


def write_graph(
    kind: str,
    size: str,
    cache: Path,
    draw: Callable[[Emitter, ir.Value, int], ir.Value],
    card: dict[str, Any],
    prior: Callable[[int], CodePrior],
) -> Path:
    """Write ``KIND-SIZE.onnx``, code (N, 3 S S) -> image (N, 3, S, S), and its prior; the same bytes every time.

    Args:
        kind: name of the source.
        size: S, as the user wrote it.
        cache: folder to write to.
        draw: emits the image (N, 3, S, S) from the reshaped code (N, 3, S, S).
        card: card of the generator.
        prior: makes the default prior of a code length.

    Raises:
        ModelError: the size is no number, or out of range.
    """
    if not size.isdecimal() or not LEAST_PX <= int(size) <= MOST_PX:
        raise ModelError(
            f"{kind}:{size} must name the side of its image in pixels, {LEAST_PX} to {MOST_PX}: {kind}:128"
        )
    side = int(size)
    code_dim = 3 * side * side
    code = ir.Value(name="code", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["batch", code_dim]))
    graph = ir.Graph([code], [], nodes=[], name=kind, opset_imports={"": OPSET})
    e = Emitter(graph, prefix=kind)
    image = draw(e, e.op("Reshape", code, e.ints(-1, 3, side, side)), side)
    image.name, image.shape = "image", ir.Shape(["batch", 3, side, side])
    graph.outputs.append(image)
    model = ir.Model(graph, ir_version=10, producer_name="neuron-atlas")
    model.metadata_props[CARD_KEY] = json.dumps({"title": f"{card['title']}, {side} px"} | card, sort_keys=True)
    cache.mkdir(parents=True, exist_ok=True)
    out = cache / f"{kind}-{side}.onnx"
    part = out.with_suffix(".part")
    part.write_bytes(ir.to_proto(model).SerializeToString(deterministic=True))
    prior(code_dim).save(out.with_suffix(".codes.npz"))
    part.replace(out)
    return out


def standard(code_dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean 0 and standard deviation 1."""
    return np.zeros(code_dim, np.float32), np.ones(code_dim, np.float32)
