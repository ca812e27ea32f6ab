"""Activation functions; at a kink the derivative is PyTorch's."""

from __future__ import annotations

import math
from collections.abc import Mapping

import onnx_ir as ir

from export.passes.constants import constant_of
from export.vjp.emit import Emitter
from export.vjp.registry import Site, rule
from export.vjp.rules.elementwise import unary


@rule("Relu")
def relu(s: Site) -> Mapping[int, ir.Value]:
    """``y = max(x, 0)``:  ``dx = g [y > 0]``; 0 at 0, as PyTorch."""
    return {0: s.e.masked(s.g, s.e.op("Greater", s.y, s.e.const(0.0, like=s.y)))}


def _step(e: Emitter, x: ir.Value) -> ir.Value:
    """``[x > 0]`` as a number."""
    return e.op("Cast", e.op("Greater", x, e.const(0.0, like=x)), to=int(x.dtype or 1))


def _either(e: Emitter, step: ir.Value, low: ir.Value) -> ir.Value:
    """``step + (1 - step) low``: 1 where x > 0, else exactly low. Ten times faster than Where under ONNX Runtime."""
    known = constant_of(low)
    if known is not None and known.min() >= 0 and known.max() <= 1:
        return e.op("Max", step, low)
    return e.op("Add", step, e.op("Mul", e.op("Sub", e.const(1.0, like=step), step), low))


@rule("LeakyRelu")
def leaky_relu(s: Site) -> Mapping[int, ir.Value]:
    """``y = x > 0 ? x : alpha x``:  ``dx = g (x > 0 ? 1 : alpha)``."""
    e = s.e
    return {0: e.op("Mul", s.g, _either(e, _step(e, s.x), e.const(s.attribute("alpha", 0.01), like=s.x)))}


@rule("PRelu")
def prelu(s: Site) -> Mapping[int, ir.Value]:
    """``y = x > 0 ? x : a x``:  ``dx = g (x > 0 ? 1 : a)``."""
    s.only_input(0)
    return {0: s.e.op("Mul", s.g, _either(s.e, _step(s.e, s.x), s.input(1)))}


@rule("Clip")
def clip(s: Site) -> Mapping[int, ir.Value]:
    """``y = min(max(x, low), high)``:  ``dx = g [low < x < high]``; 0 at the bounds, as ReLU6."""
    e, inside = s.e, None
    for index, kind in ((1, "Greater"), (2, "Less")):
        bound = s.input(index) if s.has(index) else None
        name = ("min", "max")[index - 1]
        if bound is None and name in s.node.attributes:
            bound = e.const(s.attribute(name, 0.0), like=s.x)
        if bound is not None:
            test = e.op(kind, s.y, bound)
            inside = test if inside is None else e.op("And", inside, test)
    return {0: s.g if inside is None else e.masked(s.g, inside)}


@rule("HardSigmoid")
def hard_sigmoid(s: Site) -> Mapping[int, ir.Value]:
    """``y = clip(alpha x + beta, 0, 1)``:  ``dx = alpha g [0 < y < 1]``."""
    return {0: _inside_unit(s, s.e.mul(s.g, s.attribute("alpha", 0.2)), s.y)}


def _inside_unit(s: Site, value: ir.Value, y: ir.Value) -> ir.Value:
    e = s.e
    low = e.op("Greater", y, e.const(0.0, like=y))
    return e.masked(value, e.op("And", low, e.op("Less", y, e.const(1.0, like=y))))


@rule("HardSwish")
def hard_swish(s: Site) -> Mapping[int, ir.Value]:
    """``y = x clip(x / 6 + 1/2, 0, 1)``:  ``dx = g (h + x/6 [0 < h < 1])`` with ``h = clip(x / 6 + 1/2, 0, 1)``."""
    e = s.e
    raw = e.op("Add", e.mul(s.x, 1 / 6), e.const(0.5, like=s.x))
    h = e.op("Clip", raw, e.const(0.0, like=s.x), e.const(1.0, like=s.x))
    return {0: e.op("Mul", s.g, e.op("Add", h, _inside_unit(s, e.mul(s.x, 1 / 6), h)))}


@rule("Elu")
def elu(s: Site) -> Mapping[int, ir.Value]:
    """``y = x > 0 ? x : alpha (e^x - 1)``:  ``dx = g (x > 0 ? 1 : y + alpha)``."""
    e, alpha = s.e, s.attribute("alpha", 1.0)
    below = e.op("Min", s.y, e.const(0.0, like=s.y)) if alpha == 1 else s.y
    below = e.op("Add", below, e.const(alpha, like=s.y))
    return {0: e.op("Mul", s.g, below if alpha == 1 else _either(e, _step(e, s.x), below))}


