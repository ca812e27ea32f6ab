"""Resize along spatial axes: separable and linear, so its transpose is one small matrix per axis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from export.vjp.emit import Emitter, shape_of
from export.vjp.registry import Site, rule
from export.vjp.rules.linear import transposed


@rule("Resize", "Upsample")
def resize(s: Site) -> Mapping[int, ir.Value]:
    """``y = R_h x R_w^T``:  ``dx = R_h^T g R_w``; a nearest doubling (or more) is a sum over blocks."""
    e, shape, out = s.e, s.shape(), shape_of(s.y)
    changed = [axis for axis in range(len(shape)) if out[axis] != shape[axis]]
    if any(axis < len(shape) - 2 for axis in changed):
        raise s.refuse("it resizes another axis than the last two")
    mode = s.attribute("mode", "nearest")
    whole = all(out[axis] % shape[axis] == 0 for axis in changed)
    aligned = s.attribute("coordinate_transformation_mode", "half_pixel") in ("asymmetric", "half_pixel")
    rounding = s.attribute("nearest_mode", "round_prefer_floor")
    if mode == "nearest" and whole and aligned and (rounding == "floor" or _is_block(s, changed, shape, out)):
        return {0: _block_sums(e, s.g, shape, out)}
    g = s.g
    for axis in changed:
        matrix = e.const(_matrix(s, axis, shape, out), like=g)  # (out, in)
        g = e.op("MatMul", g, matrix) if axis == len(shape) - 1 else e.op("MatMul", transposed(e, matrix), g)
    return {0: g}


def _is_block(s: Site, changed: list[int], shape: tuple[int, ...], out: tuple[int, ...]) -> bool:
    return all(
        np.array_equal(_matrix(s, axis, shape, out), np.repeat(np.eye(shape[axis]), out[axis] // shape[axis], axis=0))
        for axis in changed
    )


def _block_sums(e: Emitter, g: ir.Value, shape: tuple[int, ...], out: tuple[int, ...]) -> ir.Value:
    block = [out[-2] // shape[-2], out[-1] // shape[-1]]
    if len(shape) == 4:  # an average pool is the one reduction of this kind that every runtime does fast
        return e.mul(e.op("AveragePool", g, kernel_shape=block, strides=block), float(block[0] * block[1]))
    rank = len(shape) - 2
    blocks = (*shape[:-2], shape[-2], block[0], shape[-1], block[1])
    return e.sum(e.reshape(g, blocks), [rank + 1, rank + 3], keepdims=False)


def _matrix(s: Site, axis: int, shape: tuple[int, ...], out: tuple[int, ...]) -> npt.NDArray[Any]:
    """(out, in) matrix of the resize along one axis: its action on the unit vectors, by ONNX's reference."""
    attributes: dict[str, Any] = {name: s.attribute(name, None) for name in s.node.attributes if name != "axes"}
    size, to = shape[axis], out[axis]
    eye = np.eye(size, dtype=np.float32)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], **attributes)],
        "resize",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [size, size])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [size, to])],
        [onnx.numpy_helper.from_array(np.asarray([size, to], np.int64), "sizes")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 19)])
    outputs: Any = ReferenceEvaluator(model).run(None, {"x": eye})
    return np.asarray(outputs[0], np.float64).T
