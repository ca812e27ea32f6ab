from __future__ import annotations

import math
import random

import pytest

from engine.slots import Job, Reading, Schedule, StopRule
from export.errors import InputError

POLL = 5


def readings(bests: list[float], gradient: float = 1.0) -> list[Reading]:
    return [Reading(best, gradient, best) for best in bests]


def first_end(rule: StopRule, history: list[Reading], poll_every: int = POLL) -> tuple[int, str] | None:
    """(steps, status) at which a job with this history ends."""
    for polls in range(1, len(history) + 1):
        status = rule.verdict(history[:polls], poll_every)
        if status is not None:
            return polls * poll_every, status
    return None


class TestStopRule:
    def test_ends_at_max_steps(self) -> None:
        assert first_end(StopRule(max_steps=20), readings([1, 2, 3, 4, 5])) == (20, "done")

    def test_tolerance_0_never_stops_early(self) -> None:
        assert first_end(StopRule(max_steps=100, patience=5), readings([3.0] * 30)) == (100, "done")

    def test_plateau(self) -> None:
        rule = StopRule(max_steps=100, tolerance=0.01, patience=10)
        assert first_end(rule, readings([1, 2, 3, 4, 4.01, 4.02, 5])) == (30, "done")
        assert first_end(rule, readings([1, 2, 3, 4, 4.01, 4.05, 5])) is None

    def test_patience_is_rounded_up_to_polls(self) -> None:
        rule = StopRule(max_steps=100, tolerance=0.01, patience=6)
        assert first_end(rule, readings([1, 1, 2, 2, 2])) == (25, "done")

    def test_plateau_waits_for_the_minimum(self) -> None:
        rule = StopRule(max_steps=100, tolerance=0.01, patience=5, minimum=24)
        assert first_end(rule, readings([1.0] * 10)) == (25, "done")

    def test_plateau_is_relative_to_the_best_and_floored(self) -> None:
        rule = StopRule(max_steps=100, tolerance=0.1, patience=5)
        assert first_end(rule, readings([-100, -95, -50])) == (10, "done")
        assert first_end(rule, readings([0.0, 1e-8])) == (10, "done")
        assert first_end(rule, readings([0.0, 2e-7])) is None

    def test_no_recorded_best_yet_is_no_plateau(self) -> None:
        rule = StopRule(max_steps=100, tolerance=0.1, patience=5)
        assert first_end(rule, [Reading(1.0, 1.0, -math.inf)] * 5) is None

    def test_dead_without_a_gradient(self) -> None:
        rule = StopRule(max_steps=100, dead_after=12)
        assert first_end(rule, readings([0.0] * 10, gradient=0.0)) == (15, "dead")

    def test_one_gradient_is_life(self) -> None:
        history = [*readings([0.0], 0.0), *readings([0.1], 1e-9), *readings([0.1] * 18, 0.0)]
        assert first_end(StopRule(max_steps=100, dead_after=10), history) == (100, "done")

    def test_dead_at_max_steps_whatever_dead_after(self) -> None:
        assert first_end(StopRule(max_steps=10, dead_after=50), readings([0.0] * 5, 0.0)) == (10, "dead")

    @pytest.mark.parametrize(
        "last", [Reading(math.nan, 1.0, 2.0), Reading(3.0, math.nan, 3.0), Reading(math.inf, 1.0, 2.0)]
    )
    def test_what_is_not_finite_ends_at_once_and_keeps_the_best(self, last: Reading) -> None:
        assert first_end(StopRule(max_steps=100), [*readings([1.0, 2.0]), last]) == (15, "done")

    @pytest.mark.parametrize(
        "only", [Reading(math.nan, math.nan, -math.inf), Reading(1.0, math.nan, 1.0), Reading(math.inf, 1.0, math.inf)]
    )
    def test_never_finite_is_dead_at_once(self, only: Reading) -> None:
        assert first_end(StopRule(max_steps=100, dead_after=50), [only]) == (5, "dead")

    def test_refuses_impossible_numbers(self) -> None:
        for change in ({"max_steps": 0}, {"patience": 0}, {"minimum": -1}, {"dead_after": 0}, {"tolerance": -0.1}):
            with pytest.raises(InputError):
                StopRule(**{"max_steps": 10, **change})
        with pytest.raises(InputError):
            StopRule(max_steps=10, tolerance=math.nan)


