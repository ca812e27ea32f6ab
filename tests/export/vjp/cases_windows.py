"""Convolutions, pools and Resize, with their awkward attributes."""

from __future__ import annotations

import numpy as np

from tests.export.vjp.checking import Case
from tests.export.vjp.drawing import F, apart, ints, scales

W = {"w": F(size=(4, 3, 3, 2))}
X = {"x": (2, 3, 7, 6)}
CONV = [
    Case("Conv", "y = Conv(x, w)", X, W),
    Case("Conv", "y = Conv(x, w, b)", X, W | {"b": F(size=4)}),
    Case("Conv", "y = Conv<pads = [1, 0, 2, 1]>(x, w)", X, W),
    Case("Conv", "y = Conv<pads = [3, 2, 3, 3]>(x, w)", X, W),
    Case("Conv", "y = Conv<strides = [2, 3], pads = [0, 1, 1, 0]>(x, w)", X, W),
    Case("Conv", "y = Conv<strides = [3, 2]>(x, w)", {"x": (1, 3, 9, 9)}, W),
    Case("Conv", "y = Conv<dilations = [2, 3], pads = [1, 1, 2, 0]>(x, w)", X, W),
    Case("Conv", "y = Conv<dilations = [2, 1], strides = [2, 2]>(x, w)", {"x": (1, 3, 9, 7)}, W),
    *(
        Case("Conv", f'y = Conv<auto_pad = "{pad}", strides = [{s}, {s}]>(x, w)', X, W)
        for pad in ("SAME_UPPER", "SAME_LOWER", "VALID")
        for s in (1, 2)
    ),
    Case("Conv", "y = Conv<group = 2, pads = [1, 1, 1, 1]>(x, w)", {"x": (1, 4, 5, 5)}, {"w": F(size=(6, 2, 3, 3))}),
    Case("Conv", "y = Conv<group = 4>(x, w)", {"x": (2, 4, 5, 5)}, {"w": F(size=(4, 1, 3, 3))}),
    Case(
        "Conv",
        "y = Conv<group = 4, strides = [2, 2], pads = [0, 0, 1, 1]>(x, w)",
        {"x": (1, 4, 6, 6)},
        {"w": F(size=(8, 1, 3, 3))},
        runtime=1.0,
    ),
    Case("Conv", "y = Conv<strides = [2, 2]>(x, w)", {"x": (1, 3, 5, 6)}, {"w": F(size=(4, 3, 1, 1))}),
    Case("Conv", "y = Conv<strides = [2], pads = [1, 0]>(x, w)", {"x": (2, 3, 8)}, {"w": F(size=(4, 3, 3))}),
    Case("Conv", "y = Conv<pads = [1, 1, 1, 1]>(x, w)", {"x": (1, 2, 5, 5)}, feeds={"w": F(size=(3, 2, 3, 3))}),
    Case("Conv", "y = Conv<strides = [2, 2]>(x, w)", {"x": (1, 2, 6, 6)}, feeds={"w": F(size=(3, 2, 3, 3))}),
    Case("Conv", "y = Conv<strides = [3, 4], pads = [2, 1, 0, 2]>(x, w)", {"x": (1, 3, 9, 8)}, W),  # windows with gaps
    Case("Conv", "y = Conv<strides = [2, 1], dilations = [2, 3], pads = [1, 2, 0, 3], group = 2>(x, w)",
         {"x": (1, 4, 9, 8)}, {"w": F(size=(6, 2, 3, 2))}, runtime=1.0),
    Case("Conv", "y = Conv<strides = [2, 1, 2], pads = [1, 0, 1, 0, 1, 1]>(x, w)",
         {"x": (1, 2, 5, 4, 6)}, {"w": F(size=(3, 2, 3, 2, 3))}, runtime=1.0),
    Case("Conv", "y = Conv<dilations = [2], group = 2, pads = [0, 3]>(x, w)", {"x": (2, 4, 8)},
         {"w": F(size=(2, 2, 3))}, runtime=1.0),
]  # fmt: skip
T = {"w": F(size=(3, 4, 3, 2))}
CONV_TRANSPOSE = [
    Case("ConvTranspose", "y = ConvTranspose(x, w)", {"x": (2, 3, 4, 5)}, T),
    Case("ConvTranspose", "y = ConvTranspose<strides = [2, 3], pads = [1, 0, 0, 1]>(x, w)", {"x": (1, 3, 4, 5)}, T),
    Case("ConvTranspose", "y = ConvTranspose<strides = [2, 2], output_padding = [1, 1]>(x, w)", {"x": (1, 3, 4, 5)}, T),
    Case(
        "ConvTranspose",
        "y = ConvTranspose<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w)",
        {"x": (1, 2, 3, 3)},
        {"w": F(size=(2, 3, 4, 4))},
    ),
    Case("ConvTranspose", "y = ConvTranspose<dilations = [2, 2]>(x, w)", {"x": (1, 3, 4, 4)}, T),
    Case(
        "ConvTranspose",
        "y = ConvTranspose<group = 2>(x, w)",
        {"x": (1, 4, 3, 3)},
        {"w": F(size=(4, 2, 3, 3))},
        runtime=1.0,
    ),
    *(
        Case("ConvTranspose", f'y = ConvTranspose<strides = [{s}, {s}], auto_pad = "{pad}">(x, w)',
             {"x": (1, 3, 4, 5)}, {"w": F(size=(3, 4, 3, 4))}, runtime=1.0)
        for pad in ("SAME_UPPER", "SAME_LOWER", "VALID")
        for s in (2, 5)
    ),
    Case("ConvTranspose", "y = ConvTranspose<strides = [2, 2], output_shape = [8, 9]>(x, w)",
         {"x": (1, 3, 4, 5)}, {"w": F(size=(3, 4, 3, 4))}, runtime=1.0),
    Case("ConvTranspose", "y = ConvTranspose<strides = [2, 3], dilations = [2, 1], pads = [1, 0, 2, 3],"
         " output_padding = [1, 0]>(x, w)", {"x": (1, 3, 4, 5)}, {"w": F(size=(3, 4, 3, 4))}, runtime=1.0),
    Case("ConvTranspose", "y = ConvTranspose<strides = [2, 1], group = 2, pads = [1, 0, 2, 3],"
         " output_padding = [1, 0]>(x, w)", {"x": (1, 4, 4, 5)}, {"w": F(size=(4, 3, 3, 4))}, runtime=1.0),
    Case("ConvTranspose", "y = ConvTranspose<pads = [3, 3, 3, 3]>(x, w)",  # crops more than a kernel's reach
         {"x": (1, 3, 6, 6)}, {"w": F(size=(3, 2, 3, 3))}, runtime=1.0),
    Case("ConvTranspose", "y = ConvTranspose<strides = [2], output_padding = [1]>(x, w)",
         {"x": (1, 3, 4)}, {"w": F(size=(3, 2, 3))}, runtime=1.0),
]  # fmt: skip
P = {"x": apart(2, 3, 7, 6)}
POOL = [
    Case("MaxPool", "y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)", P),
    Case("MaxPool", "y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(x)", P),
    Case("MaxPool", "y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1>(x)", P),
    Case("MaxPool", "y = MaxPool<kernel_shape = [3, 2], strides = [1, 2], pads = [0, 1, 1, 0]>(x)", P),
    Case("MaxPool", "y = MaxPool<kernel_shape = [3, 3], strides = [1, 1], pads = [1, 1, 1, 1]>(x)", P),
    Case("MaxPool", "y = MaxPool<kernel_shape = [2, 2], dilations = [2, 3]>(x)", P),
    Case("MaxPool", "y = MaxPool<kernel_shape = [2, 2], strides = [3, 3]>(x)", P),
    Case("MaxPool", "y = MaxPool<kernel_shape = [3], strides = [2]>(x)", {"x": apart(2, 3, 9)}),
    Case("MaxPool", "y = MaxPool<kernel_shape = [2, 2, 2], strides = [2, 1, 2]>(x)", {"x": apart(1, 2, 4, 4, 5)},
         runtime=1e-2),
    Case("MaxPool", "y = MaxPool<kernel_shape = [3, 2], strides = [2, 3], dilations = [2, 1], pads = [1, 0, 2, 1],"
         " ceil_mode = 1>(x)", {"x": apart(1, 2, 8, 10)}, runtime=1e-2),
    *(  # ONNX's reference gets the size wrong
        Case("MaxPool", f'y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], auto_pad = "{pad}">(x)', P, runtime=1e-2)
        for pad in ("SAME_UPPER", "SAME_LOWER", "VALID")
    ),
    Case("AveragePool", "y = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x)", {"x": (1, 2, 6, 4)}),
    Case("AveragePool", "y = AveragePool<kernel_shape = [3, 2], strides = [2, 1], pads = [1, 0, 1, 1]>(x)", X),
    Case(
        "AveragePool",
        "y = AveragePool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], count_include_pad = 1>(x)",
        X,
    ),
    Case(
        "AveragePool", "y = AveragePool<kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1>(x)", {"x": (1, 2, 8, 8)}
    ),
    Case("AveragePool", 'y = AveragePool<kernel_shape = [3, 3], strides = [2, 2], auto_pad = "SAME_UPPER">(x)', X),
    *(
        Case("AveragePool", f"y = AveragePool<kernel_shape = [3, {k}], strides = [2, {s}], pads = [1, {p}, {q}, 1],"
             f" ceil_mode = 1, count_include_pad = {include}>(x)", X, runtime=1.0)
        for k, s, p, q in ((3, 2, 1, 1), (4, 3, 1, 0))
        for include in (0, 1)
    ),
    *(
        Case("AveragePool", 'y = AveragePool<kernel_shape = [3, 3], strides = [2, 2], auto_pad = "SAME_LOWER",'
             f" count_include_pad = {include}>(x)", X, runtime=1.0)
        for include in (0, 1)
    ),
    *(  # as many windows as if they tiled the input, but they do not
        Case("AveragePool", f"y = AveragePool<kernel_shape = [2, 2], strides = [2, 2], {rest}>(x)", {"x": (1, 2, 4, 4)},
             opset=19, runtime=1.0)
        for rest in ("pads = [1, 1, 0, 0]", "dilations = [2, 2], pads = [0, 0, 1, 1]")
    ),
    Case("AveragePool", "y = AveragePool<kernel_shape = [2, 3], strides = [2, 3]>(x)", {"x": (1, 2, 4, 6)}),
    Case("AveragePool", "y = AveragePool<kernel_shape = [3], strides = [2], pads = [1, 1]>(x)", {"x": (1, 2, 7)},
         runtime=1.0),
    Case("AveragePool", "y = AveragePool<kernel_shape = [2, 2, 2], strides = [2, 2, 2]>(x)", {"x": (1, 2, 4, 4, 4)},
         runtime=1.0),
    *(
        Case("LpPool", f"y = LpPool<kernel_shape = [3, 2], strides = [2, 1], pads = [1, 0, 1, 1], p = {p}>(x)", P)
        for p in (1, 2, 3)
    ),
    Case("LpPool", 'y = LpPool<kernel_shape = [2, 2], strides = [2, 2], auto_pad = "SAME_UPPER">(x)', P, runtime=1e-2),
    Case("LpPool", "y = LpPool<kernel_shape = [2, 2], dilations = [2, 2]>(x)", P),
    Case("LpPool", "y = LpPool<kernel_shape = [2], strides = [2]>(x)", {"x": np.asarray([[[1.0, 2.0, 0.0, 0.0]]])},
         rtol=3e-6),  # the norm of zeros has a kink, where the central difference is 0
    *(Case("GlobalLpPool", f"y = GlobalLpPool<p = {p}>(x)", P, runtime=1e-2) for p in (1, 2, 3)),
    Case("GlobalAveragePool", "y = GlobalAveragePool(x)", X),
    Case("GlobalMaxPool", "y = GlobalMaxPool(x)", P),
]  # fmt: skip
Z = {"x": (1, 2, 4, 5)}
UP, ODD = {"s": scales(1, 1, 2, 3)}, {"s": ints(1, 2, 7, 3)}
RESIZE = [
    Case("Resize", 'y = Resize<coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">(x, , s)', Z, UP),
    Case("Resize", "y = Resize(x, , s)", Z, UP),
    Case("Resize", "y = Resize(x, , , s)", Z, ODD),
    *(
        Case("Resize", f'y = Resize<mode = "linear", coordinate_transformation_mode = "{m}">(x, {s})', Z, c)
        for m in ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel")
        for s, c in ((", s", UP), (", , s", ODD))
    ),
    Case("Resize", 'y = Resize<mode = "cubic">(x, , , s)', Z, ODD),
    Case("Resize", 'y = Resize<mode = "linear", coordinate_transformation_mode = "align_corners">(x, , s)', Z,
         {"s": scales(1, 1, 0.5, 1.6)}, runtime=1.0),
    *(  # scales that are not the ratio of the sizes
        Case("Resize", f'y = Resize<mode = "{mode}", coordinate_transformation_mode = "{m}">(x, , s)', Z,
             {"s": scales(1, 1, 1.3, 0.7)}, runtime=1.0)
        for mode in ("nearest", "linear", "cubic")
        for m in ("half_pixel", "asymmetric", "half_pixel_symmetric")
        if (mode, m) != ("cubic", "half_pixel_symmetric")  # ONNX Runtime and the reference disagree
    ),
    Case("Resize", 'y = Resize<coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">(x, , s)',
         {"x": (1, 1, 3, 3)}, {"s": scales(1, 1, 2.3, 2.3)}, runtime=1.0),  # doubles the size, not in blocks
    *(
        Case("Resize", f'y = Resize<nearest_mode = "{n}">(x, , , s)', Z, {"s": ints(1, 2, 8, 4)}, runtime=1.0)
        for n in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
    ),
    Case("Resize", 'y = Resize<mode = "linear", axes = [2, 3]>(x, , s)', Z, {"s": scales(1.5, 0.8)}, runtime=1.0),
    Case("Resize", 'y = Resize<mode = "linear", antialias = 1>(x, , , s)', {"x": (1, 1, 8, 9)},
         {"s": ints(1, 1, 5, 4)}, runtime=1.0),
    Case("Resize", 'y = Resize<mode = "linear">(x, , , s)', {"x": (2, 3, 5)}, {"s": ints(2, 3, 8)}),
    Case("Resize", "y = Resize(x, , s)", {"x": (2, 3, 5)}, {"s": scales(1, 1, 2)}),
]  # fmt: skip
WINDOWS = [*CONV, *CONV_TRANSPOSE, *POOL, *RESIZE]
