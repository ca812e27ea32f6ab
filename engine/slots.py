"""Which job is in which slot, and when it leaves. Pure Python: no arrays, no device.

Every poll, each slot's history grows by one :class:`Reading`; whether its job ends depends on that history alone, so a
job's result cannot depend on which jobs share its batch. Slots are refilled only at polls.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from export.errors import InputError

Status = Literal["done", "dead"]


@dataclass(frozen=True)
class Job:
    """One unit of the layer to maximise, from one start code.

    Attributes:
        unit: index of the unit in its layer.
        seed: chooses the start code.
        attempt: likewise; of the attempts at one unit and seed only the best is a result, see :class:`Schedule`.
    """

    unit: int
    seed: int
    attempt: int = 0

    def attempts(self, count: int) -> list[Job]:
        """So many attempts at it."""
        return [replace(self, attempt=number) for number in range(count)]

    @property
    def rivals(self) -> tuple[int, int]:
        """What jobs have in common that are attempts at the same."""
        return self.unit, self.seed


@dataclass(frozen=True)
class Reading:
    """One slot's values at a poll.

    Attributes:
        activation: at the code the last step began with.
        gradient: mean absolute gradient at that code.
        best: highest activation so far; -inf while there is none.
    """

    activation: float
    gradient: float
    best: float

    @property
    def finite(self) -> bool:
        """Whether the ascent can go on from here."""
        return math.isfinite(self.activation) and math.isfinite(self.gradient)

    @property
    def climbs(self) -> bool:
        """Whether there was a direction to climb."""
        return math.isfinite(self.gradient) and self.gradient != 0


@dataclass(frozen=True)
class StopRule:
    """When a job ends.

    A job ends at the first poll at which one of these holds:

    - it has done ``max_steps`` steps;
    - plateau: it has done ``minimum`` steps, and over the last ``patience`` steps (rounded up to polls) its best
      activation rose by less than ``tolerance * max(|best|, 1e-6)``;
    - it has done ``dead_after`` steps and no poll has shown a gradient;
    - activation or gradient is not finite: nothing can follow, since the code is then not finite either.

    However it ends, it is ``dead`` if no poll ever showed a finite gradient other than 0, or if it has no finite best
    activation: its code is then no result of ascent. Otherwise it is ``done`` with its best code so far, also after
    an overflow: the best code is from before it.

    Attributes:
        max_steps: at most the manifest's ``steps``.
        tolerance: relative rise below which it has converged; 0 never stops early.
        patience: steps over which the rise is measured.
        minimum: steps before which no plateau counts.
        dead_after: steps a unit is given to show a gradient.
    """

    max_steps: int
    tolerance: float = 0.0
    patience: int = 20
    minimum: int = 0
    dead_after: int = 10

    def __post_init__(self) -> None:
        if self.max_steps < 1 or self.patience < 1 or self.minimum < 0 or self.dead_after < 1:
            raise InputError(f"steps must be counts from 1 (minimum: from 0), not {self}")
        if not 0 <= self.tolerance < math.inf:
            raise InputError(f"tolerance must be 0 or a small positive number, not {self.tolerance}")

    def verdict(self, history: Sequence[Reading], poll_every: int) -> Status | None:
        """Tell whether the job with this history has ended, and how; None to go on.

        Args:
            history: its readings, one per poll, the last one new.
            poll_every: steps between polls.
        """
        last, num_steps = history[-1], len(history) * poll_every
        climbed = any(reading.climbs for reading in history)
        dead = not climbed and num_steps >= self.dead_after
        if not (num_steps >= self.max_steps or dead or not last.finite or self._plateau(history, poll_every)):
            return None
        return "done" if climbed and math.isfinite(last.best) else "dead"

    def _plateau(self, history: Sequence[Reading], poll_every: int) -> bool:
        num_polls = -(-self.patience // poll_every)
        if self.tolerance == 0 or len(history) <= num_polls or len(history) * poll_every < self.minimum:
            return False
        best, before = history[-1].best, history[-1 - num_polls].best
        return best - before < self.tolerance * max(abs(best), 1e-6)


@dataclass
class Slot:
    """A job at work and its history."""

    job: Job
    history: list[Reading] = field(default_factory=list)


@dataclass(frozen=True)
class Ended:
    """A job that left its slot.

    Attributes:
        slot: where its best code still is, until the slot is refilled.
        job: the job.
        status: ``done`` or ``dead``.
        history: its readings, one per poll.
    """

    slot: int
    job: Job
    status: Status
    history: tuple[Reading, ...]


class Schedule:
    """Passes jobs through slots.

    While :attr:`busy`: :meth:`refill`, run ``poll_every`` steps, :meth:`record`.
    Each job enters exactly one slot once, in the given order.

    Where there are several attempts at a unit and seed, the one whose best activation is the highest after
    ``trial_steps`` steps, or at its end if that comes before, wins (of equal ones the first), and the others leave.
    Until all of them are that far, those that are go on. So who wins depends on their histories alone, and not on who
    entered when; a loser that has ended meanwhile has lost all the same.
    """

    def __init__(
        self, jobs: Sequence[Job], num_slots: int, rule: StopRule, poll_every: int, trial_steps: int = 0
    ) -> None:
        """Raises InputError if a job is given twice, or steps are not a multiple of ``poll_every``."""
        if poll_every < 1 or rule.max_steps % poll_every:
            raise InputError(
                f"a job's {rule.max_steps} steps are not a multiple of the {poll_every} steps between polls; "
                "change one of them"
            )
        if trial_steps % poll_every or not 0 <= trial_steps <= rule.max_steps:
            raise InputError(
                f"the best of several attempts is chosen after {trial_steps} steps, which is not a multiple of the "
                f"{poll_every} steps between polls or beyond the {rule.max_steps} of a job; change one of them"
            )
        if len(set(jobs)) != len(jobs):
            twice = next(job for index, job in enumerate(jobs) if job in jobs[:index])
            raise InputError(f"unit {twice.unit} with seed {twice.seed} is asked for twice; give each job once")
        self._waiting = deque(jobs)
        self._slots: list[Slot | None] = [None] * num_slots
        self._rule = rule
        self._poll_every = poll_every
        self._trial_polls = trial_steps // poll_every
        attempts = Counter(job.rivals for job in jobs)
        self._open = {rivals: count for rivals, count in attempts.items() if count > 1}
        self._trials: dict[tuple[int, int], dict[Job, float]] = {rivals: {} for rivals in self._open}
        self._winners: dict[tuple[int, int], Job] = {}

    @property
    def busy(self) -> bool:
        """Whether any job waits or works."""
        return bool(self._waiting) or any(self._slots)

    def refill(self) -> list[tuple[int, Job]]:
        """Put waiting jobs in free slots; return what entered where."""
        entered = []
        for index, slot in enumerate(self._slots):
            if slot is None and self._waiting:
                job = self._waiting.popleft()
                self._slots[index] = Slot(job)
                entered.append((index, job))
        return entered

    def free(self) -> list[int]:
        """The slots without a job."""
        return [index for index, slot in enumerate(self._slots) if slot is None]

    def at(self, steps: Container[int]) -> list[tuple[int, Job, int]]:
        """(slot, job, steps done) of the jobs at work that have done one of these numbers of steps."""
        found = []
        for index, slot in enumerate(self._slots):
            if slot is not None and (done := len(slot.history) * self._poll_every) in steps:
                found.append((index, slot.job, done))
        return found

    def lost(self, job: Job) -> bool | None:
        """Whether a rival has won; None while that is open."""
        if job.rivals in self._open:
            return None
        return self._winners.get(job.rivals, job) != job

    def record(self, readings: Sequence[Reading]) -> list[Ended]:
        """Add one reading per slot (those of free slots are ignored) and return the jobs that have ended.

        The slots of those that have lost are free afterwards, too.
        """
        ended = []
        for index, (slot, reading) in enumerate(zip(self._slots, readings, strict=True)):
            if slot is None:
                continue
            slot.history.append(reading)
            status = self._rule.verdict(slot.history, self._poll_every)
            if status is not None:
                ended.append(Ended(index, slot.job, status, tuple(slot.history)))
                self._slots[index] = None
            if status is not None or len(slot.history) == self._trial_polls:
                self._try(slot.job, -math.inf if status == "dead" or math.isnan(reading.best) else reading.best)
        for index, slot in enumerate(self._slots):
            if slot is not None and self.lost(slot.job):
                self._slots[index] = None
        return ended

    def _try(self, job: Job, best: float) -> None:
        """Note how far an attempt has come in its trial; the last one decides."""
        trial = self._trials.get(job.rivals)
        if trial is None or job in trial:
            return
        trial[job] = best
        if len(trial) == self._open[job.rivals]:
            self._winners[job.rivals] = max(trial, key=lambda rival: (trial[rival], -rival.attempt))
            del self._open[job.rivals], self._trials[job.rivals]
