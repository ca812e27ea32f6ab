"""The frozen encoder a generator learns to invert: any network that an atlas can be made of, run by PyTorch.

It is the network's ONNX graph, so layers have the names that users know and the preprocessing is the card's.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import onnx_ir as ir
import torch
from onnx_ir.passes.common import RemoveUnusedNodesPass
from torch.nn import functional as F

from export.errors import InputError, ModelError
from export.network import LayerInfo, Network
from export.passes.batchnorm import fold_batchnorm
from export.passes.pads import fold_pads
from export.sources.torch_import import run_torch, weights_of

NUM_TAPS = 5


@dataclass(frozen=True)
class EncoderLayers:
    """Which layers are used, by the names of ``neuron-atlas layers``.

    Attributes:
        source: the network, as in a configuration.
        global_layer: its values, averaged over positions, are the global code; None for no global code.
        spatial_layer: its map, averaged down to the generator's grid and whitened, is the spatial code; None for none.
        taps: feature maps that images are compared in, and that the discriminator sees.
        unit_layer: the vector whose units are climbed during the training; None where there is none.
    """

    source: str
    global_layer: str | None
    spatial_layer: str | None
    taps: tuple[str, ...]
    unit_layer: str | None = None

    @classmethod
    def from_state(cls, raw: dict[str, Any]) -> EncoderLayers:
        return cls(**raw | {"taps": tuple(raw["taps"])})

    def to_state(self) -> dict[str, Any]:
        return asdict(self)


LITE0 = EncoderLayers(
    "bundled:lite0",
    "_avg_pooling",
    "_blocks.15",
    ("_blocks.0", "_blocks.2", "_blocks.4", "_blocks.10", "_blocks.15"),
)
"""Of the bundled generator."""


def choose_layers(
    network: Network,
    source: str,
    code: str,
    *,
    global_layer: str | None = None,
    spatial_layer: str | None = None,
    taps: tuple[str, ...] = (),
) -> EncoderLayers:
    """Fill in what was not named: the last vector before the classes, the last map, and the last map of each size.

    Args:
        network: the encoder.
        source: as the user named it.
        code: ``global``, ``spatial`` or ``hybrid``.
        global_layer: named by the user.
        spatial_layer: named by the user.
        taps: named by the user.

    Raises:
        ModelError: a named layer does not exist.
        InputError: a named layer has no part in this kind of code, is no map, or none can be chosen.
    """
    stray = {"spatial": global_layer, "global": spatial_layer}.get(code)
    if stray:
        raise InputError(f"a {code} code has no layer {stray}; use --code hybrid, or leave it out")
    layers = network.layers
    classes = layers[-1].num_units
    maps = [layer for layer in layers if len(layer.shape) == 3 and min(layer.shape[1:]) > 1]
    vectors = [layer for layer in layers if max(layer.shape[1:], default=1) == 1 and layer.num_units != classes]
    if code != "spatial" and global_layer is None:
        global_layer = _last(vectors or maps, "global").name
    if code != "global" and spatial_layer is None:
        spatial_layer = _last(maps, "spatial").name
    if spatial_layer is not None and len(network.layer(spatial_layer).shape) != 3:
        raise InputError(f"layer {spatial_layer} is a vector, not a map; name another with --spatial-layer")
    if global_layer is not None:
        network.layer(global_layer)
    for tap in taps:
        if len(network.layer(tap).shape) != 3:
            raise InputError(f"layer {tap} is a vector, not a map; taps are maps")
    by_size = {layer.shape[1:]: layer.name for layer in maps}
    chosen = taps or tuple(by_size.values())[-NUM_TAPS:]
    if not chosen:
        raise InputError(f"{network.card.title} has no feature map; a generator cannot be trained for it")
    return EncoderLayers(source, global_layer, spatial_layer, chosen, unit_layer_of(network))


def unit_layer_of(network: Network) -> str | None:
    """The network's last layer, if it is a vector: its classes, as a rule."""
    last = network.layers[-1]
    return last.name if max(last.shape[1:], default=1) == 1 else None


def _last(layers: list[LayerInfo], part: str) -> LayerInfo:
    if not layers:
        raise InputError(f"no layer for the {part} code was found; name one with --{part}-layer")
    return layers[-1]


