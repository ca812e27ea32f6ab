"""``deepsim:fc6|fc7|pool5``: the published generators, from a ``.caffemodel`` or a ported state dict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from export.errors import ModelError, suggestion
from export.generators.caffe import read_caffemodel
from export.generators.deepsim import CHANNELS, CODES, DeepSim, card, default_prior
from export.generators.sources import TorchGenerator, read_state
from export.models import digest_of

Weights = dict[str, tuple[npt.NDArray[np.float32], ...]]


def fingerprint(name: str, weights: Path | None, folder: Path) -> str | None:
    """The weights' digest; the architecture does not change."""
    return digest_of(weights) if weights is not None and weights.is_file() else None


def read(name: str, weights: Path | None, folder: Path) -> TorchGenerator:
    """Build the architecture and load the user's weights.

    Layers are matched by name where the file has the published names, else by order and shape.

    Raises:
        ModelError: unknown code, no weights, or weights that do not fit.
    """
    if name not in CODES:
        raise ModelError(f"there is no generator deepsim:{name}{suggestion(name, CODES)}; known are {', '.join(CODES)}")
    if weights is None:
        raise ModelError(
            f"deepsim:{name} needs weights: the published generator.caffemodel, or a state dict ported from it "
            "(they are not ours to ship; non-commercial use only)"
        )
    if weights.suffix == ".prototxt":
        raise ModelError(
            f"{weights} describes the architecture; give the .caffemodel beside it, which holds the weights"
        )
    found = read_caffemodel(weights) if weights.suffix == ".caffemodel" else _by_layer(read_state(weights))
    module = DeepSim(_width(found), name)
    fill(module, found, str(weights))
    return TorchGenerator(module, [module.code_shape], card(name) | {"weights": weights.name}, default_prior(module))


def _by_layer(state: Mapping[str, torch.Tensor]) -> Weights:
    """(weight, bias) by the last part of the layer's name, in the order of the file."""
    stems = dict.fromkeys(name.rpartition(".")[0] for name in state)
    return {
        stem.rpartition(".")[2]: tuple(
            state[f"{stem}.{part}"].float().numpy() for part in ("weight", "bias") if f"{stem}.{part}" in state
        )
        for stem in stems
    }


def _width(found: Weights) -> float:
    """The factor on the published channels: a network trained alike may be narrower. The last layer tells."""
    given = [arrays[0] for arrays in found.values() if arrays]
    last = found["deconv0"][0] if found.get("deconv0") else given[-1] if given else None
    return 8 * last.shape[0] / CHANNELS if last is not None and last.ndim == 4 else 1.0


def fill(module: DeepSim, found: Weights, origin: str) -> None:
    """Put weights into the module.

    Raises:
        ModelError: a layer is missing or of another shape; the first is named, with both shapes.
    """
    layers = {name.rpartition(".")[2]: layer for name, layer in module.named_modules() if hasattr(layer, "weight")}
    given = {name: arrays for name, arrays in found.items() if arrays}
    if not set(layers) <= set(given):
        if len(layers) != len(given):
            raise ModelError(
                f"{origin} holds {len(given)} layers with weights ({', '.join(list(given)[:20])}); "
                f"deepsim:{module.code} has {len(layers)}: {', '.join(layers)}"
            )
        given = dict(zip(layers, given.values(), strict=True))  # other names: the order of the file
    with torch.no_grad():
        for name, layer in layers.items():
            for parameter, array in zip((layer.weight, layer.bias), given[name], strict=False):
                assert isinstance(parameter, torch.nn.Parameter)
                shape = tuple(parameter.shape)
                if array.size != parameter.numel() or _plain(array.shape) != _plain(shape):
                    raise ModelError(
                        f"{origin}: layer {name} has weights of shape {array.shape}, but deepsim:{module.code} takes "
                        f"{shape}; is it another generator?"
                    )
                parameter.copy_(torch.from_numpy(np.ascontiguousarray(array).reshape(shape)))
            if len(given[name]) < 2:
                assert isinstance(layer.bias, torch.nn.Parameter)
                layer.bias.zero_()


def _plain(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Without ones: older caffemodels store a matrix as (1, 1, out, in)."""
    return tuple(n for n in shape if n != 1)
