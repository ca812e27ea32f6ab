"""Elementwise functions; broadcasting is undone by the walk."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import onnx_ir as ir

from export.passes.constants import constant_of
from export.vjp.emit import Emitter
from export.vjp.registry import Site, rule, zero_derivative

zero_derivative("Floor", "Ceil", "Round", "Sign", reason="piecewise constant; PyTorch's derivative is zero as well")
zero_derivative(
    "Shape", "Size", "ArgMax", "ArgMin", "NonZero", "IsNaN", "IsInf", "Equal", "Less", "LessOrEqual", "Greater",
    "GreaterOrEqual", "And", "Or", "Not", "Xor", "EyeLike", "ConstantOfShape", "OneHot", "Range",
    reason="the output is not a real-valued function of the input",
)  # fmt: skip


def unary(*ops: str) -> Callable[[Callable[[Emitter, ir.Value, ir.Value], ir.Value]], object]:
    """Register ``y = f(x)`` by ``(e, x, y) -> f'(x)``."""

    def register(derivative: Callable[[Emitter, ir.Value, ir.Value], ir.Value]) -> object:
        def apply(s: Site) -> Mapping[int, ir.Value]:
            return {0: s.e.op("Mul", s.g, derivative(s.e, s.x, s.y))}

        apply.__doc__ = derivative.__doc__
        rule(*ops)(apply)
        return apply

    return register


@rule("Identity", "Dropout")
def identity(s: Site) -> Mapping[int, ir.Value]:
    """``y = x``:  ``dx = g``. (Dropout outside training.)"""
    return {0: s.g}


@rule("Cast")
def cast(s: Site) -> Mapping[int, ir.Value]:
    """``y = x in another float type``:  ``dx = g`` in x's type."""
    assert s.x.dtype is not None
    return {0: s.e.op("Cast", s.g, to=int(s.x.dtype))}


@rule("Add")
def add(s: Site) -> Mapping[int, ir.Value]:
    """``y = a + b``:  ``da = db = g``."""
    return {0: s.g, 1: s.g}


@rule("Sub")
def sub(s: Site) -> Mapping[int, ir.Value]:
    """``y = a - b``:  ``da = g``, ``db = -g``."""
    return {0: s.g} | ({1: s.e.op("Neg", s.g)} if s.wanted[1] else {})


@rule("Mul")
def mul(s: Site) -> Mapping[int, ir.Value]:
    """``y = a b``:  ``da = g b``, ``db = g a``."""
    return {i: s.e.op("Mul", s.g, s.input(1 - i)) for i in (0, 1) if s.wanted[i]}


@rule("Div")
def div(s: Site) -> Mapping[int, ir.Value]:
    """``y = a / b``:  ``da = g / b``, ``db = -g y / b``."""
    e, made = s.e, {}
    quotient = e.op("Div", s.g, s.input(1))
    if s.wanted[0]:
        made[0] = quotient
    if s.wanted[1]:
        made[1] = e.op("Neg", e.op("Mul", quotient, s.y))
    return made


@rule("Sum")
def sum_(s: Site) -> Mapping[int, ir.Value]:
    """``y = a + b + ...``:  every derivative is g."""
    return dict.fromkeys(range(len(s.wanted)), s.g)


@rule("Mean")
def mean(s: Site) -> Mapping[int, ir.Value]:
    """``y = (a + b + ...) / n``:  every derivative is g / n."""
    share = s.e.mul(s.g, 1 / len(s.wanted))
    return dict.fromkeys(range(len(s.wanted)), share)


@rule("Max", "Min")
def max_min(s: Site) -> Mapping[int, ir.Value]:
    """``y = max(a, b, ...)``: g to the input that equals y; ties share it evenly, as ``torch.maximum`` does for two."""
    e = s.e
    if len(s.wanted) == 1:
        return {0: s.g}
    hits = [e.op("Cast", e.op("Equal", s.input(i), s.y), to=int(s.y.dtype or 1)) for i in range(len(s.wanted))]
    count = hits[0]
    for hit in hits[1:]:
        count = e.op("Add", count, hit)
    share = e.op("Div", s.g, count)
    return {i: e.op("Mul", share, hit) for i, hit in enumerate(hits) if s.wanted[i]}


@rule("Where")
def where(s: Site) -> Mapping[int, ir.Value]:
    """``y = c ? a : b``:  ``da = c ? g : 0``, ``db = c ? 0 : g``."""
    e, made = s.e, {}
    zero = e.const(0.0, like=s.g)
    if s.wanted[1]:
        made[1] = e.op("Where", s.input(0), s.g, zero)
    if s.wanted[2]:
        made[2] = e.op("Where", s.input(0), zero, s.g)
    return made


@rule("Relu")
def relu(s: Site) -> Mapping[int, ir.Value]:
    """``y = max(x, 0)``:  ``dx = g [y > 0]``; 0 at 0, as PyTorch."""
    return {0: s.e.masked(s.g, s.e.op("Greater", s.y, s.e.const(0.0, like=s.y)))}


@rule("LeakyRelu")
def leaky_relu(s: Site) -> Mapping[int, ir.Value]:
    """``y = x > 0 ? x : alpha x``:  ``dx = x > 0 ? g : alpha g``."""
    positive = s.e.op("Greater", s.x, s.e.const(0.0, like=s.x))
    return {0: s.e.op("Where", positive, s.g, s.e.mul(s.g, s.attribute("alpha", 0.01)))}


