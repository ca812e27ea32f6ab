from __future__ import annotations

import onnx_ir as ir
import pytest

from export.passes.shapes import infer_shapes
from export.windows import Windows, windows_of


def windows(call: str, size: tuple[int, int] = (7, 8)) -> Windows:
    model = ir.from_onnx_text(
        f"""<ir_version: 10, opset_import: ["" : 21]>
        g (float[1, 2, {size[0]}, {size[1]}] x, float[4, 2, 3, 2] w) => (float[1, 4, a, b] y) {{ y = {call} }}"""
    )
    model.graph.outputs[0].shape = None
    infer_shapes(model)
    return windows_of(model.graph[0])


def test_defaults() -> None:
    assert windows("Conv(x, w)") == Windows([3, 2], [1, 1], [1, 1], [0, 0], [0, 0])


def test_what_is_said_is_taken() -> None:
    given = windows("Conv<pads = [1, 0, 2, 1], strides = [2, 1], dilations = [1, 3]>(x, w)")
    assert given == Windows([3, 2], [2, 1], [1, 3], [1, 0], [2, 1])
    assert windows("MaxPool<kernel_shape = [2, 4]>(x)").kernel == [2, 4]


@pytest.mark.parametrize(
    ("auto", "begin", "end"),
    [("VALID", [0, 0], [0, 0]), ("SAME_UPPER", [1, 0], [1, 1]), ("SAME_LOWER", [1, 1], [1, 0])],
)
def test_automatic_padding(auto: str, begin: list[int], end: list[int]) -> None:
    """7 rows by steps of 2 are 4 windows of 3, 2 rows too many; 8 columns by 1 are 8 windows of 2, 1 too many."""
    found = windows(f'Conv<auto_pad = "{auto}", strides = [2, 1]>(x, w)')
    assert (found.begin, found.end) == (begin, end)


def test_a_window_smaller_than_its_stride_needs_no_padding() -> None:
    found = windows('MaxPool<auto_pad = "SAME_UPPER", kernel_shape = [1, 1], strides = [3, 3]>(x)')
    assert (found.begin, found.end) == ([0, 0], [0, 0])
