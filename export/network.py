"""Networks: an ONNX file, its card, and the layers a user can name."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import onnx_ir as ir

from export.cards import CARD_KEY, NetworkCard, parse_card
from export.errors import ModelError, suggestion
from export.models import ASSETS, digest_of, read_model
from export.passes.batch import set_batch
from export.passes.shapes import static_shape

LAYERS_KEY = "neuron_atlas.layers"
NEGATIVE = "-"
"""Before the name of a layer: the layer of its negatives."""
SATURATING = ("Relu", "Clip", "HardSigmoid", "HardSwish", "ThresholdedRelu")
"""Operators behind which a unit's gradient can be exactly zero; before them it is not."""


@dataclass(frozen=True)
class LayerInfo:
    """A layer whose units can be maximised.

    Attributes:
        name: as the user names it.
        tensor: name of the ONNX tensor.
        shape: (C, H, W) or (C,).
        pre_activation: name of the tensor before the saturating activation that made this one, None when there is none.
        sign: -1 where the units are to be lowered: minus the tensor is maximised.
    """

    name: str
    tensor: str
    shape: tuple[int, ...]
    pre_activation: str | None
    sign: int = 1

    @property
    def num_units(self) -> int:
        return self.shape[0]

    @property
    def negative(self) -> LayerInfo:
        """The layer whose units are minus those of this one.

        Of a layer behind a saturating activation, the tensor before it: the least that a ReLU gives is 0, and most
        images give that.
        """
        return LayerInfo(NEGATIVE + self.name, self.pre_activation or self.tensor, self.shape, None, sign=-1)


@dataclass(frozen=True)
class Network:
    """A network on disk.

    Attributes:
        path: the ``.onnx`` file.
        digest: SHA-256 of its bytes.
        card: source, licence, preprocessing, labels.
    """

    path: Path
    digest: str
    card: NetworkCard

    @property
    def labels(self) -> tuple[str, ...] | None:
        return self.card.labels

    @cached_property
    def _read(self) -> ir.Model:
        return read_model(self.path)

    def model(self, batch: int) -> ir.Model:
        """A copy of the graph with a static batch and static shapes; the file is read once."""
        model = self._read.clone()
        set_batch(model, batch)
        return model

    @cached_property
    def layers(self) -> tuple[LayerInfo, ...]:
        """Every tensor of shape (N, C, H, W) or (N, C), in forward order, under every name it has."""
        model = self.model(1)
        table = model.metadata_props.get(LAYERS_KEY)
        tensors = {v.name: v for node in model.graph for v in node.outputs if v.name}
        names = json.loads(table) if table else {name: name for name in tensors}
        layers = []
        for name, tensor in names.items():
            value = tensors.get(tensor)
            shape = static_shape(value) if value is not None else None
            if value is None or shape is None or len(shape) not in (2, 4) or value.dtype not in FLOATS:
                continue
            before = pre_activation(value)
            layers.append(LayerInfo(name, tensor, shape[1:], before.name if before is not None else None))
        return tuple(layers)

    def layer(self, name: str) -> LayerInfo:
        """Look a layer up by the user's name; ``-NAME`` is the negative of ``NAME``.

        Raises:
            ModelError: there is none; the nearest names are suggested.
        """
        for layer in self.layers:
            if layer.name == name:
                return layer
        for layer in self.layers:
            if NEGATIVE + layer.name == name:
                return layer.negative
        known = [layer.name for layer in self.layers]
        raise ModelError(f"{self.card.title} has no layer {name!r}{suggestion(name, known)}")


FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def pre_activation(value: ir.Value) -> ir.Value | None:
    """The tensor before the saturating activation that produced ``value``, None when it was not produced by one."""
    node = value.producer()
    while node is not None and node.op_type in ("Identity", "Dropout"):
        value = node.inputs[0]  # type: ignore[assignment]
        node = value.producer()
    if node is None or node.op_type not in SATURATING:
        return None
    return node.inputs[0]


def load_network(path: Path, card: NetworkCard | None = None) -> Network:
    """Open an ``.onnx`` network; ``card`` replaces the one in its metadata.

    Raises:
        ModelError: missing, corrupt, or without a card and none given.
    """
    digest = digest_of(path)
    if card is None:
        model = read_model(path)
        text = model.metadata_props.get(CARD_KEY)
        card = parse_card(NetworkCard, text, path) if text is not None else _assumed_card(model, path)
    return Network(path, digest, card)


def _assumed_card(model: ir.Model, path: Path) -> NetworkCard:
    shape = model.graph.inputs[0].shape if model.graph.inputs else None
    dims = list(shape) if shape is not None else []
    if len(dims) != 4 or dims[1] != 3 or not all(isinstance(d, int) for d in dims[1:]):
        raise ModelError(f"{path}: the first input must be an image (N, 3, H, W) of fixed size, but is {dims}")
    raw = {"title": path.stem, "source": str(path.name), "input": {"height": dims[2], "width": dims[3]}}
    return NetworkCard.model_validate(raw)


def resolve_network(source: str, *, weights: Path | None = None, cache: Path) -> Network:
    """Find or make the network that ``source`` names.

    Args:
        source: ``bundled:lite0``, the path of an ``.onnx`` file, or what ``export.sources.torch_export`` reads
            (``torchvision:resnet50``, ``timm:NAME``, ``python:package.module:factory``; needs the ``export`` extra),
            or ``squeezenet:PX``, the judge as a network with an input of ``PX`` a side.
        weights: state dict for a PyTorch network, or SqueezeNet's ``.npz``.
        cache: folder for exported networks; one is exported again when its weights change.

    Raises:
        ModelError: it does not exist, or cannot be read.
    """
    kind, _, name = source.partition(":")
    if kind == "bundled":
        path = ASSETS / f"{name}.onnx"
        if not path.is_file():
            known = sorted(p.stem for p in ASSETS.glob("*.onnx") if not p.with_suffix(".codes.npz").exists())
            raise ModelError(f"there is no bundled network {name!r}; bundled are {', '.join(known)}")
        return load_network(path)
    if source.endswith(".onnx"):
        return load_network(Path(source))
    if kind not in ("torchvision", "timm", "python", "lite0", "squeezenet"):
        raise ModelError(
            f"unknown network {source!r}: give an .onnx file, bundled:NAME, torchvision:NAME, timm:NAME, "
            "python:package.module:factory or squeezenet:PX"
        )
    stamp = hashlib.sha256(f"{source}|{digest_of(weights) if weights else ''}".encode()).hexdigest()[:12]
    out = cache / f"{source.replace(':', '-').replace('/', '-')}-{stamp}.onnx"
    if kind == "squeezenet":
        return _squeezenet(name, weights, out)
    try:
        from export.sources.torch_export import export_network
    except ImportError as error:
        raise ModelError(f"{source} needs PyTorch ({error}); run: pip install 'neuron-atlas[export]'") from error
    if not out.exists():
        export_network(source, weights, out)
    return load_network(out)


def _squeezenet(side: str, weights: Path | None, out: Path) -> Network:
    from export.judge_network import squeezenet_with_card

    if not side.isdecimal() or weights is None:
        raise ModelError("give squeezenet:PX, the side of its input, and the .npz of its weights as weights")
    made = squeezenet_with_card(weights, int(side)).SerializeToString()
    if not out.exists() or out.read_bytes() != made:
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(made)
        part.replace(out)
    return load_network(out)
