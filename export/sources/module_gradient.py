"""The gradient of a unit by PyTorch's autograd on the PyTorch module itself, in float64."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from export.sources.torch_export import read_torch_network


@dataclass(frozen=True)
class ModuleGradient:
    """What the module says.

    Attributes:
        output: of the layer, float64.
        gradient: ``cotangent^T d(output)/d(image)``, of the image's shape, float64.
    """

    output: np.ndarray
    gradient: np.ndarray


class NoCounterpart(Exception):
    """The module has no such submodule, or it cannot be run like this; the message says why."""


def module_gradient(
    source: str, weights: Path | None, path: str, image: np.ndarray, cotangent: np.ndarray
) -> ModuleGradient:
    """Run the network that ``source`` names with a hook on one submodule.

    Args:
        source: see :func:`export.sources.torch_export.read_torch_network`.
        weights: state dict.
        path: of the submodule, the layer's name; its last call counts.
        image: (1, 3, H, W) float64, what the module takes.
        cotangent: of the shape of the submodule's output.

    Raises:
        NoCounterpart: nothing to compare with.
        ModelError: the network or its weights cannot be read.
    """
    module = read_torch_network(source, weights).module.double()
    try:
        layer = module.get_submodule(path)
    except AttributeError:
        raise NoCounterpart(f"the PyTorch network has no module {path!r}") from None
    outputs: list[Any] = []

    def keep(_module: Any, _inputs: Any, output: Any) -> None:
        # a copy: an in-place activation after the layer must not change what is differentiated
        outputs.append(output.clone() if isinstance(output, torch.Tensor) else output)

    handle = layer.register_forward_hook(keep)
    for norm in module.modules():
        if isinstance(norm, torch.nn.modules.batchnorm._BatchNorm):
            norm.register_forward_hook(_contiguous_gradient)
    tensor = torch.from_numpy(image).requires_grad_()
    try:
        module(tensor)
    except Exception as error:
        line = " ".join(str(error).split())[:200]
        raise NoCounterpart(f"the PyTorch network does not run in float64 ({line})") from error
    finally:
        handle.remove()
    output = outputs[-1] if outputs else None
    if not isinstance(output, torch.Tensor) or tuple(output.shape) != cotangent.shape:
        shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise NoCounterpart(f"module {path!r} returns {shape}, but the layer is {cotangent.shape}")
    if not output.requires_grad:
        raise NoCounterpart(f"the output of module {path!r} is detached from the image")
    (gradient,) = torch.autograd.grad((output * torch.from_numpy(cotangent)).sum(), tensor, allow_unused=True)
    exact = torch.zeros_like(tensor) if gradient is None else gradient
    return ModuleGradient(output.detach().numpy(), exact.numpy())


def _contiguous_gradient(_module: Any, _inputs: Any, output: torch.Tensor) -> None:
    """PyTorch 2.14's derivative of BatchNorm is wrong on the CPU for one image and a transposed gradient."""
    if output.requires_grad:
        output.register_hook(lambda gradient: gradient.contiguous())  # type: ignore[no-untyped-call]
