"""Does an engine compute what a reference engine computes? A gate before an engine's results are trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.protocol import Runner
from engine.slots import Job
from engine.start import start_code
from export.errors import InputError
from export.prior import CodePrior

Numbers = npt.NDArray[np.float32]

TINY = np.float32(1e-30)


@dataclass(frozen=True)
class ParityReport:
    """Largest relative differences over slots and steps; nan where one side is not a number.

    Attributes:
        activation: ``|a - b| / max(|b|, 0.01 max|b|)``, b the reference.
        gradient: of the mean absolute gradient, likewise.
        code: ``||a - b|| / ||b||`` of the codes the steps led to.
        image: ``|a - b|`` of decoded pixels, which lie in [0, 1].
        num_steps: steps run.
        num_codes: codes compared.
    """

    activation: float
    gradient: float
    code: float
    image: float
    num_steps: int
    num_codes: int

    def ok(self, tolerance: float) -> bool:
        """Whether activations, codes and images agree within ``tolerance`` and any code could be compared."""
        return self.num_codes > 0 and all(error <= tolerance for error in (self.activation, self.code, self.image))

    def __str__(self) -> str:
        return (
            f"relative error of activation {self.activation:.1e}, gradient {self.gradient:.1e}, code {self.code:.1e}, "
            f"of pixels {self.image:.1e} ({self.num_steps} steps, {self.num_codes} codes)"
        )


def compare(
    runner: Runner, reference: Runner, prior: CodePrior, num_steps: int = 4, seed: int = 0, scale: float = 1.0
) -> ParityReport:
    """Step both from the same random codes and units and report how far they drift apart.

    A code is compared once the step that looks at it finds its activation the best so far, since a runner gives away
    only best codes; in ascent that is most of them. Differences grow with ``num_steps``.

    Args:
        runner: the engine in question; its slots are overwritten.
        reference: an engine of the same step graph; its slots are overwritten.
        prior: where random codes are drawn, as start codes are.
        num_steps: at least 2: the first step's code is the one put in.
        seed: of codes and units.
        scale: spread of the codes, see :func:`engine.start.start_code`.

    Raises:
        InputError: the two engines are of different step graphs, or ``num_steps`` is out of range.
        EngineError: a runtime failed.
    """
    manifest = runner.manifest
    if manifest != reference.manifest:
        raise InputError("the two engines were built from different step graphs; build both from the same one")
    if not 2 <= num_steps <= manifest.steps:
        raise InputError(f"compare 2 to {manifest.steps} steps, not {num_steps}")
    if runner.num_slots != reference.num_slots:
        raise InputError(
            f"the two engines have {runner.num_slots} and {reference.num_slots} slots; build both with the same lanes"
        )
    slots = range(runner.num_slots)
    units = np.random.default_rng(seed).integers(0, manifest.num_units, len(slots)).tolist()
    codes = np.stack(
        [start_code(prior, f"parity of {manifest.layer}", Job(u, seed + i), scale) for i, u in enumerate(units)]
    )
    for engine in (runner, reference):
        engine.fill(slots, units, codes)
    errors: dict[str, list[float]] = {"activation": [], "gradient": [], "code": [], "image": []}
    best = np.full((2, len(slots)), -np.inf, np.float32)
    for index in range(num_steps):
        runner.step(1)
        reference.step(1)
        ours, theirs = runner.scalars(), reference.scalars()
        errors["activation"].append(_relative(ours.activation, theirs.activation))
        errors["gradient"].append(_relative(ours.gradient, theirs.gradient))
        now = np.stack([ours.best_activation, theirs.best_activation])
        rows = np.flatnonzero((now > best).all(axis=0)).tolist()
        best = now
        if rows and index:  # the codes of step 0 are those put in
            errors["code"] += _distances(runner.best_codes(rows), reference.best_codes(rows))
    errors["image"].append(_largest(np.abs(runner.decode(codes) - reference.decode(codes))))
    worst = {name: _largest(np.asarray(values)) for name, values in errors.items()}
    return ParityReport(**worst, num_steps=num_steps, num_codes=len(errors["code"]))


def _relative(values: Numbers, reference: Numbers) -> float:
    with np.errstate(invalid="ignore"):
        size = np.abs(reference)
        floor = np.maximum(0.01 * size.max(), TINY)
        return _largest(np.abs(values - reference) / np.maximum(size, floor))


def _distances(codes: Numbers, reference: Numbers) -> Sequence[float]:
    size = np.maximum(np.linalg.norm(reference, axis=1), TINY)
    distances: list[float] = (np.linalg.norm(codes - reference, axis=1) / size).tolist()
    return distances


def _largest(values: Numbers) -> float:
    """The largest value, nan if any is, 0 of none."""
    return float(np.max(values, initial=0.0))
