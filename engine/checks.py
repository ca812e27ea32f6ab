"""What a runner checks before it trusts its models and its callers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from export.errors import EngineError, InputError
from export.manifest import StepManifest


@dataclass(frozen=True)
class TensorSpec:
    """Shape and numpy dtype name of one input or output."""

    shape: tuple[int, ...]
    dtype: str


class Model(Protocol):
    """Anything that says what it reads and writes."""

    @property
    def inputs(self) -> Mapping[str, TensorSpec]: ...

    @property
    def outputs(self) -> Mapping[str, TensorSpec]: ...


def check_fill(
    manifest: StepManifest,
    num_slots: int,
    slots: Sequence[int],
    units: Sequence[int],
    codes: npt.NDArray[np.float32],
) -> None:
    """Check the arguments of :meth:`engine.protocol.Runner.fill`.

    Raises:
        InputError: naming what is out of range.
    """
    if not all(0 <= slot < num_slots for slot in slots) or len(set(slots)) != len(slots):
        raise InputError(f"slots {list(slots)} must be different and lie in [0, {num_slots})")
    wrong = [unit for unit in units if not 0 <= unit < manifest.num_units]
    if wrong:
        raise InputError(f"layer {manifest.layer} has units 0 to {manifest.num_units - 1}; there is no unit {wrong[0]}")
    if len(units) != len(slots) or codes.shape != (len(slots), manifest.code_dim):
        raise InputError(
            f"{len(slots)} slots need as many units and codes ({len(slots)}, {manifest.code_dim}), "
            f"not {len(units)} and {codes.shape}"
        )


def check_models(manifest: StepManifest, step: Model, decode: Model) -> None:
    """Check that two models are the step and the decode graph of a manifest.

    Raises:
        EngineError: naming the first tensor that is not what the manifest says.
    """
    batch, fields = manifest.batch, manifest.state
    missing = {"code", "step", "best_code", "best_activation"} - {field.name for field in fields}
    if missing:
        raise EngineError(f"the manifest's state lacks {', '.join(sorted(missing))}; compile the step graph again")
    state = {field.name: TensorSpec((batch, *field.shape), field.dtype) for field in fields}
    scalar = TensorSpec((batch,), "float32")
    code = TensorSpec((batch, manifest.code_dim), "float32")
    image = TensorSpec((batch, 3, manifest.image_px, manifest.image_px), "float32")
    _check("step graph's inputs", step.inputs, {"unit": TensorSpec((batch,), "int64"), **state})
    following = {name + ".next": spec for name, spec in state.items()}
    _check("step graph's outputs", step.outputs, {**following, "activation": scalar, "gradient": scalar}, exact=False)
    _check("decode graph's inputs", decode.inputs, {"code": code})
    _check("decode graph's outputs", decode.outputs, {"image": image}, exact=False)


def _check(
    what: str, found: Mapping[str, TensorSpec], expected: Mapping[str, TensorSpec], *, exact: bool = True
) -> None:
    """``exact`` refuses further names too: an input nobody binds cannot run, a further output does no harm."""
    names = {**expected, **found} if exact else expected
    wrong = [name for name in names if found.get(name) != expected.get(name)]
    if wrong:
        name = wrong[0]
        raise EngineError(
            f"the {what} do not match its manifest: {name} is {_words(found.get(name))}, "
            f"the manifest says {_words(expected.get(name))}; compile the step graph again"
        )


def _words(spec: TensorSpec | None) -> str:
    return f"{spec.dtype}{list(spec.shape)}" if spec else "absent"
