"""One network: export, compile the gradient with respect to the image, compare with autograd.

Rounding to float32 puts ReLUs and maxima on the other side of their kink, and the exporter stores some constants (an
attention scale) in float32. So the verdict is taken in float64 on the exported graph, which PyTorch runs and
differentiates operator by operator; the module itself is compared within what rounding explains.
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
from export.passes.widen import widen
from export.reference import evaluate
from export.sources.torch_export import read_torch_network, to_onnx
from export.sources.torch_import import autograd_of
from export.vjp import append_gradient

EXACT_64, EXACT_32 = 1e-9, 1e-4
MODULE_64 = 1e-4
"""Of the float64 gradient against the module's, which differs by constants that the exporter rounds to float32; where
rounding everything moves PyTorch's own gradient by more, that much."""
NUM_IMAGES = 5
"""Images tried until one crosses no kink in float32."""
MAX_PROTO_BYTES = 1_800_000_000


@dataclass
class Result:
    """What was measured of one network.

    Attributes:
        source: as a user names it.
        status: ``exact`` (float64 within 1e-9 of the graph's and 1e-4 of the module's autograd, float32 within 1e-4 or
            ten times PyTorch's own error), ``wrong``, or ``failed``.
        reason: why it is not exact.
        image_px: side of its input.
        parameters: how many.
        num_forward: nodes before the gradient is appended.
        num_gradient: nodes of the gradient.
        operators: of the forward graph, with counts.
        error_64: relative L2 error of the gradient in float64 against autograd on the exported graph in float64.
        module_64: that against autograd on the PyTorch module in float64.
        error_32: that in float32, under ONNX Runtime, against the module in float64; the best of up to five images.
        torch_32: that of PyTorch in float32, for the same image.
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
    module_64: float | None = None
    error_32: float | None = None
    torch_32: float | None = None
    export_s: float = 0.0
    compile_s: float = 0.0
    refusals: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def settle(module: nn.Module, side: int) -> None:
    """Make an untrained network one whose gradient means something.

    Parameters that are all alike (a layer scale of 1e-6, a zero bias) are spread, then BatchNorm gets the statistics
    of a pass over noise, each moved a little at random. Statistics from nowhere let the signal die or burst over the
    depth, and scales of 1 make a deep network chaotic: EfficientNet-B5's gradient then has no digit left in float32 and
    five in float64, in PyTorch as here.
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
            if norm.affine:
                nn.init.uniform_(norm.weight, 0.2, 0.6)
                nn.init.normal_(norm.bias, std=0.2)
        module(torch.rand(4, 3, side, side))
        for norm in norms:
            norm.eval()
            if norm.running_mean is None or norm.running_var is None:
                continue
            norm.running_mean.add_(0.05 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean))
            norm.running_var.mul_(0.8 + 0.4 * torch.rand_like(norm.running_var))


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
    start = time.perf_counter()
    model = to_onnx(module, torch.rand(2, 3, side, side), "image")
    result.export_s = time.perf_counter() - start
    forward = model.clone()
    start = time.perf_counter()
    model, result.num_forward = differentiated(model)
    result.compile_s = time.perf_counter() - start
    nodes = list(model.graph)
    result.num_gradient = len(nodes) - result.num_forward
    for node in nodes[: result.num_forward]:
        result.operators[node.op_type] = result.operators.get(node.op_type, 0) + 1
    result.refusals = sorted({f"{r.op}: {r.reason}" for r in lint(model)})
    _float32(result, module, model, side)
    del model, nodes
    gc.collect()

    widen(forward)
    doubled, _ = differentiated(forward.clone())
    image, cotangent = _example(module, side, 0)
    feeds = {"image": image.double().numpy(), "cotangent": cotangent.double().numpy()}
    made = evaluate(doubled, feeds, double=False)["d_image"]
    result.module_64 = relative(made, _autograd(module, image.double(), cotangent.double()))
    del module, network, doubled
    gc.collect()
    set_batch(forward, 1)
    of = str(forward.graph.outputs[0].name)
    result.error_64 = relative(made, autograd_of(forward, of, "image", {"image": feeds["image"]}, feeds["cotangent"]))
    judge(result)


def _example(module: nn.Module, side: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """An image of noise and a cotangent of the logits."""
    torch.manual_seed(seed)
    image = torch.rand(1, 3, side, side)
    with torch.no_grad():
        logits = module(image.to(next(module.parameters()).dtype))
    return image, torch.randn(logits.shape)


def _float32(result: Result, module: nn.Module, model: ir.Model, side: int) -> None:
    """Leaves the module in float64. Images are tried until one crosses no kink."""
    import onnxruntime

    if sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value) > MAX_PROTO_BYTES:
        module.double()
        return  # too large to be one protobuf
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    for seed in range(NUM_IMAGES):
        image, cotangent = _example(module.float(), side, seed)
        single = _autograd(module, image, cotangent)
        exact = _autograd(module.double(), image.double(), cotangent.double())
        (ours,) = session.run(["d_image"], {"image": image.numpy(), "cotangent": cotangent.numpy()})
        error = relative(ours, exact)
        if result.error_32 is None or error < result.error_32:
            result.error_32, result.torch_32 = error, relative(single, exact)
        if result.error_32 <= EXACT_32:
            return


def judge(result: Result) -> None:
    """Set the verdict that follows from the errors; a network that could not be measured keeps its own."""
    if result.error_64 is None or result.module_64 is None:
        return
    rounding = result.torch_32 or 0.0  # what rounding everything to float32 does to PyTorch's gradient
    result.status, result.reason = "wrong", ""
    if not result.error_64 <= EXACT_64:
        result.reason = f"in float64 it is off by {result.error_64:.1e}"
    elif not result.module_64 <= max(MODULE_64, rounding):
        result.reason = f"in float64 it is off the module's by {result.module_64:.1e}"
    elif result.error_32 is not None and not result.error_32 <= max(EXACT_32, 10 * rounding):
        result.reason = f"in float32 it is off by {result.error_32:.1e}"
    else:
        result.status = "exact"


def relative(a: np.ndarray, b: np.ndarray) -> float:
    """``|a - b| / |b|``."""
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def _autograd(module: nn.Module, image: torch.Tensor, cotangent: torch.Tensor) -> np.ndarray:
    image = image.clone().requires_grad_()
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    hooks = [norm.register_forward_hook(_contiguous_gradient) for norm in norms]
    (gradient,) = torch.autograd.grad((module(image) * cotangent).sum(), image)
    for hook in hooks:
        hook.remove()
    array: np.ndarray = gradient.double().numpy()
    return array


def _contiguous_gradient(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
    """PyTorch 2.14's derivative of BatchNorm is wrong on the CPU for one image and a transposed gradient."""
    if output.requires_grad:
        output.register_hook(lambda gradient: gradient.contiguous())  # type: ignore[no-untyped-call]
