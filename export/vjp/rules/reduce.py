"""Reductions over axes given as an attribute or as a constant input."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from export.vjp.emit import shape_of
from export.vjp.registry import Site, rule


def _kept(s: Site, value: ir.Value) -> tuple[ir.Value, list[int]]:
    """(value with the reduced axes kept as 1, the reduced axes)."""
    shape = s.shape()
    axes = s.ints(1, s.attribute("axes", None))
    if not axes:
        axes = [] if s.attribute("noop_with_empty_axes", 0) else list(range(len(shape)))
    axes = sorted(a % len(shape) for a in axes)
    return s.e.reshape(value, tuple(1 if i in axes else n for i, n in enumerate(shape))), axes


@rule("ReduceSum")
def reduce_sum(s: Site) -> Mapping[int, ir.Value]:
    """``y = sum x``:  ``dx = g`` everywhere."""
    return {0: _kept(s, s.g)[0]}


@rule("ReduceMean")
def reduce_mean(s: Site) -> Mapping[int, ir.Value]:
    """``y = mean x``:  ``dx = g / n`` everywhere."""
    g, axes = _kept(s, s.g)
    return {0: s.e.mul(g, 1 / math.prod(s.shape()[a] for a in axes))}


@rule("ReduceSumSquare")
def reduce_sum_square(s: Site) -> Mapping[int, ir.Value]:
    """``y = sum x^2``:  ``dx = 2 x g``."""
    return {0: s.e.op("Mul", s.e.mul(_kept(s, s.g)[0], 2.0), s.x)}


@rule("ReduceL1")
def reduce_l1(s: Site) -> Mapping[int, ir.Value]:
    """``y = sum |x|``:  ``dx = g sign x``."""
    return {0: s.e.op("Mul", _kept(s, s.g)[0], s.e.op("Sign", s.x))}


@rule("ReduceL2")
def reduce_l2(s: Site) -> Mapping[int, ir.Value]:
    """``y = |x|``:  ``dx = g x / y``; 0 where y is 0."""
    e = s.e
    y = _kept(s, s.y)[0]
    zero = e.const(0.0, like=y)
    safe = e.op("Where", e.op("Greater", y, zero), y, e.const(1.0, like=y))
    return {0: e.op("Mul", e.op("Div", _kept(s, s.g)[0], safe), s.x)}


@rule("ReduceLogSum")
def reduce_log_sum(s: Site) -> Mapping[int, ir.Value]:
    """``y = log sum x``:  ``dx = g e^-y`` everywhere."""
    e = s.e
    return {0: _kept(s, e.op("Mul", s.g, e.op("Exp", e.op("Neg", s.y))))[0]}


@rule("CumSum")
def cum_sum(s: Site) -> Mapping[int, ir.Value]:
    """``y = running sum of x``:  dx is the running sum of g from the other end."""
    axis = s.ints(1)
    assert axis is not None
    asked = {"exclusive": s.attribute("exclusive", 0), "reverse": 1 - s.attribute("reverse", 0)}
    return {0: s.e.op("CumSum", s.g, s.e.const(np.asarray(axis[0] % len(s.shape()), np.int64)), **asked)}


@rule("ReduceLogSumExp")
def reduce_log_sum_exp(s: Site) -> Mapping[int, ir.Value]:
    """``y = log sum e^x``:  ``dx = g e^(x - y)``."""
    e = s.e
    return {0: e.op("Mul", _kept(s, s.g)[0], e.op("Exp", e.op("Sub", s.x, _kept(s, s.y)[0])))}


@rule("ReduceMax", "ReduceMin")
def reduce_extreme(s: Site) -> Mapping[int, ir.Value]:
    """``y = max x``: g to the elements equal to y; ties share it evenly, as ``torch.amax``."""
    e = s.e
    g, axes = _kept(s, s.g)
    hit = e.op("Cast", e.op("Equal", s.x, _kept(s, s.y)[0]), to=int(s.x.dtype or 1))
    return {0: e.op("Mul", e.op("Div", g, e.sum(hit, axes)), hit)}


@rule("ReduceProd")
def reduce_prod(s: Site) -> Mapping[int, ir.Value]:
    """``y = prod x``:  ``dx = g`` times the product of the other elements, which is 0 if another one is 0."""
    e = s.e
    g, axes = _kept(s, s.g)
    zero = e.op("Cast", e.op("Equal", s.x, e.const(0.0, like=s.x)), to=int(s.x.dtype or 1))
    rest = e.op("Add", s.x, zero)  # without the zeros
    product = _product(s, rest, axes) if axes else rest
    others = e.op("Sub", e.sum(zero, axes), zero)
    alone = e.op("Less", others, e.const(0.5, like=others))
    return {0: e.op("Mul", g, e.masked(e.op("Div", product, rest), alone))}


def _product(s: Site, value: ir.Value, axes: list[int]) -> ir.Value:
    if s.e.opset < 18:
        return s.e.op("ReduceProd", value, axes=axes)
    return s.e.op("ReduceProd", value, s.e.ints(*axes))


@rule("Softmax", since=13)
def softmax(s: Site) -> Mapping[int, ir.Value]:
    """``y = e^x / sum e^x``:  ``dx = y (g - sum y g)`` along the axis."""
    e = s.e
    axis = s.attribute("axis", -1) % len(s.shape())
    inner = e.sum(e.op("Mul", s.y, s.g), [axis])
    return {0: e.op("Mul", s.y, e.op("Sub", s.g, inner))}


@rule("LogSoftmax", since=13)
def log_softmax(s: Site) -> Mapping[int, ir.Value]:
    """``y = x - log sum e^x``:  ``dx = g - e^y sum g`` along the axis."""
    e = s.e
    axis = s.attribute("axis", -1) % len(shape_of(s.y))
    return {0: e.op("Sub", s.g, e.op("Mul", e.op("Exp", s.y), e.sum(s.g, [axis])))}
