"""Input gradients of whole networks against autograd, under ONNX Runtime.

The bound is 1e-5 in fp32, for the median of three inputs: once in a while a rounding puts one of half a million
ReLUs or maxima on the other side of its kink (seen: 1.8e-3 for one input of SqueezeNet in seven, 7e-7 for the others,
and 7e-7 for that one as well with the runtime's fusions off).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import nn

from export.passes.batch import set_batch
from export.passes.batchnorm import fold_batchnorm
from export.passes.pads import fold_pads
from export.sources.torch_export import read_torch_network, to_onnx
from tests.export.vjp.checking import differentiate, value

NETWORKS = {
    "lite0:96": 96,
    "torchvision:alexnet": 96,
    "torchvision:vgg16": 64,
    "torchvision:resnet50": 64,
    "torchvision:googlenet": 64,
    "torchvision:squeezenet1_0": 64,
}


def settled(module: nn.Module, px: int) -> nn.Module:
    """BatchNorm statistics of a pass over noise, each moved at random.

    Statistics from nowhere would let the signal die out over the depth, and what is left is ties: PyTorch's own
    gradient of GoogLeNet in float32 is then 10% off its gradient in float64.
    """
    torch.manual_seed(5)
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        module.train()
        module(torch.rand(8, 3, px, px))
        for norm in norms:
            norm.running_mean.add_(0.2 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean))
            norm.running_var.mul_(0.5 + torch.rand_like(norm.running_var))
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.3)
    return module.eval()


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize("source", NETWORKS)
def test_input_gradient(source: str) -> None:
    px = NETWORKS[source]
    module = settled(read_torch_network(source, None).module, px)
    model = to_onnx(module, torch.rand(2, 3, px, px), "image")
    set_batch(model, 2)
    fold_batchnorm(model)
    fold_pads(model)
    name = str(model.graph.outputs[0].name)
    differentiate(model, ["image"], of=name)
    assert value(model, name).shape == (2, 1000)
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    errors = []
    for seed in range(3):
        torch.manual_seed(seed)
        image, cotangent = torch.rand(2, 3, px, px, requires_grad=True), torch.randn(2, 1000)
        (theirs,) = torch.autograd.grad((module(image) * cotangent).sum(), image)
        feeds = {"image": image.detach().numpy(), "cotangent": cotangent.numpy()}
        errors.append(relative(np.asarray(session.run(["d_image"], feeds)[0]), theirs.numpy()))
    assert sorted(errors)[1] < 1e-5, errors
