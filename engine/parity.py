"""Does an engine compute what a reference engine computes? A gate before an engine's results are trusted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.protocol import Runner
from engine.slots import Job
from engine.start import start_code
from export.errors import InputError
from export.manifest import StepManifest
from export.prior import CodePrior

Numbers = npt.NDArray[np.float32]

TINY = np.float32(1e-30)
FLOOR = np.float32(0.1)
"""Of the largest activation: below it a difference is compared with this."""
SET_ASIDE = 16
"""One code in so many may have met a kink, where rounding decides between two gradients."""
KINK = 10.0
"""How many times what is accepted elsewhere the gradient of such a code may be off; none at all is more."""


@dataclass(frozen=True)
class ParityReport:
    """Relative differences over codes, the largest unless said; nan where one side is not a number.

    Attributes:
        activation: ``|a - b| / max(|b|, 0.1 max|b|)``, b the reference: rounding to fp16 is as large where
            an activation is near 0 as elsewhere.
        gradient: of the mean absolute gradient, likewise, the worst of every 16 codes set aside.
        kink: of those set aside.
        move: ``||a - b|| / ||b||`` of what one step adds to the code, the median over all codes: Adam's first move is
            the sign of the gradient, which rounding decides where it is almost 0, and a ReLU at 0 decides for many.
        image: ``|a - b|`` of decoded pixels, which lie in [0, 1].
        num_codes: codes compared.
        num_moved: those of them at which the reference found a gradient.
    """

    activation: float
    gradient: float
    kink: float
    move: float
    image: float
    num_codes: int
    num_moved: int

    def ok(self, values: float, moves: float) -> bool:
        """Whether activations, gradients and pixels agree within ``values``, moves within ``moves``.

        A gradient that was set aside may be off by :data:`KINK` times ``values``.
        """
        near = all(error <= values for error in (self.activation, self.gradient, self.image))
        return near and self.kink <= KINK * values and self.move <= moves

    def __str__(self) -> str:
        return (
            f"relative error of activation {self.activation:.1e}, gradient {self.gradient:.1e} "
            f"(at kinks {self.kink:.1e}), move {self.move:.1e}, of pixels {self.image:.1e} "
            f"({self.num_codes} codes, {self.num_moved} with a gradient)"
        )


@dataclass(frozen=True, eq=False)
class Probe:
    """What an engine makes of some random codes in one step.

    Attributes:
        manifest: of the engine's step graph.
        start: (n, code_dim), the codes.
        code: (n, code_dim), after one step.
        activation: (n,).
        gradient: (n,), mean absolute.
        image: (n, 3, S, S), of the codes before the step.
    """

    manifest: StepManifest
    start: Numbers
    code: Numbers
    activation: Numbers
    gradient: Numbers
    image: Numbers


def probe(runner: Runner, prior: CodePrior, num_codes: int, seed: int = 0, scale: float = 1.0) -> Probe:
    """Take one step from random codes and units, the same for every engine of a layer.

    One step, and not several: ascent is chaotic, so that engines that differ by rounding are far apart after ten.

    Args:
        runner: its slots are overwritten.
        prior: where random codes are drawn, as start codes are.
        num_codes: as many rounds are run as it takes to pass them through the slots.
        seed: of codes and units.
        scale: spread of the codes, see :func:`engine.start.start_code`.

    Raises:
        InputError: there are no codes.
        EngineError: the runtime failed.
    """
    if num_codes < 1:
        raise InputError(f"compare one code or more, not {num_codes}")
    manifest = runner.manifest
    units = np.random.default_rng(seed).integers(0, manifest.num_units, num_codes).tolist()
    jobs = [Job(unit, seed + number) for number, unit in enumerate(units)]
    codes = np.stack([start_code(prior, f"parity of {manifest.layer}", job, scale) for job in jobs])
    found: dict[str, list[Numbers]] = {"code": [], "activation": [], "gradient": [], "image": []}
    for begin in range(0, num_codes, runner.num_slots):
        part = codes[begin : begin + runner.num_slots]
        slots = range(len(part))
        runner.fill(slots, units[begin : begin + len(part)], part)
        runner.step(1)
        scalars = runner.scalars()
        found["activation"].append(scalars.activation[: len(part)].copy())
        found["gradient"].append(scalars.gradient[: len(part)].copy())
        found["code"].append(runner.codes(slots))
        found["image"].append(runner.decode(part))
    return Probe(manifest, codes, **{name: np.concatenate(parts) for name, parts in found.items()})


def compare(ours: Probe, reference: Probe) -> ParityReport:
    """By how much two engines differ on the same codes.

    Raises:
        InputError: the probes are of different step graphs or codes.
    """
    if ours.manifest != reference.manifest or not np.array_equal(ours.start, reference.start):
        raise InputError("the probes are of different step graphs or codes; probe two engines of one graph alike")
    gradients = np.sort(_relative(ours.gradient, reference.gradient))  # what is not a number comes last
    kinks = len(gradients) // SET_ASIDE
    return ParityReport(
        activation=_largest(_relative(ours.activation, reference.activation)),
        gradient=_largest(gradients[: len(gradients) - kinks]),
        kink=_largest(gradients[len(gradients) - kinks :]),
        move=float(np.median(_distances(ours.code, reference.code, ours.start))),  # nan if any is
        image=_largest(np.abs(ours.image - reference.image)),
        num_codes=len(ours.start),
        num_moved=int(np.count_nonzero(reference.gradient)),
    )


def _relative(values: Numbers, reference: Numbers) -> Numbers:
    with np.errstate(invalid="ignore"):
        size = np.abs(reference)
        floor = np.maximum(FLOOR * size.max(), TINY)
        errors: Numbers = np.abs(values - reference) / np.maximum(size, floor)
        return errors


def _distances(values: Numbers, reference: Numbers, start: Numbers) -> Numbers:
    """Relative L2 distance of each row's move; one below rounding of the code counts as rounding of the code."""
    size = np.maximum(np.linalg.norm(reference - start, axis=1), 1e-4 * np.linalg.norm(start, axis=1))
    distances: Numbers = np.linalg.norm(values - reference, axis=1) / np.maximum(size, TINY)
    return distances


def _largest(values: Numbers) -> float:
    """The largest value, nan if any is, 0 of none."""
    return float(np.max(values, initial=0.0))
