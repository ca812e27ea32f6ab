"""Run an ONNX graph with PyTorch, so that autograd can differentiate it: an oracle for the gradients we compile.

It shares nothing with the vjp rules: every operator is PyTorch's own function, and PyTorch takes the derivative.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import torch

from export.errors import ModelError
from export.sources.operators.table import OPERATORS, Tensor


def weights_of(model: ir.Model) -> dict[str, Tensor]:
    """Every initializer as a tensor of its own, by name."""
    weights = {}
    for name, value in model.graph.initializers.items():
        assert value.const_value is not None
        weights[name] = torch.from_numpy(np.array(value.const_value.numpy()))
    return weights


def run_torch(
    model: ir.Model, feeds: Mapping[str, Tensor], weights: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Evaluate every node in order.

    Args:
        model: static shapes; standard domain, opset 13 or later.
        feeds: graph input name -> tensor; those that require gradients get them.
        weights: what :func:`weights_of` gave, for a model that is run again and again.

    Returns:
        Every tensor of the graph by name.

    Raises:
        ModelError: an operator that is not known here.
    """
    values = dict(weights if weights is not None else weights_of(model)) | dict(feeds)
    for node in model.graph:
        operator = OPERATORS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if operator is None:
            raise ModelError(f"PyTorch is not asked about {node.op_type} (node {node.name!r})")
        made = operator(node, *(None if v is None else values[str(v.name)] for v in node.inputs))
        for value, tensor in zip(node.outputs, made if isinstance(made, tuple | list) else [made], strict=False):
            values[str(value.name)] = tensor
    return values


def autograd_of(
    model: ir.Model, of: str, wrt: str, feeds: Mapping[str, np.ndarray], cotangent: np.ndarray
) -> np.ndarray:
    """``cotangent^T d(of)/d(wrt)`` by PyTorch's autograd.

    Args:
        model: see :func:`run_torch`.
        of: any tensor.
        wrt: a graph input.
        feeds: graph inputs.
        cotangent: of the shape of ``of``.
    """
    tensors = {name: torch.from_numpy(array) for name, array in feeds.items()}
    tensors[wrt].requires_grad_()
    value = run_torch(model, tensors)[of]
    (gradient,) = torch.autograd.grad((value * torch.from_numpy(cotangent)).sum(), tensors[wrt])
    array: np.ndarray = gradient.numpy()
    return array