@dataclass(frozen=True)
class Features:
    """What the encoder sees in a batch of images.

    Attributes:
        taps: one map (N, C, H, W) per tap.
        pooled: (N, G), or None without a global code.
        spatial: (N, C, h, w), or None without a spatial code.
        units: (N, U), or None without a layer of units to climb.
    """

    taps: list[torch.Tensor]
    pooled: torch.Tensor | None
    spatial: torch.Tensor | None
    units: torch.Tensor | None = None

    def joined(self, other: Features) -> Features:
        """The rows of both."""
        taps = [torch.cat(pair) for pair in zip(self.taps, other.taps, strict=True)]
        rest = ((getattr(self, name), getattr(other, name)) for name in ("pooled", "spatial", "units"))
        return Features(taps, *(None if x is None else torch.cat([x, y]) for x, y in rest))


class Encoder:
    """Images (N, 3, S, S) in [0, 1] -> :class:`Features`; resized to the network's input and prepared as its card says.

    Raises:
        ModelError: a layer does not exist, or PyTorch does not know an operator of the network.
    """

    def __init__(self, network: Network, layers: EncoderLayers, device: torch.device | str = "cpu") -> None:
        self.network, self.layers, self.device = network, layers, device
        others = (layers.global_layer, layers.spatial_layer, layers.unit_layer)
        names = [*layers.taps, *(name for name in others if name is not None)]
        self._tensors = {name: network.layer(name).tensor for name in names}
        self._graphs: dict[tuple[int, torch.dtype], tuple[ir.Model, dict[str, torch.Tensor]]] = {}
        self.card = network.card.input
        self._mean, self._std = (
            torch.tensor(numbers, device=device).reshape(1, 3, 1, 1) for numbers in (self.card.mean, self.card.std)
        )

    def _graph(self, batch: int, dtype: torch.dtype) -> tuple[ir.Model, dict[str, torch.Tensor]]:
        """The network for a batch, cut at the layers, and its weights; those of products as ``dtype``."""
        if (batch, dtype) not in self._graphs:
            model = self.network.model(batch)
            values = {v.name: v for node in model.graph for v in node.outputs}
            model.graph.outputs.clear()
            model.graph.outputs.extend(values[name] for name in dict.fromkeys(self._tensors.values()))
            RemoveUnusedNodesPass()(model)
            fold_batchnorm(model)
            fold_pads(model)
            weights = {
                name: w.contiguous(memory_format=torch.channels_last) if w.ndim == 4 else w
                for name, w in weights_of(model).items()
            }
            bad = next((n for n, w in weights.items() if w.is_floating_point() and not w.isfinite().all()), None)
            if bad is not None:
                raise ModelError(f"{self.network.card.title}: weight {bad} holds NaN or infinite values")
            of_products = {
                str(value.name)
                for value in model.graph.initializers.values()
                if all(use.node.op_type in ("Conv", "Gemm") for use in value.uses())
            }
            self._graphs[batch, dtype] = (
                model,
                {name: w.to(self.device, dtype if name in of_products else w.dtype) for name, w in weights.items()},
            )
        return self._graphs[batch, dtype]

    def __call__(self, image: torch.Tensor) -> Features:
        size = (self.card.height, self.card.width)
        if tuple(image.shape[2:]) != size:
            image = F.interpolate(image, size=size, mode="bilinear", align_corners=False)
        image = image.flip(1) if self.card.channels == "BGR" else image
        kind = image.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
        model, weights = self._graph(len(image), dtype)
        values = run_torch(model, {str(model.graph.inputs[0].name): (image - self._mean) / self._std}, weights)
        found = {name: values[tensor] for name, tensor in self._tensors.items()}
        pooled = found[self.layers.global_layer] if self.layers.global_layer else None
        if pooled is not None and pooled.ndim == 4:
            pooled = pooled.mean(dim=(2, 3))
        spatial = found[self.layers.spatial_layer] if self.layers.spatial_layer else None
        units = found[self.layers.unit_layer].flatten(1) if self.layers.unit_layer else None
        return Features([found[name] for name in self.layers.taps], pooled, spatial, units)
