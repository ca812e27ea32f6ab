"""A published-style generator as real Caffe files: a prototxt and a caffemodel with the weights of a module."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from export.generators.caffe import net_parameter
from export.generators.deepsim import SLOPE, DeepSim

V1_TYPES = {"InnerProduct": 14, "Deconvolution": 39, "Convolution": 4}


def kind_of(layer: nn.Module) -> str:
    return {nn.Linear: "InnerProduct", nn.ConvTranspose2d: "Deconvolution", nn.Conv2d: "Convolution"}[type(layer)]


def layers_of(module: DeepSim) -> dict[str, nn.Module]:
    return {
        n.rpartition(".")[2]: m
        for n, m in module.named_modules()
        if isinstance(m, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
    }


def write_caffemodel(module: DeepSim, path: Path, *, v1: bool = False, rename: str = "") -> None:
    """``v1``: as Caffe wrote before 2014: ``layers``, enumerated types, blobs of four dimensions."""
    net = net_parameter()(name="generator")
    for name, layer in layers_of(module).items():
        entry = (net.layers if v1 else net.layer).add(name=rename + name)
        entry.type = V1_TYPES[kind_of(layer)] if v1 else kind_of(layer)
        for tensor in (layer.weight, layer.bias):
            assert isinstance(tensor, torch.Tensor)
            blob = entry.blobs.add()
            shape = list(tensor.shape)
            if v1:
                blob.num, blob.channels, blob.height, blob.width = [1] * (4 - len(shape)) + shape
            else:
                blob.shape.dim.extend(shape)
            blob.data.extend(tensor.detach().reshape(-1).tolist())
    path.write_bytes(net.SerializeToString())


def write_prototxt(module: DeepSim, path: Path) -> None:
    """The architecture as in the published files: every stride-1 layer of the up path is a Deconvolution."""
    dims = " ".join(f"dim: {n}" for n in (1, *module.code_shape))
    lines = [f'name: "generator"\ninput: "feat"\ninput_shape {{ {dims} }}']
    below = "feat"
    for name, layer in layers_of(module).items():
        if name == "deconv5" and len(module.code_shape) == 1:
            shape = f"dim: 0 dim: {module.first} dim: 4 dim: 4"
            lines.append(
                f'layer {{ name: "reshape" type: "Reshape" bottom: "{below}" top: "map" '
                f"reshape_param {{ shape {{ {shape} }} }} }}"
            )
            below = "map"
        if isinstance(layer, nn.Linear):
            parameters = f"inner_product_param {{ num_output: {layer.out_features} }}"
        else:
            assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
            k, s, p = layer.kernel_size[0], layer.stride[0], layer.padding[0]
            parameters = (
                f"convolution_param {{ num_output: {layer.out_channels} kernel_size: {k} stride: {s} pad: {p} }}"
            )
        lines.append(
            f'layer {{ name: "{name}" type: "{kind_of(layer)}" bottom: "{below}" top: "{name}" {parameters} }}'
        )
        below = name
        if name != "deconv0":
            lines.append(
                f'layer {{ name: "relu_{name}" type: "ReLU" bottom: "{name}" top: "{name}" '
                f"relu_param {{ negative_slope: {SLOPE} }} }}"
            )
    path.write_text("\n".join(lines) + "\n")
