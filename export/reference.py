"""Run an ONNX graph in float64 without a runtime: ONNX's reference evaluator, its slow windowed operators replaced.

The reference evaluator walks images pixel by pixel in Python. Here convolutions and pools are NumPy on strided views,
in any number of dimensions, so that a whole network takes seconds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from export.passes.widen import widen

Array = npt.NDArray[Any]


def evaluate(model: ir.Model, feeds: Mapping[str, Array], *, double: bool = True) -> dict[str, Array]:
    """Run a model and return its outputs by name.

    Args:
        model: not changed.
        feeds: graph input name -> array.
        double: compute in float64, whatever the model says.
    """
    if double:
        model = model.clone()
        widen(model)
        feeds = {n: a.astype(np.float64) if a.dtype.kind == "f" else a for n, a in feeds.items()}
    evaluator = ReferenceEvaluator(ir.to_proto(model), new_ops=_OPERATORS)
    outputs: Any = evaluator.run(None, dict(feeds))
    return {name: np.asarray(array) for name, array in zip(evaluator.output_names, outputs, strict=True)}


def _geometry(
    size: Sequence[int],
    kernel: Sequence[int],
    auto_pad: Any,
    dilations: Any,
    pads: Any,
    strides: Any,
    ceil: bool = False,
) -> tuple[list[int], list[int], list[int], list[int], list[int]]:
    """(strides, dilations, pads at the beginning, pads at the end, output sizes)."""
    n = len(kernel)
    strides, dilations = list(strides or [1] * n), list(dilations or [1] * n)
    begin, end = (list(pads[:n]), list(pads[n:])) if pads is not None else ([0] * n, [0] * n)
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        for i in range(n):
            total = max(0, (-(-size[i] // strides[i]) - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 - size[i])
            small, large = total // 2, total - total // 2
            begin[i], end[i] = (small, large) if auto_pad == "SAME_UPPER" else (large, small)
    out = []
    for i in range(n):
        room = size[i] + begin[i] + end[i] - (kernel[i] - 1) * dilations[i] - 1
        steps = math.ceil(room / strides[i]) if ceil else room // strides[i]
        if ceil and steps * strides[i] >= size[i] + begin[i]:
            steps -= 1  # a window must begin inside the image or its left padding
        out.append(steps + 1)
    return strides, dilations, begin, end, out


def _windows(
    x: Array,
    kernel: Sequence[int],
    strides: list[int],
    dilations: list[int],
    begin: list[int],
    out: list[int],
    fill: float,
) -> Array:
    """(N, C, *out, *kernel), a view of the padded x."""
    reach = [(o - 1) * s + (k - 1) * d + 1 for o, s, k, d in zip(out, strides, kernel, dilations, strict=True)]
    amounts = [(b, max(0, r - b - n)) for b, r, n in zip(begin, reach, x.shape[2:], strict=True)]
    x = np.pad(x, [(0, 0), (0, 0), *amounts], constant_values=fill)
    steps = x.strides[2:]
    return np.lib.stride_tricks.as_strided(
        x,
        (*x.shape[:2], *out, *kernel),
        (
            *x.strides[:2],
            *(a * s for a, s in zip(steps, strides, strict=True)),
            *(a * d for a, d in zip(steps, dilations, strict=True)),
        ),
        writeable=False,
    )


class Conv(OpRun):
    """Cross-correlation: one matrix product per group; per kernel position where a group has one channel."""

    def _run(
        self,
        x: Array,
        w: Array,
        b: Array | None = None,
        auto_pad: Any = None,
        dilations: Any = None,
        group: Any = None,
        kernel_shape: Any = None,
        pads: Any = None,
        strides: Any = None,
    ) -> tuple[Array]:
        kernel, group = w.shape[2:], group or 1
        strides, dilations, begin, _, out = _geometry(x.shape[2:], kernel, auto_pad, dilations, pads, strides)
        seen, n = _windows(x, kernel, strides, dilations, begin, out, 0.0), len(kernel)
        inner = w.shape[1]
        y = np.zeros((len(x), len(w), *out), x.dtype)
        if inner == 1:
            factor = len(w) // group
            for at in itertools.product(*map(range, kernel)):
                place: Any = (..., *at)
                y += np.repeat(seen[place], factor, axis=1) * w[:, 0][place].reshape(-1, *[1] * n)
        else:
            axes = [1, *range(2 + n, 2 + 2 * n)]
            for g, (xs, ws) in enumerate(zip(np.split(seen, group, 1), np.split(w, group, 0), strict=True)):
                product = np.tensordot(xs, ws, (axes, [1, *range(2, 2 + n)]))
                y[:, g * len(ws) : (g + 1) * len(ws)] = np.moveaxis(product, -1, 1)
        return (y if b is None else y + b.reshape(-1, *[1] * n),)


class ConvTranspose(OpRun):
    """Every input position adds its weighted kernel to the output."""

    def _run(
        self,
        x: Array,
        w: Array,
        b: Array | None = None,
        auto_pad: Any = None,
        dilations: Any = None,
        group: Any = None,
        kernel_shape: Any = None,
        output_padding: Any = None,
        output_shape: Any = None,
        pads: Any = None,
        strides: Any = None,
    ) -> tuple[Array]:
        kernel, group, n = w.shape[2:], group or 1, w.ndim - 2
        strides, dilations = list(strides or [1] * n), list(dilations or [1] * n)
        extra = list(output_padding or [0] * n)
        size = x.shape[2:]
        full = [(i - 1) * s + (k - 1) * d + 1 for i, s, k, d in zip(size, strides, kernel, dilations, strict=True)]
        begin, end = (list(pads[:n]), list(pads[n:])) if pads is not None else ([0] * n, [0] * n)
        if output_shape is not None or auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            wanted = (
                list(output_shape)[-n:]
                if output_shape is not None
                else [i * s for i, s in zip(size, strides, strict=True)]
            )
            total = [f + e - o for f, e, o in zip(full, extra, wanted, strict=True)]
            begin = [t // 2 if auto_pad == "SAME_UPPER" else t - t // 2 for t in total]
            end = [t - p for t, p in zip(total, begin, strict=True)]
        sides = [max(f, f + e - p) for f, e, p in zip(full, extra, end, strict=True)]
        y = np.zeros((len(x), w.shape[1] * group, *sides), x.dtype)
        for g, (xs, ws) in enumerate(zip(np.split(x, group, 1), np.split(w, group, 0), strict=True)):
            rows = slice(g * w.shape[1], (g + 1) * w.shape[1])
            for at in itertools.product(*map(range, kernel)):
                place: Any = (..., *at)
                lines = zip(at, dilations, size, strides, strict=True)
                places: Any = (slice(None), rows, *(slice(a * d, a * d + (i - 1) * s + 1, s) for a, d, i, s in lines))
                y[places] += np.moveaxis(np.tensordot(xs, ws[place], ([1], [0])), -1, 1)
        cut = tuple(slice(p, f + e - q) for p, f, e, q in zip(begin, full, extra, end, strict=True))
        y = y[(slice(None), slice(None), *cut)]
        return (y if b is None else y + b.reshape(-1, *[1] * n),)


class MaxPool(OpRun):
    """The maximum of every window; what lies outside the image does not count."""

    def _run(
        self,
        x: Array,
        auto_pad: Any = None,
        ceil_mode: Any = None,
        dilations: Any = None,
        kernel_shape: Any = None,
        pads: Any = None,
        storage_order: Any = None,
        strides: Any = None,
    ) -> tuple[Array]:
        if len(self.onnx_node.output) > 1:
            raise NotImplementedError("MaxPool with indices")
        strides, dilations, begin, _, out = _geometry(
            x.shape[2:], kernel_shape, auto_pad, dilations, pads, strides, bool(ceil_mode)
        )
        seen = _windows(x, kernel_shape, strides, dilations, begin, out, -math.inf)
        return (seen.max(axis=tuple(range(x.ndim, seen.ndim))),)


class AveragePool(OpRun):
    """The mean of every window, over the image or over image and padding (``count_include_pad``)."""

    def _run(
        self,
        x: Array,
        auto_pad: Any = None,
        ceil_mode: Any = None,
        count_include_pad: Any = None,
        dilations: Any = None,
        kernel_shape: Any = None,
        pads: Any = None,
        strides: Any = None,
    ) -> tuple[Array]:
        strides, dilations, begin, end, out = _geometry(
            x.shape[2:], kernel_shape, auto_pad, dilations, pads, strides, bool(ceil_mode)
        )
        axes = tuple(range(x.ndim, x.ndim + len(kernel_shape)))
        total = _windows(x, kernel_shape, strides, dilations, begin, out, 0.0).sum(axis=axes)
        ones = np.ones((1, 1, *x.shape[2:]), x.dtype)
        if count_include_pad:
            ones = np.pad(ones, [(0, 0), (0, 0), *zip(begin, end, strict=True)], constant_values=1.0)
            begin = [0] * len(begin)
        return (total / _windows(ones, kernel_shape, strides, dilations, begin, out, 0.0).sum(axis=axes),)


def _erf(x: Array) -> Array:
    return np.asarray(np.frompyfunc(math.erf, 1, 1)(x), x.dtype)


class Erf(OpRun):
    """``erf``, by the C library."""

    def _run(self, x: Array) -> tuple[Array]:
        return (_erf(x),)


class Gelu(OpRun):
    """``x Phi(x)``, or its approximation by tanh."""

    def _run(self, x: Array, approximate: Any = None) -> tuple[Array]:
        if approximate == "tanh":
            return (0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),)
        return (0.5 * x * (1 + _erf(x / math.sqrt(2))),)


class HardSwish(OpRun):
    """``x clip(x / 6 + 1/2, 0, 1)``; ONNX's own rounds 1/6 to float32."""

    def _run(self, x: Array) -> tuple[Array]:
        return (x * np.clip(x / 6 + 0.5, 0, 1),)


class Pad(OpRun):
    """Negative amounts crop; ONNX's own refuses them."""

    def _run(
        self, x: Array, pads: Array, fill: Array | None = None, axes: Array | None = None, mode: Any = None
    ) -> tuple[Array]:
        chosen = list(range(x.ndim)) if axes is None else [int(a) % x.ndim for a in axes]
        widths = [(0, 0)] * x.ndim
        for i, axis in enumerate(chosen):
            widths[axis] = int(pads[i]), int(pads[len(chosen) + i])
        inside = tuple(slice(max(0, -b), n - max(0, -a)) for (b, a), n in zip(widths, x.shape, strict=True))
        grown = [(max(0, b), max(0, a)) for b, a in widths]
        if mode in (None, "constant"):
            return (np.pad(x[inside], grown, constant_values=0 if fill is None else np.asarray(fill).item()),)
        return (np.pad(x[inside], grown, mode=mode),)


_OPERATORS = [Conv, ConvTranspose, MaxPool, AveragePool, Erf, Gelu, HardSwish, Pad]
