"""Is the compiled gradient of a unit right? Against autograd on the PyTorch module, or finite differences.

Everything is computed in float64. In float32 a ReLU near its kink falls to the other side by rounding alone, in PyTorch
as well, and a right gradient of a deep network is off by up to 1e-2.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from export.errors import AtlasError, InputError
from export.gradient import gradient_model, node_counts
from export.network import Network
from export.passes.widen import widen
from export.reference import evaluate
from export.step import cut_at

ALLOWED = 1e-4
IMAGES = 3
"""Images of noise tried until one has a gradient: a unit behind a ReLU may be silent."""
DIRECTIONS = 3
STEP = 1e-7
"""Of the central differences, on an image in units of its standard deviation. Over ten times as much, ReLUs of deep
networks change sides within a step (1e-6: off by 3e-4 on ResNet-18); under a tenth, rounding shows (1e-8: 6e-7)."""
SAME_OUTPUT = 1e-3
"""Relative difference of the layer's output up to which module and ONNX graph are the same network."""
PYTORCH = ("torchvision", "timm", "python", "lite0")

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class GradientReport:
    """What a check found.

    Attributes:
        relative_error: L2; of the gradient with respect to the network's input (autograd), or of its derivatives along
            random directions (finite differences), which estimates the same; 0 where both are zero.
        against: ``autograd`` or ``finite-differences``.
        nodes_forward: of the network up to the layer.
        nodes_gradient: that the gradient adds.
        compile_s: to differentiate and clean up.
        notes: what the user should know besides, one sentence each.
    """

    relative_error: float
    against: str
    nodes_forward: int
    nodes_gradient: int
    compile_s: float
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Everything but the notes, for JSON."""
        facts = asdict(self)
        del facts["notes"]
        return facts

    def demand(self) -> None:
        """Accept the gradient.

        Raises:
            AtlasError: it is off by more than ``ALLOWED``.
        """
        if not self.relative_error <= ALLOWED:
            raise AtlasError(
                f"the compiled gradient is off by {self.relative_error:.1e} against {self.against}, where "
                f"{ALLOWED:.0e} is allowed; please report it with the network and the layer"
            )


def check_gradient(
    network: Network, layer: str, unit: int = 0, *, source: str = "", weights: Path | None = None
) -> GradientReport:
    """Check the gradient of one unit (at the centre of a feature map) with respect to the network's input.

    Args:
        network: what ``source`` names.
        layer: as ``neuron-atlas layers`` lists it.
        unit: from 0.
        source: where ``network`` comes from; for a PyTorch network, autograd is asked.
        weights: its state dict.

    Raises:
        InputError: no such layer or unit.
        MissingRuleError: operators without a vjp rule; all of them are listed.
    """
    info = network.layer(layer)
    if not 0 <= unit < info.num_units:
        raise InputError(f"layer {layer!r} has units 0 to {info.num_units - 1}; there is no unit {unit}")
    forward = network.model(1)
    name = str(forward.graph.inputs[0].name)
    start = time.perf_counter()
    model = gradient_model(forward, info.tensor, name)
    compile_s = time.perf_counter() - start
    cotangent = np.zeros((1, *info.shape))
    cotangent[(0, unit, *(side // 2 for side in info.shape[1:]))] = 1.0
    image, output, gradient = _live(model, cotangent)

    notes = [] if gradient.any() else [f"the gradient is zero for {IMAGES} images of noise, so this says little"]
    exact = None
    if source.partition(":")[0] in PYTORCH:
        exact, why_not = _autograd(source, weights, layer, image, cotangent, output)
        notes += [f"finite differences instead of autograd: {why_not}"] if exact is None else []
    if exact is not None:
        error, against = _relative(gradient - exact, exact), "autograd"
    else:
        cut_at(forward, info.tensor)
        widen(forward)
        error, against = _difference_error(forward, image, cotangent, gradient), "finite-differences"
    return GradientReport(error, against, *node_counts(model), compile_s, tuple(notes))


def _live(model: ir.Model, cotangent: Array) -> tuple[Array, Array, Array]:
    """(image, the layer's output, gradient): the first image of noise whose gradient is not zero, or the last tried."""
    image_input, *_, cotangent_input = model.graph.inputs
    shape = tuple(image_input.shape.numpy())  # type: ignore[union-attr]
    for seed in range(IMAGES):
        image = np.random.default_rng(seed).normal(size=shape)
        feeds = {str(image_input.name): image, str(cotangent_input.name): cotangent}
        output, gradient = evaluate(model, feeds).values()
        if gradient.any():
            break
    return image, output, gradient


def _autograd(
    source: str, weights: Path | None, layer: str, image: Array, cotangent: Array, output: Array
) -> tuple[Array | None, str]:
    """(the module's gradient, "") or (None, why there is none to compare with)."""
    try:
        from export.sources.module_gradient import NoCounterpart, module_gradient
    except ImportError as error:
        return None, f"PyTorch is missing ({error})"
    try:
        made = module_gradient(source, weights, layer, image, cotangent)
    except NoCounterpart as error:
        return None, str(error)
    apart = _relative(output - made.output, made.output)
    if not apart <= SAME_OUTPUT:
        return None, f"the module's output differs from the exported network's by {apart:.1e}; export it again"
    return made.gradient, ""


def _difference_error(forward: ir.Model, image: Array, cotangent: Array, gradient: Array) -> float:
    name, of = str(forward.graph.inputs[0].name), str(forward.graph.outputs[0].name)
    rng = np.random.default_rng(IMAGES)
    ours, numeric = [], []
    for _ in range(DIRECTIONS):
        direction = rng.normal(size=image.shape)
        ends = [evaluate(forward, {name: image + s * STEP * direction}, double=False)[of] for s in (1, -1)]
        numeric.append(float(((ends[0] - ends[1]) * cotangent).sum()) / (2 * STEP))
        ours.append(float((gradient * direction).sum()))
    return _relative(np.subtract(ours, numeric), np.asarray(numeric))


def _relative(difference: npt.NDArray[Any], exact: npt.NDArray[Any]) -> float:
    size = float(np.linalg.norm(exact))
    return float(np.linalg.norm(difference)) / (size or 1.0)
