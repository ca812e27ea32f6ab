"""The loop: jobs pass through a runner's slots until all have ended. No files, no network, no output."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.protocol import Runner
from engine.slots import Ended, Job, Reading, Schedule, Status, StopRule
from export import interrupts
from export.errors import InputError
from export.manifest import StepManifest

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Frame:
    """What a job's picture was on its way.

    Attributes:
        step: steps done; 0 is the start.
        image: (image_px, image_px, 3) uint8 RGB, what the generator makes of the code at which the next step begins.
    """

    step: int
    image: npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class JobResult:
    """What came of a job.

    Attributes:
        unit: the job's unit.
        seed: the job's seed.
        status: ``done``, or ``dead``: there was nothing to climb (see :class:`~engine.slots.StopRule`).
        activation: the best activation, at ``code``; of a dead job possibly -inf.
        steps: steps done, a multiple of ``poll_every``.
        curve: (steps / poll_every,) float32, at each poll the activation at the code its last step began with.
        code: (code_dim,) float32, the best code; of a dead job of no meaning.
        image: (image_px, image_px, 3) uint8 RGB, what the generator makes of ``code``.
        frames: by step; those asked for that lie before ``steps``, none of a dead job.
        attempt: the one that won, where there were several.
    """

    unit: int
    seed: int
    status: Status
    activation: np.float32
    steps: int
    curve: Vector
    code: Vector
    image: npt.NDArray[np.uint8]
    frames: tuple[Frame, ...] = ()
    attempt: int = 0


def run_jobs(
    runner: Runner,
    jobs: Sequence[Job],
    starts: Callable[[Job], Vector],
    rule: StopRule,
    poll_every: int,
    on_result: Callable[[JobResult], None] = lambda result: None,
    frame_steps: Collection[int] = (),
    trial_steps: int = 0,
) -> list[JobResult]:
    """Run jobs to their end; slots are refilled as they fall free.

    A job's result depends on the engine, its start code, the rule and ``poll_every``, and on nothing else.

    Args:
        runner: the engine; whatever its slots held before is gone.
        jobs: each at most once; of several attempts at a unit and seed only the winner has a result.
        starts: start code (code_dim,) of a job; called once per job, when it enters a slot.
        rule: when a job ends.
        poll_every: steps between looks at the slots; must divide ``rule.max_steps``.
        on_result: called for each job once its image is decoded. Images are decoded a full batch of ended jobs at a
            time, so results come in the order in which jobs end, some polls late.
        frame_steps: steps after which a job's picture is kept, multiples of ``poll_every``; 0 keeps that of the start.
            The codes are copied at polls, and decoded together with the job's image: a frame costs a decoded image,
            on every runtime, and no step is held up. See :func:`spaced_steps`.
        trial_steps: after which the best attempt at a unit and seed goes on alone, a multiple of ``poll_every``; 0 for
            each attempt's end. See :class:`engine.slots.Schedule`.

    Returns:
        The results in the order of ``jobs``, one per unit and seed.

    Raises:
        InputError: before any step: a unit the layer does not have, a job given twice, more steps than the engine's
            schedule, or steps (or a frame's) that are not a multiple of ``poll_every``. During the run: a start code of
            another shape or not finite.
        EngineError: the runtime failed.
        KeyboardInterrupt: Ctrl-C was pressed; between two steps, whatever the runtime does with interrupts.
    """
    manifest = runner.manifest
    _check_jobs(manifest, jobs, rule)
    schedule = Schedule(jobs, runner.num_slots, rule, poll_every, trial_steps)
    _check_frames(frame_steps, poll_every)
    harvest = _Harvest(runner, poll_every, on_result, schedule.lost)
    changed = list(range(runner.num_slots))
    with interrupts.held():
        while schedule.busy:
            interrupts.check()
            for job, code in _fill(runner, schedule, changed, starts):
                if 0 in frame_steps:
                    harvest.keep(job, 0, code)
            runner.step(poll_every)
            at_work = set(range(runner.num_slots)) - set(schedule.free())
            harvest.add(schedule.record(_readings(runner)))
            changed = sorted(at_work & set(schedule.free()))
            if due := schedule.at(frame_steps):
                for (_, job, done), code in zip(due, runner.codes([slot for slot, _, _ in due]), strict=True):
                    harvest.keep(job, done, code)
        harvest.finish()
    return [harvest.results[rivals] for rivals in dict.fromkeys(job.rivals for job in jobs)]


def spaced_steps(count: int, max_steps: int, poll_every: int) -> tuple[int, ...]:
    """Steps of ``count`` frames at most: 0, then multiples of ``poll_every`` below ``max_steps``, spaced geometrically.

    A picture changes most in its first steps, so these get most of the frames.

    Args:
        count: of frames, 0 for none.
        max_steps: of a job.
        poll_every: steps between polls.
    """
    num_polls, polls = max_steps // poll_every, [0]
    for index in range(count - 1):
        polls.append(max(polls[-1] + 1, round(num_polls ** (index / max(1, count - 1)))))
    return tuple(poll * poll_every for poll in polls[:count] if poll < num_polls)


class _Harvest:
    """Takes ended jobs' codes out of their slots and decodes them a batch at a time.

    Args:
        runner: the engine.
        poll_every: steps between polls.
        on_result: told of every result.
        lost: whether a job has lost to another attempt, None while that is open; it is decoded once it has not.
    """

    def __init__(
        self,
        runner: Runner,
        poll_every: int,
        on_result: Callable[[JobResult], None],
        lost: Callable[[Job], bool | None],
    ) -> None:
        self.results: dict[tuple[int, int], JobResult] = {}
        self._runner = runner
        self._poll_every = poll_every
        self._on_result = on_result
        self._lost = lost
        self._open: list[tuple[Ended, Vector]] = []
        self._pending: list[tuple[Ended, Vector]] = []
        self._kept: dict[Job, list[tuple[int, Vector]]] = {}

    def keep(self, job: Job, step: int, code: Vector) -> None:
        """Keep a code of a job at work, for a frame; one that is not finite has no picture."""
        if np.isfinite(code).all():
            self._kept.setdefault(job, []).append((step, code))

    def add(self, ended: Sequence[Ended]) -> None:
        """Copy the best codes of jobs that have just ended; decode whole batches."""
        if ended:
            self._open += zip(ended, self._runner.best_codes([job.slot for job in ended]), strict=True)
        self._settle()
        batch = self._runner.num_slots
        while len(self._pending) >= batch:
            self._decode(self._pending[:batch])
            del self._pending[:batch]

    def finish(self) -> None:
        """Decode what is left."""
        self._decode(self._pending)
        self._pending = []

    def _settle(self) -> None:
        """Pass on those that have ended and not lost; forget losers and their frames."""
        verdicts = [(item, self._lost(item[0].job)) for item in self._open]
        self._pending += [item for item, lost in verdicts if lost is False]
        self._open = [item for item, lost in verdicts if lost is None]
        for job in [job for job in self._kept if self._lost(job)]:
            del self._kept[job]

    def _decode(self, part: Sequence[tuple[Ended, Vector]]) -> None:
        if not part:
            return
        kept = [self._kept.pop(ended.job, []) for ended, _ in part]
        kept = [frames if ended.status == "done" else [] for (ended, _), frames in zip(part, kept, strict=True)]
        images = self._images([code for _, code in part] + [code for frames in kept for _, code in frames])
        rest = iter(images[len(part) :])
        for (ended, code), frames, image in zip(part, kept, images[: len(part)], strict=True):
            result = JobResult(
                unit=ended.job.unit,
                seed=ended.job.seed,
                status=ended.status,
                activation=np.float32(ended.history[-1].best),
                steps=len(ended.history) * self._poll_every,
                curve=np.asarray([reading.activation for reading in ended.history], np.float32),
                code=code,
                image=image,
                frames=tuple(Frame(step, next(rest)) for step, _ in frames),
                attempt=ended.job.attempt,
            )
            self.results[ended.job.rivals] = result
            self._on_result(result)

    def _images(self, codes: Sequence[Vector]) -> list[npt.NDArray[np.uint8]]:
        """Images of any number of codes, a full batch in floating point at a time."""
        batch = self._runner.num_slots
        parts = [np.stack(codes[start : start + batch]) for start in range(0, len(codes), batch)]
        return [image for part in parts for image in to_pixels(self._runner.decode(part))]


def to_pixels(images: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Images (n, 3, H, W) in [0, 1] as (n, H, W, 3) uint8; rounded, clipped, 0 where not a number."""
    levels = np.rint(np.clip(np.nan_to_num(images, nan=0.0), 0.0, 1.0) * 255.0)
    return np.ascontiguousarray(levels.transpose(0, 2, 3, 1).astype(np.uint8))


def _check_frames(frame_steps: Collection[int], poll_every: int) -> None:
    wrong = [step for step in frame_steps if step < 0 or step % poll_every]
    if wrong:
        raise InputError(f"a frame at step {wrong[0]} is not at a multiple of the {poll_every} steps between polls")


def _check_jobs(manifest: StepManifest, jobs: Sequence[Job], rule: StopRule) -> None:
    for job in jobs:
        if not 0 <= job.unit < manifest.num_units:
            raise InputError(
                f"layer {manifest.layer} has units 0 to {manifest.num_units - 1}; there is no unit {job.unit}"
            )
    if rule.max_steps > manifest.steps:
        raise InputError(
            f"{rule.max_steps} steps are more than the {manifest.steps} the engine was compiled for; "
            "compile it for more steps or ask for fewer"
        )


def _fill(
    runner: Runner, schedule: Schedule, changed: Sequence[int], starts: Callable[[Job], Vector]
) -> list[tuple[Job, Vector]]:
    """Refill the slots that fell free; those no job is left for go idle (unit 0, zero code).

    Returns:
        The jobs that entered, and their start codes.

    An idle slot starts at step 0 when its last job ended, and no job that still works is younger, so no slot is ever
    stepped beyond the schedule.
    """
    manifest = runner.manifest
    entered = schedule.refill()
    codes = [_checked(starts(job), job, manifest.code_dim) for _, job in entered]
    free = set(schedule.free())
    idle = [slot for slot in changed if slot in free]
    slots = [slot for slot, _ in entered] + idle
    if slots:
        units = [job.unit for _, job in entered] + [0] * len(idle)
        rows = np.zeros((len(slots), manifest.code_dim), np.float32)
        for row, code in enumerate(codes):
            rows[row] = code
        runner.fill(slots, units, rows)
    return [(job, code) for (_, job), code in zip(entered, codes, strict=True)]


def _checked(code: Vector, job: Job, code_dim: int) -> Vector:
    if code.shape != (code_dim,) or not np.isfinite(code).all():
        raise InputError(
            f"the start code of unit {job.unit}, seed {job.seed} must be {code_dim} finite numbers, not {code.shape}"
        )
    return code


def _readings(runner: Runner) -> list[Reading]:
    scalars = runner.scalars()
    columns = (scalars.activation.tolist(), scalars.gradient.tolist(), scalars.best_activation.tolist())
    return [Reading(*values) for values in zip(*columns, strict=True)]
