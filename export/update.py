"""One optimiser step inside the graph: ascent, code prior, best-so-far.

Every slot reads the schedule at its own step counter, so jobs of different ages share a batch. The gradient is
normalised by its mean absolute value per slot, which makes the ascent invariant to the gradient's scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from export.manifest import StateField
from export.prior import CodePrior
from export.view import NO_ZOOM, View, make_view
from export.vjp.emit import Emitter, shape_of

TINY = 1e-30


@dataclass(frozen=True)
class Ascent:
    """The optimiser and its schedule; the learning rate falls linearly from ``lr`` to ``lr_end``.

    Attributes:
        kind: ``normalized``: ``h += lr g / mean|g|``, the prior's pull the same in every step, as published;
            ``adam``: Adam on ``g / mean|g|``, each component at the generator's pace, and the pull falls with the
            rate, as AdamW's does (Loshchilov and Hutter 2019): else it wins once the steps are small.
        steps: length of the schedule.
        lr: first learning rate, in units of the code.
        lr_end: last learning rate.
        warmup: steps of Adam over which the rate rises to that schedule; ``normalized`` has none. The first of them
            move every component as far as any other, however small its derivative (the moments of one gradient are
            that gradient): at the full rate they throw a code off the candidate that it started at.
        beta1: Adam's decay of the first moment.
        beta2: Adam's decay of the second moment.
        jitter_px: largest shift of the view, in pixels of the network's input.
        zoom: smallest and largest magnification of the view, about its centre.
        rotate_deg: largest rotation of the view, both ways.
        fit: how the image meets the network's input: ``resize`` or ``crop``.
    """

    kind: Literal["adam", "normalized"] = "adam"
    steps: int = 60
    lr: float = 0.25
    lr_end: float = 0.0
    warmup: int = 10
    beta1: float = 0.5
    beta2: float = 0.9
    jitter_px: int = 0
    zoom: tuple[float, float] = NO_ZOOM
    rotate_deg: float = 0.0
    fit: Literal["resize", "crop"] = "resize"

    def learning_rates(self) -> np.ndarray:
        """(steps,) float32, ``lr + (lr_end - lr) i / (steps - 1)``, of Adam times ``min(1, (i + 1) / warmup)``."""
        rates = np.linspace(self.lr, self.lr_end, self.steps)
        if self.kind == "adam" and self.warmup:
            rates *= np.minimum(1, np.arange(1, self.steps + 1) / self.warmup)
        return rates.astype(np.float32)

    def view(self, image_px: int, height: int, width: int) -> View:
        """How a network whose input is (height, width) sees a generator's image, step by step.

        Raises:
            ModelError: see :func:`export.view.make_view`.
        """
        return make_view(
            image_px,
            height,
            width,
            fit=self.fit,
            jitter_px=self.jitter_px,
            steps=self.steps,
            zoom=self.zoom,
            rotate_deg=self.rotate_deg,
        )


def state_fields(ascent: Ascent, code_dim: int) -> tuple[StateField, ...]:
    """The tensors a slot carries under this ascent."""
    moments = ("moment1", "moment2") if ascent.kind == "adam" else ()
    return (
        StateField("code", (code_dim,), "float32", None),
        StateField("step", (), "int64", 0.0),
        StateField("best_code", (code_dim,), "float32", 0.0),
        StateField("best_activation", (), "float32", float("-inf")),
        *(StateField(name, (code_dim,), "float32", 0.0) for name in moments),
    )


def add_update(
    e: Emitter,
    state: dict[str, ir.Value],
    activation: ir.Value,
    gradient: ir.Value,
    ascent: Ascent,
    prior: CodePrior,
    recorded: np.ndarray,
    pace: np.ndarray | None = None,
) -> dict[str, ir.Value]:
    """Emit one step.

    Args:
        e: emitter of the step graph.
        state: field name -> graph input (batch, *shape).
        activation: (batch,) at the incoming code.
        gradient: (batch, code_dim), its derivative.
        ascent: the schedule.
        prior: keeps the code plausible after the step; see :mod:`export.priors`.
        recorded: (steps,) bool, whether a step's activation may become the best so far (not under jitter).
        pace: (code_dim,) what Adam's step along a component is multiplied by; None for 1.

    Returns:
        field name -> next value; and ``gradient``: (batch,) mean absolute gradient.
    """
    code, step = state["code"], state["step"]
    batch, _ = shape_of(code)
    last = e.const(np.asarray(ascent.steps - 1, np.int64))
    age = e.op("Min", step, last)
    rates = ascent.learning_rates()

    size = _mean_absolute(e, gradient)
    direction = e.op("Div", gradient, e.op("Max", size, e.const(np.asarray(TINY, np.float32))))
    updated: dict[str, ir.Value] = {}
    if ascent.kind == "adam":
        ages = np.arange(1, ascent.steps + 1)
        one, two = (np.asarray(b, np.float32) for b in (ascent.beta1, ascent.beta2))
        m = _blend(e, state["moment1"], direction, one)
        v = _blend(e, state["moment2"], e.op("Mul", direction, direction), two)
        # lr m_hat / sqrt(v_hat), the corrections 1 - beta^t gathered with the rate
        factor = _column(e, (rates / (1 - ascent.beta1**ages)).astype(np.float32), age)
        root = _column(e, (1 / (1 - ascent.beta2**ages)).astype(np.float32), age)
        spread = e.op("Add", e.op("Sqrt", e.op("Mul", v, root)), e.const(np.asarray(1e-8, np.float32)))
        move = e.op("Div", e.op("Mul", m, factor), spread)
        if pace is not None and (pace != 1).any():
            move = e.op("Mul", move, e.const(pace.astype(np.float32)[None]))
        share = _column(e, rates / np.float32(max(ascent.lr, ascent.lr_end)), age)
        moved = prior.emit(e, e.op("Add", code, move), share)
        updated |= {"moment1": m, "moment2": v}
    else:
        moved = prior.emit(e, e.op("Add", code, e.op("Mul", direction, _column(e, rates, age))))

    may = e.op("Gather", e.const(np.asarray(recorded, np.bool_)), age, axis=0)
    better = e.op("And", may, e.op("Greater", activation, state["best_activation"]))
    column = e.op("Reshape", better, e.const(np.asarray([batch, 1], np.int64)))
    return updated | {
        "code": moved,
        "step": e.op("Add", step, e.const(np.asarray(1, np.int64))),
        "best_code": e.op("Where", column, code, state["best_code"]),
        "best_activation": e.op("Where", better, activation, state["best_activation"]),
        "gradient": e.op("Reshape", size, e.const(np.asarray([batch], np.int64))),
    }


def _column(e: Emitter, table: np.ndarray, age: ir.Value) -> ir.Value:
    """Per-slot entries of a (steps,) table as a (batch, 1) column."""
    return e.op("Gather", e.const(table[:, None]), age, axis=0)


def _blend(e: Emitter, old: ir.Value, new: ir.Value, beta: np.ndarray) -> ir.Value:
    """``beta old + (1 - beta) new``."""
    return e.op("Add", e.op("Mul", old, e.const(beta)), e.op("Mul", new, e.const(np.float32(1) - beta)))


def _mean_absolute(e: Emitter, gradient: ir.Value) -> ir.Value:
    """(batch, 1) mean of |g|.

    ONNX Runtime's reductions depend on the slot in the last bit unless a row is a multiple of 16 floats, so rows are
    padded with zeros.
    """
    _, width = shape_of(gradient)
    padded = e.pad(e.op("Abs", gradient), [0, 0], [0, -width % 16])
    return e.mul(e.sum(padded, [1]), 1 / width)