class TestSchedule:
    def test_refuses_steps_between_polls(self) -> None:
        for poll_every in (0, 3, 20):
            with pytest.raises(InputError, match="polls"):
                Schedule([], 2, StopRule(max_steps=10), poll_every)

    def test_refuses_a_job_given_twice(self) -> None:
        with pytest.raises(InputError, match="unit 3 with seed 1"):
            Schedule([Job(3, 1), Job(2, 0), Job(3, 1)], 2, StopRule(max_steps=10), 5)

    def test_keeps_the_order_and_fills_free_slots_only(self) -> None:
        schedule = Schedule([Job(unit, 0) for unit in range(4)], 2, StopRule(max_steps=10), 5)
        assert schedule.refill() == [(0, Job(0, 0)), (1, Job(1, 0))]
        assert schedule.refill() == []
        assert schedule.record([Reading(1, 1, 1), Reading(1, math.nan, 1)])[0].slot == 1
        assert schedule.refill() == [(1, Job(2, 0))]
        assert [ended.job.unit for ended in schedule.record([Reading(1, 1, 1)] * 2)] == [0]
        assert schedule.refill() == [(0, Job(3, 0))]
        assert schedule.free() == []

    def test_no_jobs_is_not_busy(self) -> None:
        assert not Schedule([], 3, StopRule(max_steps=10), 5).busy

    def test_one_reading_per_slot(self) -> None:
        schedule = Schedule([Job(0, 0)], 2, StopRule(max_steps=10), 5)
        schedule.refill()
        with pytest.raises(ValueError, match="zip"):
            schedule.record([Reading(1, 1, 1)])

    @pytest.mark.parametrize("seed", range(25))
    def test_random_runs(self, seed: int) -> None:
        """Every job runs once, from start to end without a gap, and ends as it would alone, in any order and width."""
        rng = random.Random(seed)
        poll_every = rng.randint(1, 6)
        rule = StopRule(
            max_steps=poll_every * rng.randint(1, 20),
            tolerance=rng.choice([0.0, 0.05]),
            patience=rng.randint(1, 15),
            minimum=rng.randint(0, 30),
            dead_after=rng.randint(1, 30),
        )
        jobs = [Job(rng.randrange(1000), index) for index in range(rng.randint(0, 40))]
        curves = {job: random_curve(rng, rule.max_steps // poll_every) for job in jobs}
        alone = {job: first_end(rule, curve, poll_every) for job, curve in curves.items()}
        for _ in range(3):
            rng.shuffle(jobs)
            assert simulate(jobs, curves, rng.randint(1, 9), rule, poll_every) == alone


def random_curve(rng: random.Random, polls: int) -> list[Reading]:
    kind = rng.choice(["rising", "flat", "dead", "broken"])
    best, curve = rng.uniform(-3, 3), []
    for _ in range(polls):
        best += {"rising": rng.uniform(0, 1), "flat": rng.choice([0, 0.01])}.get(kind, 0.0)
        gradient = {"dead": 0.0, "broken": rng.choice([0.0, 1.0, math.nan])}.get(kind, 1.0)
        curve.append(Reading(best, gradient, best))
    return curve


def simulate(
    jobs: list[Job], curves: dict[Job, list[Reading]], num_slots: int, rule: StopRule, poll_every: int
) -> dict[Job, tuple[int, str]]:
    """Drive a schedule as the loop does; (steps, status) of each job."""
    schedule = Schedule(jobs, num_slots, rule, poll_every)
    at_work: dict[int, Job] = {}
    polls: dict[Job, int] = {}
    results: dict[Job, tuple[int, str]] = {}
    while schedule.busy:
        for slot, job in schedule.refill():
            assert slot not in at_work
            assert job not in polls
            at_work[slot], polls[job] = job, 0
        waiting = len(jobs) - len(polls)
        assert len(at_work) == num_slots or waiting == 0, "a slot stood empty while jobs waited"
        assert schedule.free() == [slot for slot in range(num_slots) if slot not in at_work]
        now = [Reading(math.nan, math.nan, math.nan)] * num_slots
        for slot, job in at_work.items():
            now[slot] = curves[job][polls[job]]
            polls[job] += 1
        for ended in schedule.record(now):
            assert at_work.pop(ended.slot) == ended.job
            assert len(ended.history) == polls[ended.job]
            results[ended.job] = (polls[ended.job] * poll_every, ended.status)
    assert not at_work
    assert set(results) == set(jobs)
    return results
