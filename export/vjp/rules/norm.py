"""Normalisations."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from export.vjp.emit import Emitter, shape_of
from export.vjp.registry import Site, rule


def _per_channel(e: Emitter, value: ir.Value, rank: int) -> ir.Value:
    return e.reshape(value, (1, shape_of(value)[0], *[1] * (rank - 2)))


@rule("BatchNormalization")
def batch_normalization(s: Site) -> Mapping[int, ir.Value]:
    """``y = scale (x - mean) / sqrt(var + eps) + b``:  ``dx = g scale / sqrt(var + eps)`` (inference)."""
    s.only_input(0)
    if s.attribute("training_mode", 0):
        raise s.refuse("it is in training mode; export the network in eval mode")
    e, rank = s.e, len(s.shape())
    spread = e.op("Sqrt", e.op("Add", s.input(4), e.const(s.attribute("epsilon", 1e-5), like=s.input(4))))
    return {0: e.op("Mul", s.g, _per_channel(e, e.op("Div", s.input(1), spread), rank))}


def _standardised_vjp(e: Emitter, x: ir.Value, g: ir.Value, axes: list[int], epsilon: float) -> ir.Value:
    """``n = (x - mean) / sqrt(var + eps)``:  ``dx = (g - mean(g) - n mean(g n)) / sqrt(var + eps)`` over ``axes``."""
    centred = e.op("Sub", x, e.mean(x, axes))
    var = e.mean(e.op("Mul", centred, centred), axes)
    spread = e.op("Sqrt", e.op("Add", var, e.const(epsilon, like=x)))
    n = e.op("Div", centred, spread)
    along = e.op("Mul", n, e.mean(e.op("Mul", g, n), axes))
    return e.op("Div", e.op("Sub", e.op("Sub", g, e.mean(g, axes)), along), spread)


@rule("LayerNormalization")
def layer_normalization(s: Site) -> Mapping[int, ir.Value]:
    """``y = scale n + b`` with n standardised over the axes from ``axis`` on; see :func:`_standardised_vjp`."""
    s.only_input(0)
    if any(g is not None for g in s.cotangents[1:]):
        raise s.refuse("its mean or inverse deviation is used")
    rank = len(s.shape())
    axes = list(range(s.attribute("axis", -1) % rank, rank))
    g = s.e.op("Mul", s.g, s.input(1))
    return {0: _standardised_vjp(s.e, s.x, g, axes, s.attribute("epsilon", 1e-5))}


@rule("InstanceNormalization")
def instance_normalization(s: Site) -> Mapping[int, ir.Value]:
    """``y = scale n + b`` with n standardised over the positions of each channel."""
    s.only_input(0)
    rank = len(s.shape())
    g = s.e.op("Mul", s.g, _per_channel(s.e, s.input(1), rank))
    return {0: _standardised_vjp(s.e, s.x, g, list(range(2, rank)), s.attribute("epsilon", 1e-5))}


@rule("GroupNormalization", since=21)
def group_normalization(s: Site) -> Mapping[int, ir.Value]:
    """``y = scale n + b`` with n standardised over each group of channels and all positions; scale per channel."""
    s.only_input(0)
    e, shape, groups = s.e, s.shape(), s.attribute("num_groups", 1)
    split = (shape[0], groups, int(np.prod(shape[1:])) // groups)
    g = e.op("Mul", s.g, _per_channel(e, s.input(1), len(shape)))
    dx = _standardised_vjp(e, e.reshape(s.x, split), e.reshape(g, split), [2], s.attribute("epsilon", 1e-5))
    return {0: e.reshape(dx, shape)}


@rule("LRN")
def lrn(s: Site) -> Mapping[int, ir.Value]:
    """``y = x d^-beta`` with ``d = bias + alpha / size sum_window x^2``.

    ``dx = g d^-beta - 2 alpha beta / size x window^T(g x d^(-beta - 1))``

    The window sum over channels is a product with a banded matrix of ones.
    """
    e, shape = s.e, s.shape()
    size, alpha, beta = s.attribute("size", 1), s.attribute("alpha", 1e-4), s.attribute("beta", 0.75)
    index = np.arange(shape[1])
    low, high = (size - 1) // 2, size - 1 - (size - 1) // 2
    offset = index[None] - index[:, None]
    band = ((offset >= -low) & (offset <= high)).astype(np.float64)
    flat = (shape[0], shape[1], int(np.prod(shape[2:])))
    x, g = e.reshape(s.x, flat), e.reshape(s.g, flat)
    total = e.op("MatMul", e.const(band, like=x), e.op("Mul", x, x))
    d = e.op("Add", e.mul(total, alpha / size), e.const(s.attribute("bias", 1.0), like=x))
    scaled = e.op("Mul", g, e.op("Pow", d, e.const(-beta, like=x)))
    back = e.op("MatMul", e.const(band.T, like=x), e.op("Div", e.op("Mul", scaled, x), d))
    dx = e.op("Sub", scaled, e.mul(e.op("Mul", x, back), 2 * alpha * beta / size))
    return {0: e.reshape(dx, shape)}


@rule("LpNormalization")
def lp_normalization(s: Site) -> Mapping[int, ir.Value]:
    """``y = x / |x|_p``:  ``dx = (g - u sum(g y)) / |x|_p`` with ``u = y`` for p = 2, ``sign x`` for p = 1.

    Where the norm is 0 the standard defines y as 0, and dx is 0 as well.
    """
    e, p = s.e, s.attribute("p", 2)
    axis = s.attribute("axis", -1) % len(s.shape())
    norm = e.op("Sqrt", e.sum(e.op("Mul", s.x, s.x), [axis])) if p == 2 else e.sum(e.op("Abs", s.x), [axis])
    some = e.op("Greater", norm, e.const(0.0, like=norm))
    safe = e.op("Add", norm, e.op("Cast", e.op("Not", some), to=int(norm.dtype or 1)))
    inner = e.sum(e.op("Mul", s.g, s.y), [axis])
    along = e.op("Mul", s.y if p == 2 else e.op("Sign", s.x), inner)
    return {0: e.masked(e.op("Div", e.op("Sub", s.g, along), safe), some)}


@rule("RMSNormalization")
def rms_normalization(s: Site) -> Mapping[int, ir.Value]:
    """``y = scale n``, ``n = x / r``, ``r^2 = mean x^2 + eps``:  ``dx = (h - n mean(h n)) / r`` with ``h = g scale``"""
    s.only_input(0)
    e, rank = s.e, len(s.shape())
    axes = list(range(s.attribute("axis", -1) % rank, rank))
    g = e.op("Mul", s.g, s.input(1))
    r = e.op("Sqrt", e.op("Add", e.mean(e.op("Mul", s.x, s.x), axes), e.const(s.attribute("epsilon", 1e-5), like=s.x)))
    n = e.op("Div", s.x, r)
    return {0: e.op("Div", e.op("Sub", g, e.op("Mul", n, e.mean(e.op("Mul", g, n), axes))), r)}


@rule("MeanVarianceNormalization")
def mean_variance_normalization(s: Site) -> Mapping[int, ir.Value]:
    """``y = x`` standardised over ``axes``; see :func:`_standardised_vjp`."""
    rank = len(s.shape())
    axes = sorted(axis % rank for axis in s.attribute("axes", [0, 2, 3]))
    return {0: _standardised_vjp(s.e, s.x, s.g, axes, 1e-18)}  # the standard adds 1e-9 to the deviation
