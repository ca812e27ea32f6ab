"""The table of operators, and what their functions share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch

Tensor = torch.Tensor
Operator = Callable[..., Any]
"""``(node, *inputs)`` -> a tensor, or a tuple for several outputs; a missing input is None."""

OPERATORS: dict[str, Operator] = {}


def operator(*names: str) -> Callable[[Operator], Operator]:
    """Register a function for operators of the standard domain."""

    def register(function: Operator) -> Operator:
        OPERATORS.update(dict.fromkeys(names, function))
        return function

    return register


def plain(**functions: Callable[..., Any]) -> None:
    """Register functions of the inputs alone."""
    for name, function in functions.items():
        OPERATORS[name] = lambda node, *x, f=function: f(*x)


def attribute(node: ir.Node, name: str, default: Any) -> Any:
    """An attribute as a plain Python value."""
    if name not in node.attributes:
        return default
    value = node.attributes[name].value
    return list(value) if isinstance(value, tuple | list) else value


def integers(tensor: Tensor | None) -> list[int] | None:
    """A constant's values."""
    return None if tensor is None else [int(v) for v in tensor.detach().numpy().ravel()]


def number(tensor: Tensor) -> float:
    """A constant's value; through NumPy, which a tracer does not take for a computation."""
    return float(tensor.detach().numpy().item())
