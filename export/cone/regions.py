"""Regions of tensors, and what one node needs to compute a region of its output."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from export.passes.shapes import shape_of as shape_of

Span = tuple[int, int]
"""First index and one past the last, along one axis."""
Region = tuple[Span, ...]
"""One span per axis."""


@dataclass(frozen=True)
class Narrowing:
    """How a node computes a part of its outputs.

    Attributes:
        produces: per output, the region that the changed node computes; it holds what was asked for.
        needs: per input, the region that the changed node reads; None for an input that stays as it is.
        attributes: the node's attributes to replace; None removes one.
        constants: input index -> integers that replace a constant input (sizes, pads).
    """

    produces: tuple[Region, ...]
    needs: tuple[Region | None, ...]
    attributes: dict[str, Any] | None = None
    constants: dict[int, Sequence[int]] | None = None


Rule = Callable[[ir.Node, Region], Narrowing | None]
"""``(node, region of its first output)`` -> how; None when the node must compute everything."""


def whole(shape: Iterable[int]) -> Region:
    return tuple((0, size) for size in shape)


def sizes(region: Region) -> tuple[int, ...]:
    return tuple(end - start for start, end in region)


def hull(a: Region, b: Region) -> Region:
    """The smallest region that holds both."""
    return tuple((min(x[0], y[0]), max(x[1], y[1])) for x, y in zip(a, b, strict=True))


def widened(region: Region, shape: Sequence[int], axes: Iterable[int]) -> Region:
    """``region`` with ``axes`` (negative ones count from the end) taken whole."""
    full = {axis % len(shape) for axis in axes}
    return tuple((0, shape[i]) if i in full else span for i, span in enumerate(region))


def broadcast(region: Region, shape: Sequence[int]) -> Region:
    """What an input of ``shape`` gives to ``region`` of a broadcast result."""
    own = region[len(region) - len(shape) :]
    return tuple((0, 1) if size == 1 else span for size, span in zip(shape, own, strict=True))
