"""What travels from export to the engines: a step graph, a decode graph, and the manifest that describes both."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

GRAPH_REVISION = 5
"""Raised whenever a change of the graph passes, the vjp rules or the update can change a job's result."""


@dataclass(frozen=True)
class Box:
    """A pixel rectangle, ends exclusive."""

    top: int
    left: int
    bottom: int
    right: int


@dataclass(frozen=True)
class StateField:
    """One tensor a slot carries from step to step: graph input ``name``, graph output ``name + ".next"``.

    Attributes:
        name: name of the graph's input.
        shape: per-slot shape; the graph's tensor is ``(batch, *shape)``.
        dtype: numpy dtype name.
        initial: value of every element when a job enters a slot; None when the job supplies it
            (``code``: the start code).
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    initial: float | None


@dataclass(frozen=True)
class StepManifest:
    """Describes a step graph and its decode graph.

    The step graph's inputs are ``unit`` (batch,) int64 and every field of ``state``; its outputs are ``NAME.next`` for
    every field of ``state``, ``activation`` (batch,) float32: the unit's activation at the code that came *in*,
    and ``gradient`` (batch,) float32: the mean absolute gradient with respect to that code, 0 when the unit is dead
    there. ``state`` always holds ``code`` (code_dim,), ``step`` () int64, ``best_code`` (code_dim,) and
    ``best_activation`` ().

    The decode graph maps ``code`` (batch, code_dim) float32 to ``image`` (batch, 3, image_px, image_px) float32 RGB in
    [0, 1].

    Attributes:
        layer: the layer as the user named it.
        target: the tensor that is maximised: the layer itself, or its pre-activation.
        num_units: channels of the layer; ``unit`` must lie in [0, num_units).
        position: (row, column) of the unit in a convolutional layer, None for a vector layer.
        batch: number of slots.
        steps: length of the learning-rate table; a job must not be stepped further.
        code_dim: length of a code.
        image_px: side of the generator's image.
        receptive_field: what the unit sees, in pixels of the generator's image.
        state: the tensors a slot carries.
        weight_bytes: of the step graph's weights; 0 where it is not known.
        live_bytes: the largest set of tensors of the step graph that are alive at once, nearly in proportion to
            ``batch``; 0 where it is not known.
        revision: GRAPH_REVISION of the code that made it.
    """

    layer: str
    target: str
    num_units: int
    position: tuple[int, int] | None
    batch: int
    steps: int
    code_dim: int
    image_px: int
    receptive_field: Box
    state: tuple[StateField, ...]
    weight_bytes: int = 0
    live_bytes: int = 0
    revision: int = GRAPH_REVISION

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> StepManifest:
        raw: dict[str, Any] = json.loads(text)
        raw["receptive_field"] = Box(**raw["receptive_field"])
        raw["state"] = tuple(StateField(f["name"], tuple(f["shape"]), f["dtype"], f["initial"]) for f in raw["state"])
        raw["position"] = tuple(raw["position"]) if raw["position"] else None
        return cls(**raw)


@dataclass(frozen=True)
class StepGraph:
    """Two serialised ONNX models and their manifest; weights included, shapes static, domain standard."""

    step: bytes
    decode: bytes
    manifest: StepManifest
