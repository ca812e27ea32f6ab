"""Several attempts at a unit and seed: which one wins, and that nothing else of the others is left."""

from __future__ import annotations

import random

import numpy as np
import pytest

from engine.loop import JobResult, run_jobs
from engine.slots import Job, StopRule
from engine.start import start_code
from export.errors import InputError
from tests.engine.conftest import make_prior
from tests.engine.test_loop import (
    CODE_DIM,
    EARLY,
    FRAMES,
    JOBS,
    POLL,
    RULE,
    STEPS,
    Broken,
    by_job,
    numpy_runner,
    result_bytes,
)

ATTEMPTS = [attempt for job in JOBS for attempt in job.attempts(3)]
TRIAL = 10


def apart(job: Job) -> np.ndarray:
    """Start codes so far apart that attempts end at different heights."""
    return start_code(make_prior(CODE_DIM), "fc", job, 2.0)


class TestAttempts:
    def test_the_highest_after_the_trial_is_what_it_is_alone(self) -> None:
        """By brute force: every attempt run to its end, and its best at the poll of the trial."""
        results = run_jobs(numpy_runner(5), ATTEMPTS, apart, RULE, POLL, trial_steps=TRIAL)
        assert [Job(result.unit, result.seed) for result in results] == JOBS
        won = set()
        for job, result in zip(JOBS, results, strict=True):
            heights = []
            for attempt in job.attempts(3):
                alone = numpy_runner(1)
                alone.fill([0], [job.unit], apart(attempt)[None])
                alone.step(TRIAL)
                heights.append(float(alone.scalars().best_activation[0]))
            assert result.attempt == int(np.argmax(heights))
            won.add(result.attempt)
            (alone_result,) = run_jobs(numpy_runner(1), [Job(*job.rivals, result.attempt)], apart, RULE, POLL)
            assert result_bytes(result) == result_bytes(alone_result)
        assert won == {0, 1, 2}

    @pytest.mark.parametrize("rule", [RULE, EARLY], ids=["full", "early"])
    @pytest.mark.parametrize("trial_steps", [0, TRIAL])
    def test_who_wins_depends_on_no_order_and_no_batch(self, rule: StopRule, trial_steps: int) -> None:
        expected = by_job(run_jobs(numpy_runner(1), ATTEMPTS, apart, rule, POLL, trial_steps=trial_steps))
        for batch in (2, 7, 100):
            shuffled = random.Random(batch).sample(ATTEMPTS, len(ATTEMPTS))
            found = run_jobs(numpy_runner(batch), shuffled, apart, rule, POLL, trial_steps=trial_steps)
            assert by_job(found) == expected

    def test_the_others_leave_after_the_trial(self) -> None:
        """Three attempts of 40 steps, two of which end after 10: half of all steps, a few more to fill the slots."""
        num_steps = {}
        for trial_steps in (0, TRIAL):
            runner, taken = numpy_runner(6), list[int]()
            step = runner.step
            runner.step = lambda count, step=step, taken=taken: (taken.append(count), step(count))  # type: ignore[method-assign]
            run_jobs(runner, ATTEMPTS, apart, RULE, POLL, trial_steps=trial_steps)
            num_steps[trial_steps] = sum(taken)
        assert num_steps[0] == len(ATTEMPTS) * STEPS // 6
        assert num_steps[TRIAL] < 0.6 * num_steps[0]

    def test_only_the_winner_is_handed_over_with_its_frames(self) -> None:
        handed: list[JobResult] = []
        results = run_jobs(numpy_runner(7), ATTEMPTS, apart, RULE, POLL, handed.append, FRAMES, TRIAL)
        assert sorted(map(id, handed)) == sorted(map(id, results))
        assert all(tuple(frame.step for frame in result.frames) == FRAMES for result in results)
        plain = by_job(run_jobs(numpy_runner(7), ATTEMPTS, apart, RULE, POLL, trial_steps=TRIAL))
        assert {job: facts[:-1] for job, facts in by_job(results).items()} == {j: f[:-1] for j, f in plain.items()}

    def test_an_attempt_that_dies_loses_and_where_all_do_the_job_is_dead(self) -> None:
        def first_is_broken(job: Job) -> np.ndarray:
            return np.ones(CODE_DIM, np.float32) if job.attempt == 0 else apart(job)

        class Flat(Broken):
            def ascent(self, code: np.ndarray, unit: int) -> tuple[np.float32, np.ndarray]:
                if np.ptp(code) < 1e-6:
                    return np.float32(1e6), np.zeros(CODE_DIM, np.float32)
                return super().ascent(code, unit)

        jobs = [attempt for unit in (0, 5) for attempt in Job(unit, 0).attempts(3)]
        dead, alive = run_jobs(numpy_runner(4, Flat()), jobs, first_is_broken, RULE, POLL, trial_steps=TRIAL)
        assert (dead.unit, dead.status) == (0, "dead")
        assert (alive.unit, alive.status) == (5, "done")
        assert alive.attempt > 0

    def test_a_trial_between_polls_is_refused(self) -> None:
        for trial_steps in (7, STEPS + POLL):
            with pytest.raises(InputError, match=f"chosen after {trial_steps} steps"):
                run_jobs(numpy_runner(3), ATTEMPTS, apart, RULE, POLL, trial_steps=trial_steps)