@rule("PRelu")
def prelu(s: Site) -> Mapping[int, ir.Value]:
    """``y = x > 0 ? x : a x``:  ``dx = x > 0 ? g : a g``."""
    s.only_input(0)
    positive = s.e.op("Greater", s.x, s.e.const(0.0, like=s.x))
    return {0: s.e.op("Where", positive, s.g, s.e.op("Mul", s.g, s.input(1)))}


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


@rule("Pow")
def power(s: Site) -> Mapping[int, ir.Value]:
    """``y = x^p``:  ``dx = g p x^(p - 1)``; ``dp = g y log x``."""
    e, p = s.e, s.input(1)
    made = {}
    if s.wanted[0]:
        exponent = constant_of(p)
        if exponent is not None and exponent.size == 1:
            n = float(exponent.reshape(()))
            lower = s.x if n == 2 else e.op("Pow", s.x, e.const(n - 1, like=s.x))
            made[0] = e.op("Mul", s.g, e.mul(lower, n))
        else:
            q = p if p.dtype == s.x.dtype else e.op("Cast", p, to=int(s.x.dtype or 1))
            lower = e.op("Pow", s.x, e.op("Sub", q, e.const(1.0, like=s.x)))
            made[0] = e.op("Mul", s.g, e.op("Mul", q, lower))
    if s.wanted[1]:
        made[1] = e.op("Mul", s.g, e.op("Mul", s.y, e.op("Log", s.x)))
    return made


@rule("Neg")
def neg(s: Site) -> Mapping[int, ir.Value]:
    """``y = -x``:  ``dx = -g``."""
    return {0: s.e.op("Neg", s.g)}


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
    """``y = x > 0 ? x : alpha (e^x - 1)``:  ``dx = x > 0 ? g : g (y + alpha)``."""
    e, alpha = s.e, s.attribute("alpha", 1.0)
    positive = e.op("Greater", s.x, e.const(0.0, like=s.x))
    return {0: e.op("Where", positive, s.g, e.op("Mul", s.g, e.op("Add", s.y, e.const(alpha, like=s.y))))}


@rule("Selu")
def selu(s: Site) -> Mapping[int, ir.Value]:
    """``y = gamma (x > 0 ? x : alpha (e^x - 1))``:  ``dx = x > 0 ? gamma g : g (y + gamma alpha)``."""
    e = s.e
    alpha, gamma = s.attribute("alpha", 1.6732632), s.attribute("gamma", 1.0507010)
    positive = e.op("Greater", s.x, e.const(0.0, like=s.x))
    below = e.op("Mul", s.g, e.op("Add", s.y, e.const(gamma * alpha, like=s.y)))
    return {0: e.op("Where", positive, e.mul(s.g, gamma), below)}


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


@unary("Sigmoid")
def sigmoid(e: Emitter, x: ir.Value, y: ir.Value) -> ir.Value:
    """``y = 1 / (1 + e^-x)``:  ``dx = g y (1 - y)``."""
    return e.op("Mul", y, e.op("Sub", e.const(1.0, like=y), y))


@unary("Tanh")
def tanh(e: Emitter, x: ir.Value, y: ir.Value) -> ir.Value:
    """``y = tanh x``:  ``dx = g (1 - y^2)``."""
    return e.op("Sub", e.const(1.0, like=y), e.op("Mul", y, y))


@unary("Exp")
def exp(e: Emitter, x: ir.Value, y: ir.Value) -> ir.Value:
    """``y = e^x``:  ``dx = g y``."""
    return y


@unary("Log")
def log(e: Emitter, x: ir.Value, y: ir.Value) -> ir.Value:
    """``y = log x``:  ``dx = g / x``."""
    return e.op("Reciprocal", x)


@unary("Sqrt")
def sqrt(e: Emitter, x: ir.Value, y: ir.Value) -> ir.Value:
    """``y = sqrt x``:  ``dx = g / (2 y)``."""
    return e.op("Div", e.const(0.5, like=y), y)


@unary("Reciprocal")
def reciprocal(e: Emitter, x: ir.Value, y: ir.Value) -> ir.Value:
    """``y = 1 / x``:  ``dx = -g y^2``."""
    return e.op("Neg", e.op("Mul", y, y))


@unary("Abs")
def absolute(e: Emitter, x: ir.Value, y: ir.Value) -> ir.Value:
    """``y = |x|``:  ``dx = g sign x``; 0 at 0."""
    return e.op("Sign", x)


@unary("Erf")
def erf(e: Emitter, x: ir.Value, y: ir.Value) -> ir.Value:
    """``y = erf x``:  ``dx = g 2 / sqrt(pi) e^(-x^2)``."""
    return e.mul(e.op("Exp", e.op("Neg", e.op("Mul", x, x))), 2 / math.sqrt(math.pi))


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


@unary("Sin")
def sin(e: Emitter, x: ir.Value, y: ir.Value) -> ir.Value:
    """``y = sin x``:  ``dx = g cos x``."""
    return e.op("Cos", x)


@unary("Cos")
def cos(e: Emitter, x: ir.Value, y: ir.Value) -> ir.Value:
    """``y = cos x``:  ``dx = -g sin x``."""
    return e.op("Neg", e.op("Sin", x))
