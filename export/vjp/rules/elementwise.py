"""Elementwise functions; broadcasting is undone by the walk."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from export.passes.constants import constant_of
from export.vjp.emit import Emitter
from export.vjp.registry import Site, rule, zero_derivative

zero_derivative("Floor", "Ceil", "Round", "Sign", reason="piecewise constant; PyTorch's derivative is zero as well")
zero_derivative("Hardmax", reason="piecewise constant: 1 at the maximum, 0 elsewhere")
zero_derivative(
    "Shape", "Size", "ArgMax", "ArgMin", "NonZero", "IsNaN", "IsInf", "Equal", "Less", "LessOrEqual", "Greater",
    "GreaterOrEqual", "And", "Or", "Not", "Xor", "EyeLike", "ConstantOfShape",
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


@rule("Identity")
def identity(s: Site) -> Mapping[int, ir.Value]:
    """``y = x``:  ``dx = g``."""
    return {0: s.g}


@rule("Dropout")
def dropout(s: Site) -> Mapping[int, ir.Value]:
    """``y = x`` outside training:  ``dx = g``."""
    if s.has(2):
        training = constant_of(s.input(2))
        if training is None or training.any():
            raise s.refuse("it may be in training mode; export the network in eval mode")
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
    """``y = c ? a : b``:  ``da = g [c]``, ``db = g [not c]``."""
    made = {}
    if s.wanted[1]:
        made[1] = s.e.masked(s.g, s.input(0))
    if s.wanted[2]:
        made[2] = s.e.masked(s.g, s.e.op("Not", s.input(0)))
    return made


@rule("Pow")
def power(s: Site) -> Mapping[int, ir.Value]:
    """``y = x^p``:  ``dx = g p x^(p - 1)``, 0 where p is 0;  ``dp = g y log x``, 0 where x is 0."""
    e, p = s.e, s.input(1)
    kind = int(s.x.dtype or 1)
    made = {}
    if s.wanted[0]:
        made[0] = e.op("Mul", s.g, _power_slope(s, constant_of(p)))
    if s.wanted[1]:
        positive = e.op("Add", s.x, e.op("Cast", e.op("Equal", s.x, e.const(0.0, like=s.x)), to=kind))
        made[1] = e.op("Mul", s.g, e.op("Mul", s.y, e.op("Log", positive)))
        if p.dtype != s.x.dtype:
            made[1] = e.op("Cast", made[1], to=int(p.dtype or 1))
    return made


def _power_slope(s: Site, known: npt.NDArray[Any] | None) -> ir.Value:
    """``p x^(p - 1)``; the exponent is kept at 0 where p is 0, so that 0 x^-1 is never computed at x = 0."""
    e, p = s.e, s.input(1)
    if known is None:
        q = p if p.dtype == s.x.dtype else e.op("Cast", p, to=int(s.x.dtype or 1))
        some = e.op("Not", e.op("Equal", q, e.const(0.0, like=q)))
        lower = e.op("Sub", q, e.op("Cast", some, to=int(q.dtype or 1)))
        return e.op("Mul", q, e.op("Pow", s.x, lower))
    if known.size == 1 and float(known.reshape(())) == 2:
        return e.mul(s.x, 2.0)
    lower = e.const(np.where(known == 0, 0.0, known - 1.0), like=s.x)
    return e.op("Mul", e.const(known, like=s.x), e.op("Pow", s.x, lower))


@rule("Neg")
def neg(s: Site) -> Mapping[int, ir.Value]:
    """``y = -x``:  ``dx = -g``."""
    return {0: s.e.op("Neg", s.g)}


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


@unary("Sin")
def sin(e: Emitter, x: ir.Value, y: ir.Value) -> ir.Value:
    """``y = sin x``:  ``dx = g cos x``."""
    return e.op("Cos", x)


@unary("Cos")
def cos(e: Emitter, x: ir.Value, y: ir.Value) -> ir.Value:
    """``y = cos x``:  ``dx = -g sin x``."""
    return e.op("Neg", e.op("Sin", x))


@unary("Tan")
def tan(e: Emitter, x: ir.Value, y: ir.Value) -> ir.Value:
    """``y = tan x``:  ``dx = g (1 + y^2)``."""
    return e.op("Add", e.const(1.0, like=y), e.op("Mul", y, y))


def _hyperbola(e: Emitter, y: ir.Value, sign: str) -> ir.Value:
    """``sqrt(1 + y^2)``, with ``sign`` Sub ``sqrt(1 - y^2)``."""
    return e.op("Sqrt", e.op(sign, e.const(1.0, like=y), e.op("Mul", y, y)))


@unary("Sinh")
def sinh(e: Emitter, x: ir.Value, y: ir.Value) -> ir.Value:
    """``y = sinh x``:  ``dx = g cosh x = g sqrt(1 + y^2)``."""
    return _hyperbola(e, y, "Add")


@unary("Cosh")
def cosh(e: Emitter, x: ir.Value, y: ir.Value) -> ir.Value:
    """``y = cosh x``:  ``dx = g sinh x = g y tanh x``."""
    return e.op("Mul", y, e.op("Tanh", x))


@unary("Asin")
def asin(e: Emitter, x: ir.Value, y: ir.Value) -> ir.Value:
    """``y = asin x``:  ``dx = g / sqrt(1 - x^2)``."""
    return e.op("Reciprocal", _hyperbola(e, x, "Sub"))


@unary("Acos")
def acos(e: Emitter, x: ir.Value, y: ir.Value) -> ir.Value:
    """``y = acos x``:  ``dx = -g / sqrt(1 - x^2)``."""
    return e.op("Neg", e.op("Reciprocal", _hyperbola(e, x, "Sub")))


@unary("Atan")
def atan(e: Emitter, x: ir.Value, y: ir.Value) -> ir.Value:
    """``y = atan x``:  ``dx = g / (1 + x^2)``."""
    return e.op("Reciprocal", e.op("Add", e.const(1.0, like=x), e.op("Mul", x, x)))