@rule("Selu")
def selu(s: Site) -> Mapping[int, ir.Value]:
    """``y = gamma (x > 0 ? x : alpha (e^x - 1))``:  ``dx = g gamma (x > 0 ? 1 : y / gamma + alpha)``."""
    e = s.e
    alpha, gamma = s.attribute("alpha", 1.6732631921768188), s.attribute("gamma", 1.0507010221481323)
    below = e.op("Add", e.mul(s.y, 1 / gamma), e.const(alpha, like=s.y))
    return {0: e.op("Mul", e.mul(s.g, gamma), _either(e, _step(e, s.x), below))}


@rule("Gelu")
def gelu(s: Site) -> Mapping[int, ir.Value]:
    """``y = x Phi(x)``:  ``dx = g (Phi(x) + x phi(x))``; with ``approximate="tanh"`` the derivative of that formula."""
    e, x = s.e, s.x
    half = e.const(0.5, like=x)
    if s.attribute("approximate", "none") == "tanh":
        c = math.sqrt(2 / math.pi)
        square = e.op("Mul", x, x)
        inner = e.op("Mul", x, e.op("Add", e.mul(square, c * 0.044715), e.const(c, like=x)))
        t = e.op("Tanh", inner)
        slope = e.op("Add", e.mul(square, 3 * c * 0.044715), e.const(c, like=x))
        rest = e.op("Mul", e.op("Sub", e.const(1.0, like=x), e.op("Mul", t, t)), slope)
        first = e.op("Mul", half, e.op("Add", t, e.const(1.0, like=x)))
        return {0: e.op("Mul", s.g, e.op("Add", first, e.op("Mul", half, e.op("Mul", x, rest))))}
    phi = e.mul(e.op("Exp", e.mul(e.op("Mul", x, x), -0.5)), 1 / math.sqrt(2 * math.pi))
    upper = e.op("Mul", half, e.op("Add", e.op("Erf", e.mul(x, 1 / math.sqrt(2))), e.const(1.0, like=x)))
    return {0: e.op("Mul", s.g, e.op("Add", upper, e.op("Mul", x, phi)))}


@unary("Softplus")
def softplus(e: Emitter, x: ir.Value, y: ir.Value) -> ir.Value:
    """``y = log(1 + e^x)``:  ``dx = g sigmoid x``."""
    return e.op("Sigmoid", x)


@unary("Mish")
def mish(e: Emitter, x: ir.Value, y: ir.Value) -> ir.Value:
    """``y = x tanh(softplus x)``:  ``dx = g (t + x (1 - t^2) sigmoid x)`` with ``t = tanh(softplus x)``."""
    t = e.op("Tanh", e.op("Softplus", x))
    slope = e.op("Mul", e.op("Sub", e.const(1.0, like=x), e.op("Mul", t, t)), e.op("Sigmoid", x))
    return e.op("Add", t, e.op("Mul", x, slope))


@rule("Celu")
def celu(s: Site) -> Mapping[int, ir.Value]:
    """``y = max(x, 0) + min(alpha (e^(x / alpha) - 1), 0)``:  ``dx = g (1 + min(y, 0) / alpha)``."""
    e, alpha = s.e, s.attribute("alpha", 1.0)
    if alpha <= 0:
        raise s.refuse("its alpha is not positive")
    below = e.mul(e.op("Min", s.y, e.const(0.0, like=s.y)), 1 / alpha)
    return {0: e.op("Mul", s.g, e.op("Add", below, e.const(1.0, like=s.y)))}


@rule("Swish")
def swish(s: Site) -> Mapping[int, ir.Value]:
    """``y = x sigmoid(alpha x)``:  ``dx = g (s + alpha y (1 - s))`` with ``s = sigmoid(alpha x)``."""
    e, alpha = s.e, s.attribute("alpha", 1.0)
    sigmoid = e.op("Sigmoid", e.mul(s.x, alpha))
    rest = e.op("Mul", e.mul(s.y, alpha), e.op("Sub", e.const(1.0, like=s.y), sigmoid))
    return {0: e.op("Mul", s.g, e.op("Add", sigmoid, rest))}


@rule("Softsign")
def softsign(s: Site) -> Mapping[int, ir.Value]:
    """``y = x / (1 + |x|)``:  ``dx = g / (1 + |x|)^2``."""
    e = s.e
    below = e.op("Add", e.op("Abs", s.x), e.const(1.0, like=s.x))
    return {0: e.op("Div", s.g, e.op("Mul", below, below))}


@rule("ThresholdedRelu")
def thresholded_relu(s: Site) -> Mapping[int, ir.Value]:
    """``y = x > alpha ? x : 0``:  ``dx = g [x > alpha]``."""
    return {0: s.e.masked(s.g, s.e.op("Greater", s.x, s.e.const(s.attribute("alpha", 1.0), like=s.x)))}


@rule("Shrink")
def shrink(s: Site) -> Mapping[int, ir.Value]:
    """``y = x - bias sign x where |x| > lambd, else 0``:  ``dx = g [|x| > lambd]``."""
    e = s.e
    return {0: e.masked(s.g, e.op("Greater", e.op("Abs", s.x), e.const(s.attribute("lambd", 0.5), like=s.x)))}
