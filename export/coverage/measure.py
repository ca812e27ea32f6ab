"""One network: export, compile the gradient with respect to the image, compare with autograd.

The verdict is taken in float64, where rounding does not put a ReLU or a maximum on the other side of its kink. In
float32 the error of PyTorch's own gradient stands beside ours.
"""

from __future__ import annotations

import gc
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from onnx_ir.passes.common import CommonSubexpressionEliminationPass, RemoveUnusedNodesPass
from torch import nn

from export.errors import ModelError
from export.lint import lint
from export.passes.batch import set_batch
from export.passes.batchnorm import fold_batchnorm
from export.passes.constants import fold_constants
from export.passes.pads import fold_pads
from export.reference import evaluate
from export.sources.torch_export import read_torch_network, to_onnx
from export.vjp import append_gradient

EXACT_64, EXACT_32 = 1e-9, 1e-4
WRONG_64 = 1e-6
"""Above it a float64 gradient is called wrong; between, inexact."""
MAX_PROTO_BYTES = 1_800_000_000


@dataclass
class Result:
    """What was measured of one network.

    Attributes:
        source: as a user names it.
        status: ``exact`` (float64 within 1e-9, float32 within 1e-4 or ten times PyTorch's own error), ``inexact``,
            ``wrong``, or ``failed``.
        reason: why it is not exact.
        image_px: side of its input.
        parameters: how many.
        num_forward: nodes before the gradient is appended.
        num_gradient: nodes of the gradient.
        operators: of the forward graph, with counts.
        error_64: relative error of the gradient in float64 against autograd in float64, L2.
        error_32: that in float32, under ONNX Runtime.
        torch_32: that of PyTorch in float32.
        export_s: PyTorch to ONNX.
        compile_s: static shapes, folding, gradient, clean-up.
        refusals: what TensorRT would refuse.
    """

    source: str
    status: str = "failed"
    reason: str = ""
    image_px: int = 0
    parameters: int = 0
    num_forward: int = 0
    num_gradient: int = 0
    operators: dict[str, int] = field(default_factory=dict)
    error_64: float | None = None
    error_32: float | None = None
    torch_32: float | None = None
    export_s: float = 0.0
    compile_s: float = 0.0
    refusals: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def settle(module: nn.Module, side: int) -> None:
    """Make an untrained network one whose gradient means something.

    BatchNorm gets the statistics of a pass over noise, each moved at random; parameters that are all alike (a layer
    scale of 1e-6, a zero bias) are spread; constants of layers are rounded to the float32 that ONNX stores.
    """
    torch.manual_seed(5)
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.numel() > 1 and bool((parameter == parameter.flatten()[0]).all()):
                parameter.add_(0.1 * torch.randn_like(parameter))
        for norm in norms:
            norm.momentum = 1.0
            norm.train()
        module(torch.rand(4, 3, side, side))
        for norm in norms:
            norm.eval()
            if norm.running_mean is None or norm.running_var is None:
                continue
            norm.running_mean.add_(0.2 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean))
            norm.running_var.mul_(0.5 + torch.rand_like(norm.running_var))
            if norm.affine:
                nn.init.uniform_(norm.weight, 0.5, 1.5)
                nn.init.normal_(norm.bias, std=0.3)
    for layer in module.modules():
        for name in ("eps", "negative_slope", "alpha", "beta", "lambd"):
            number = getattr(layer, name, None)
            if isinstance(number, float):
                setattr(layer, name, float(np.float32(number)))


def differentiated(model: ir.Model) -> tuple[ir.Model, int]:
    """The model for one image with an input ``cotangent`` and an output ``d_image``; how many nodes it had before."""
    set_batch(model, 1)
    fold_batchnorm(model)
    fold_pads(model)
    graph = model.graph
    before = len(list(graph))
    of, image = graph.outputs[0], graph.inputs[0]
    cotangent = ir.Value(name="cotangent", type=of.type, shape=of.shape)
    graph.inputs.append(cotangent)
    (gradient,) = append_gradient(graph, of, [image], cotangent)
    gradient.name = "d_image"
    graph.outputs.append(gradient)
    fold_constants(model)
    CommonSubexpressionEliminationPass()(model)
    RemoveUnusedNodesPass()(model)
    return model, before


def measure(source: str) -> Result:
    """Measure one network of torchvision or timm; a failure is a result."""
    result = Result(source)
    try:
        _measure(result)
    except (ModelError, MemoryError) as error:
        result.reason = str(error)
    except Exception as error:
        result.reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return result


def _measure(result: Result) -> None:
    network = read_torch_network(result.source, None)
    module, side = network.module, int(network.card["input"]["height"])
    result.image_px, result.parameters = side, sum(p.numel() for p in module.parameters())
    settle(module, side)
    module.requires_grad_(False)
    torch.manual_seed(0)
    image = torch.rand(1, 3, side, side)
    with torch.no_grad():
        logits = module(image)
    cotangent = torch.randn_like(logits)

    start = time.perf_counter()
    model = to_onnx(module, torch.rand(2, 3, side, side), "image")
    result.export_s = time.perf_counter() - start
    start = time.perf_counter()
    model, result.num_forward = differentiated(model)
    result.compile_s = time.perf_counter() - start
    nodes = list(model.graph)
    result.num_gradient = len(nodes) - result.num_forward
    for node in nodes[: result.num_forward]:
        result.operators[node.op_type] = result.operators.get(node.op_type, 0) + 1
    result.refusals = sorted({f"{r.op}: {r.reason}" for r in lint(model)})
    feeds = {"image": image.numpy(), "cotangent": cotangent.numpy()}
    ours = _onnxruntime(model, feeds)
    theirs = _autograd(module, image, cotangent)
    del model, nodes
    gc.collect()

    module.double()
    exact = _autograd(module, image.double(), cotangent.double())
    result.torch_32 = relative(theirs, exact)
    result.error_32 = relative(ours, exact) if ours is not None else None
    double = to_onnx(module, torch.rand(2, 3, side, side, dtype=torch.float64), "image")
    del module, network
    gc.collect()
    double, _ = differentiated(double)
    made = evaluate(double, feeds)["d_image"]
    result.error_64 = relative(made, exact)
    _judge(result)


def _judge(result: Result) -> None:
    assert result.error_64 is not None
    assert result.torch_32 is not None
    allowed = max(EXACT_32, 10 * result.torch_32)
    off = result.error_32 is not None and not result.error_32 <= allowed
    if not result.error_64 <= WRONG_64:
        result.status, result.reason = "wrong", f"the float64 gradient is off by {result.error_64:.1e}"
    elif off:
        result.status, result.reason = "wrong", f"the float32 gradient is off by {result.error_32:.1e}"
    elif result.error_64 > EXACT_64:
        result.status, result.reason = "inexact", f"the float64 gradient is off by {result.error_64:.1e}"
    else:
        result.status = "exact"


def relative(a: np.ndarray, b: np.ndarray) -> float:
    """``|a - b| / |b|``."""
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def _autograd(module: nn.Module, image: torch.Tensor, cotangent: torch.Tensor) -> np.ndarray:
    image = image.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((module(image) * cotangent).sum(), image)
    array: np.ndarray = gradient.double().numpy()
    return array


def _onnxruntime(model: ir.Model, feeds: dict[str, np.ndarray]) -> np.ndarray | None:
    """``d_image`` in float32; None for a model too large to be one protobuf."""
    import onnxruntime

    if sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value) > MAX_PROTO_BYTES:
        return None
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    (gradient,) = session.run(["d_image"], feeds)
    return np.asarray(gradient, np.float64)
