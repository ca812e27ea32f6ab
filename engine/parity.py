"""Does an engine compute what a reference engine computes? A gate before an engine's results are trusted."""

from __future__ import annotations

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
    """Relative differences over slots and rounds, the largest unless said; nan where one side is not a number.

    Attributes:
        activation: ``|a - b| / max(|b|, 0.01 max|b|)``, b the reference.
        gradient: of the mean absolute gradient, likewise.
        move: ``||a - b|| / ||b||`` of what one step adds to the code, the median over all codes: Adam's first move is
            the sign of the gradient, which rounding decides where it is almost 0, and a ReLU at 0 decides for many.
        image: ``|a - b|`` of decoded pixels, which lie in [0, 1].
        num_codes: codes compared.
        num_moved: those of them at which the reference found a gradient.
    """

    activation: float
    gradient: float
    move: float
    image: float
    num_codes: int
    num_moved: int

    def ok(self, values: float, moves: float) -> bool:
        """Whether activations, gradients and pixels agree within ``values``, moves within ``moves``."""
        near = all(error <= values for error in (self.activation, self.gradient, self.image))
        return near and self.move <= moves

    def __str__(self) -> str:
        return (
            f"relative error of activation {self.activation:.1e}, gradient {self.gradient:.1e}, move {self.move:.1e}, "
            f"of pixels {self.image:.1e} ({self.num_codes} codes, {self.num_moved} with a gradient)"
        )


def compare(
    runner: Runner, reference: Runner, prior: CodePrior, rounds: int = 2, seed: int = 0, scale: float = 1.0
) -> ParityReport:
    """Take one step with both from the same random codes and units, and report by how much they differ.

    One step, and not several: ascent is chaotic, so that engines that differ by rounding are far apart after ten.

    Args:
        runner: the engine in question; its slots are overwritten.
        reference: an engine of the same step graph with as many slots; they are overwritten.
        prior: where random codes are drawn, as start codes are.
        rounds: times that all slots are filled anew.
        seed: of codes and units.
        scale: spread of the codes, see :func:`engine.start.start_code`.

    Raises:
        InputError: the two engines are of different step graphs or have different numbers of slots, or there are no
            rounds.
        EngineError: a runtime failed.
    """
    manifest = runner.manifest
    if manifest != reference.manifest:
        raise InputError("the two engines were built from different step graphs; build both from the same one")
    if runner.num_slots != reference.num_slots:
        raise InputError(
            f"the two engines have {runner.num_slots} and {reference.num_slots} slots; build both with the same lanes"
        )
    if rounds < 1:
        raise InputError(f"compare one round or more, not {rounds}")
    slots = range(runner.num_slots)
    rng = np.random.default_rng(seed)
    errors: dict[str, list[float]] = {"activation": [], "gradient": [], "image": []}
    moves: list[Numbers] = []
    num_moved = 0
    for number in range(rounds):
        units = rng.integers(0, manifest.num_units, len(slots)).tolist()
        jobs = [Job(unit, seed + number * len(slots) + slot) for slot, unit in enumerate(units)]
        codes = np.stack([start_code(prior, f"parity of {manifest.layer}", job, scale) for job in jobs])
        for engine in (runner, reference):
            engine.fill(slots, units, codes)
            engine.step(1)
        ours, theirs = runner.scalars(), reference.scalars()
        errors["activation"].append(_relative(ours.activation, theirs.activation))
        errors["gradient"].append(_relative(ours.gradient, theirs.gradient))
        moves.append(_distances(runner.codes(slots), reference.codes(slots), codes))
        errors["image"].append(_largest(np.abs(runner.decode(codes) - reference.decode(codes))))
        num_moved += int(np.count_nonzero(theirs.gradient))
    worst = {name: _largest(np.asarray(values)) for name, values in errors.items()}
    move = float(np.median(np.concatenate(moves)))  # nan if any is
    return ParityReport(**worst, move=move, num_codes=rounds * len(slots), num_moved=num_moved)


def _relative(values: Numbers, reference: Numbers) -> float:
    with np.errstate(invalid="ignore"):
        size = np.abs(reference)
        floor = np.maximum(0.01 * size.max(), TINY)
        return _largest(np.abs(values - reference) / np.maximum(size, floor))


def _distances(values: Numbers, reference: Numbers, start: Numbers) -> Numbers:
    """Relative L2 distance of each row's move; one below rounding of the code counts as rounding of the code."""
    size = np.maximum(np.linalg.norm(reference - start, axis=1), 1e-4 * np.linalg.norm(start, axis=1))
    distances: Numbers = np.linalg.norm(values - reference, axis=1) / np.maximum(size, TINY)
    return distances


def _largest(values: Numbers) -> float:
    """The largest value, nan if any is, 0 of none."""
    return float(np.max(values, initial=0.0))
