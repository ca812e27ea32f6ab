"""Resize along spatial axes: separable and linear, so its transpose is one small matrix per axis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from export.passes.constants import constant_of
from export.vjp.emit import Emitter, shape_of
from export.vjp.registry import Site, rule


@rule("Resize", since=11)
def resize(s: Site) -> Mapping[int, ir.Value]:
    """``y = R_h x R_w^T``:  ``dx = R_h^T g R_w``; a nearest doubling (or more) is a sum over blocks."""
    e, shape, out = s.e, s.shape(), shape_of(s.y)
    if s.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise s.refuse("only the aspect ratio policy 'stretch' is supported; give the sizes that it leads to")
    if s.attribute("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        raise s.refuse("the mode 'tf_crop_and_resize' is not supported")
    scales = _scales(s)
    changed = [axis for axis in range(len(shape)) if out[axis] != shape[axis]]
    if any(scale != 1 and axis not in changed for axis, scale in scales.items()):
        raise s.refuse("one of its scales is not 1 but leaves the size, where runtimes disagree; give sizes instead")
    if any(axis < len(shape) - 2 for axis in changed):
        raise s.refuse("it resizes another axis than the last two")
    matrices = {axis: _matrix(s, shape[axis], out[axis], scales.get(axis)) for axis in changed}
    whole = all(out[axis] % shape[axis] == 0 for axis in changed)
    if s.attribute("mode", "nearest") == "nearest" and whole and all(map(_is_block, matrices.values())):
        return {0: _block_sums(e, s.g, shape, out)}
    g = s.g
    for axis, matrix in matrices.items():
        last = axis == len(shape) - 1
        factor = e.const(np.ascontiguousarray(matrix if last else matrix.T), like=g)
        g = e.op("MatMul", g, factor) if last else e.op("MatMul", factor, g)
    return {0: g}


def _scales(s: Site) -> dict[int, float]:
    """Axis -> scale as given, which need not be the ratio of the sizes; empty where only the sizes matter."""
    if not s.has(2):
        return {}
    given = constant_of(s.input(2))
    if given is None:
        raise s.refuse("its scales are computed at run time")
    shape, rank = s.shape(), len(s.shape())
    axes = s.attribute("axes", list(range(rank)))
    scales = {axis % rank: float(scale) for axis, scale in zip(axes, given.reshape(-1), strict=False)}
    if s.attribute("coordinate_transformation_mode", "half_pixel") != "align_corners":
        return scales
    if any(abs(scale * shape[axis] - round(scale * shape[axis])) > 1e-3 for axis, scale in scales.items()):
        raise s.refuse("its scales with 'align_corners' lead to no whole size, where runtimes disagree; give sizes")
    return {}


def _is_block(matrix: npt.NDArray[Any]) -> bool:
    """Whether a nearest resize repeats each position."""
    out, size = matrix.shape
    return np.array_equal(matrix, np.repeat(np.eye(size), out // size, axis=0))


def _block_sums(e: Emitter, g: ir.Value, shape: tuple[int, ...], out: tuple[int, ...]) -> ir.Value:
    block = [out[-2] // shape[-2], out[-1] // shape[-1]]
    if len(shape) == 4:  # an average pool is the one reduction of this kind that every runtime does fast
        return e.mul(e.op("AveragePool", g, kernel_shape=block, strides=block), float(block[0] * block[1]))
    rank = len(shape) - 2
    blocks = (*shape[:-2], shape[-2], block[0], shape[-1], block[1])
    return e.sum(e.reshape(g, blocks), [rank + 1, rank + 3], keepdims=False)


def _matrix(s: Site, size: int, to: int, scale: float | None) -> npt.NDArray[Any]:
    """(out, in) matrix of the resize along one axis: its action on the unit vectors, by ONNX's reference."""
    left_out = ("axes", "keep_aspect_ratio_policy")
    attributes: dict[str, Any] = {n: s.attribute(n, None) for n in s.node.attributes if n not in left_out}
    target = np.asarray([size, to], np.int64) if scale is None else np.asarray([1, scale], np.float32)
    names = ["x", "", "", "target"] if scale is None else ["x", "", "target"]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Resize", names, ["y"], **attributes)],
        "resize",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.DOUBLE, [size, size])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.DOUBLE, [size, to])],
        [onnx.numpy_helper.from_array(target, "target")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 19)])
    outputs: Any = ReferenceEvaluator(model).run(None, {"x": np.eye(size)})
    return np.asarray(outputs[0], np.float64).T
