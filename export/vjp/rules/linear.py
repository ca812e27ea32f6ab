"""Matrix products."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from export.vjp.emit import Emitter, shape_of
from export.vjp.registry import Site, rule


def transposed(e: Emitter, value: ir.Value) -> ir.Value:
    """The last two axes exchanged; a constant is transposed here and now."""
    made = e.derived(value, "transposed", lambda array: np.ascontiguousarray(np.swapaxes(array, -1, -2)))
    if made is not None:
        return made
    rank = len(shape_of(value))
    return e.op("Transpose", value, perm=[*range(rank - 2), rank - 1, rank - 2])


@rule("MatMul")
def matmul(s: Site) -> Mapping[int, ir.Value]:
    """``Y = A B``:  ``dA = G B^T``, ``dB = A^T G``; a vector operand is a matrix with one row or column."""
    e, g = s.e, s.g
    a, b = s.input(0), s.input(1)
    a_shape, b_shape = shape_of(a), shape_of(b)
    row, column = len(a_shape) == 1, len(b_shape) == 1
    g_shape = list(shape_of(g))
    if column:
        g_shape.append(1)
    if row:
        g_shape.insert(len(g_shape) - 1, 1)
    g = e.reshape(g, tuple(g_shape))
    if row:
        a = e.reshape(a, (1, *a_shape))
    if column:
        b = e.reshape(b, (*b_shape, 1))
    made = {}
    if s.wanted[0]:
        da = e.op("MatMul", g, transposed(e, b))
        made[0] = _flattened(e, da, a_shape) if row else da
    if s.wanted[1]:
        db = e.op("MatMul", transposed(e, a), g)
        made[1] = _flattened(e, db, b_shape) if column else db
    return made


def _flattened(e: Emitter, value: ir.Value, shape: tuple[int, ...]) -> ir.Value:
    """Sum the batch axes of a vector operand's derivative."""
    return e.reshape(e.sum(value, list(range(len(shape_of(value)) - 2))), shape)


@rule("Gemm")
def gemm(s: Site) -> Mapping[int, ir.Value]:
    """``Y = alpha A' B' + beta C``:  ``dA' = alpha G B'^T``, ``dB' = alpha A'^T G``, ``dC = beta G``.

    Forward and backward read one weight: a fully connected layer's is most of a model's bytes.
    """
    e = s.e
    alpha, beta = s.attribute("alpha", 1.0), s.attribute("beta", 1.0)
    trans_a, trans_b = s.attribute("transA", 0), s.attribute("transB", 0)
    g = e.mul(s.g, alpha)
    made = {}
    if s.wanted[0]:
        b = s.input(1)
        if trans_a:
            made[0] = e.op("Gemm", b, g, transA=trans_b, transB=1)
        else:
            made[0] = e.op("Gemm", g, b, transB=1 - trans_b)
    if s.wanted[1]:
        a = s.input(0)
        made[1] = (
            e.op("Gemm", g, a, transA=1, transB=trans_a)
            if trans_b
            else e.op("Gemm", a, g, transA=1 - trans_a, transB=0)
        )
    if len(s.wanted) > 2 and s.wanted[2]:
        made[2] = e.mul(s.g, beta)
    return made


@rule("Einsum")
def einsum(s: Site) -> Mapping[int, ir.Value]:
    """``Y = einsum("a,b->y", A, B)``:  ``dA = einsum("y,b->a", G, B)``; an index that only A has is broadcast."""
    equation = s.attribute("equation", "").replace(" ", "")
    left, arrow, out = equation.partition("->")
    terms = left.split(",")
    if "." in equation or any(len(set(term)) != len(term) for term in terms):
        raise s.refuse(f"the equation {equation!r} has an ellipsis or repeats an index within one operand")
    if not arrow:
        out = "".join(sorted(index for index in set(left) - {","} if left.count(index) == 1))
    made = {}
    for i, term in enumerate(terms):
        if not s.wanted[i]:
            continue
        others = [t for j, t in enumerate(terms) if j != i]
        known = [index for index in term if index in out or any(index in t for t in others)]
        inputs = [s.input(j) for j in range(len(terms)) if j != i]
        da = s.e.op("Einsum", s.g, *inputs, equation=f"{','.join([out, *others])}->{''.join(known)}")
        made[i] = s.e.reshape(da, tuple(n if index in known else 1 for index, n in zip(term, s.shape(i), strict=True)))
    return made
