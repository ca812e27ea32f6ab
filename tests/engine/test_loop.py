from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from engine.loop import JobResult, run_jobs, spaced_steps, to_pixels
from engine.slots import Job, StopRule
from engine.start import start_code
from export.errors import InputError
from tests.engine.conftest import make_prior
from tests.engine.graphs import Mlp, conv_graph
from tests.engine.reference import NumpyRunner

CODE_DIM, NUM_UNITS, STEPS, POLL = 16, 12, 40, 5
MLP = Mlp.random(code_dim=CODE_DIM, num_units=NUM_UNITS)
RULE = StopRule(max_steps=STEPS)
EARLY = StopRule(max_steps=STEPS, tolerance=0.01, patience=5)
JOBS = [Job(unit, seed) for unit in range(NUM_UNITS) for seed in range(2)]


def starts(job: Job) -> np.ndarray:
    return start_code(make_prior(CODE_DIM), "fc", job, 0.5)


def result_bytes(result: JobResult) -> tuple:
    return (
        result.unit, result.seed, result.status, result.steps, result.activation.tobytes(), result.curve.tobytes(),
        result.code.tobytes(), result.image.tobytes(),
        [(frame.step, frame.image.tobytes()) for frame in result.frames],
    )  # fmt: skip


def by_job(results: list[JobResult]) -> dict[Job, tuple]:
    return {Job(result.unit, result.seed): result_bytes(result) for result in results}


class Broken:
    """An MLP in which units misbehave: 0 has no gradient, 1 is never a number, 2 overflows once it has climbed."""

    def __init__(self, limit: float = 1.0) -> None:
        self.limit = limit

    def ascent(self, code: np.ndarray, unit: int) -> tuple[np.float32, np.ndarray]:
        activation, gradient = MLP.ascent(code, unit)
        if unit == 0:
            return np.float32(0), np.zeros_like(gradient)
        if unit == 1 or (unit == 2 and activation > self.limit):
            return np.float32(np.nan), gradient * np.float32(np.nan)
        return activation, gradient

    def image(self, code: np.ndarray) -> np.ndarray:
        return MLP.image(code)


def numpy_runner(batch: int, objective: object = MLP) -> NumpyRunner:
    return NumpyRunner(MLP.manifest(batch, STEPS), objective)


@pytest.fixture(params=["numpy", "onnxruntime", "openvino"])
def make_runner(request: pytest.FixtureRequest, build_with) -> Callable[[int], object]:
    if request.param == "numpy":
        return numpy_runner
    return lambda batch: build_with(request.param, MLP.graph(batch, STEPS))


class TestResults:
    def test_are_what_ascent_in_numpy_gives(self, make_runner) -> None:
        with make_runner(5) as runner:
            results = run_jobs(runner, JOBS, starts, RULE, POLL)
        assert [Job(result.unit, result.seed) for result in results] == JOBS
        for result in results:
            alone = numpy_runner(1)
            alone.fill([0], [result.unit], starts(Job(result.unit, result.seed))[None])
            curve = []
            for _ in range(STEPS // POLL):
                alone.step(POLL)
                curve.append(alone.scalars().activation[0])
            assert (result.status, result.steps) == ("done", STEPS)
            assert result.activation == pytest.approx(alone.scalars().best_activation[0], rel=1e-4)
            assert result.activation >= result.curve.max()
            np.testing.assert_allclose(result.curve, curve, rtol=1e-3, atol=1e-4)
            np.testing.assert_allclose(result.code, alone.best_codes([0])[0], atol=1e-2)
            assert MLP.ascent(result.code, result.unit)[0] == pytest.approx(result.activation, rel=1e-4)
            expected = np.rint(255 * MLP.image(result.code)).transpose(1, 2, 0)
            assert np.abs(result.image - expected).max() <= 1

    def test_types_and_shapes(self) -> None:
        (result,) = run_jobs(numpy_runner(3), [Job(4, 1)], starts, RULE, POLL)
        assert isinstance(result.activation, np.float32)
        assert (result.curve.dtype, result.curve.shape) == (np.float32, (STEPS // POLL,))
        assert (result.code.dtype, result.code.shape) == (np.float32, (CODE_DIM,))
        assert (result.image.dtype, result.image.shape) == (np.uint8, (8, 8, 3))

    def test_no_jobs_no_steps(self) -> None:
        runner = numpy_runner(3)
        assert run_jobs(runner, [], starts, RULE, POLL) == []
        assert runner.oldest == 0

    def test_each_is_handed_over_once_when_decoded(self) -> None:
        handed: list[JobResult] = []
        results = run_jobs(numpy_runner(5), JOBS, starts, EARLY, POLL, handed.append)
        assert sorted(map(id, handed)) == sorted(map(id, results))

    def test_are_handed_over_before_the_end(self) -> None:
        runner, ages = numpy_runner(4), []
        run_jobs(runner, JOBS, starts, RULE, POLL, lambda result: ages.append(len(runner.fills)))
        assert ages[0] < ages[-1]


class TestIndependence:
    """The same bytes for a job, whatever else runs."""

    @pytest.mark.parametrize("rule", [RULE, EARLY], ids=["all steps", "plateau"])
    def test_of_order(self, make_runner, rule: StopRule) -> None:
        with make_runner(4) as runner:
            expected = by_job(run_jobs(runner, JOBS, starts, rule, POLL))
            for seed in range(3):
                shuffled = random.Random(seed).sample(JOBS, len(JOBS))
                assert by_job(run_jobs(runner, shuffled, starts, rule, POLL)) == expected
        lengths = {values[3] for values in expected.values()}
        assert len(lengths) > 1 if rule is EARLY else lengths == {STEPS}

    def test_of_interruption(self, make_runner) -> None:
        with make_runner(4) as runner:
            expected = by_job(run_jobs(runner, JOBS, starts, EARLY, POLL))
        for cut in (1, 7, 23):
            with make_runner(4) as runner:
                found = by_job(run_jobs(runner, JOBS[:cut], starts, EARLY, POLL))
            with make_runner(4) as runner:
                found |= by_job(run_jobs(runner, JOBS[cut:], starts, EARLY, POLL))
            assert found == expected

    def test_of_a_run_that_was_broken_off(self, make_runner) -> None:
        """The runner's leftovers do not reach the next run."""

        class BrokenOff(Exception):
            pass

        def stop(result: JobResult) -> None:
            raise BrokenOff

        with make_runner(4) as runner:
            expected = by_job(run_jobs(runner, JOBS[:6], starts, EARLY, POLL))
            with pytest.raises(BrokenOff):
                run_jobs(runner, JOBS[6:], starts, EARLY, POLL, stop)
            assert by_job(run_jobs(runner, JOBS[:6], starts, EARLY, POLL)) == expected

    def test_of_the_number_of_slots(self) -> None:
        expected = by_job(run_jobs(numpy_runner(1), JOBS, starts, EARLY, POLL))
        for batch in (2, 7, 50):
            assert by_job(run_jobs(numpy_runner(batch), JOBS, starts, EARLY, POLL)) == expected

    @pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
    def test_on_a_convolutional_graph(self, build_with, runtime: str) -> None:
        graph = conv_graph(batch=4, code_dim=CODE_DIM, side=32, num_steps=10)
        jobs = [Job(unit, 0) for unit in range(7)]
        rule = StopRule(max_steps=10, tolerance=0.3, patience=2)
        with build_with(runtime, graph) as runner:
            expected = by_job(run_jobs(runner, jobs, starts, rule, 2))
            assert by_job(run_jobs(runner, jobs[::-1], starts, rule, 2)) == expected


FRAMES = (0, 5, 10, 20, 35)


class TestFrames:
    """What the picture was on its way; the ascent is not touched."""

    def test_are_what_the_generator_makes_of_the_codes_on_the_way(self, make_runner) -> None:
        with make_runner(5) as runner:
            results = run_jobs(runner, JOBS, starts, RULE, POLL, frame_steps=FRAMES)
        for result in results:
            assert tuple(frame.step for frame in result.frames) == FRAMES
            alone, done = numpy_runner(1), 0
            alone.fill([0], [result.unit], starts(Job(result.unit, result.seed))[None])
            for frame in result.frames:
                alone.step(frame.step - done)
                done = frame.step
                expected = np.rint(255 * MLP.image(alone.codes([0])[0])).transpose(1, 2, 0)
                assert np.abs(frame.image - expected).max() <= 2, (result.unit, frame.step)
        assert any((r.frames[0].image != r.frames[-1].image).any() for r in results)

    @pytest.mark.parametrize("rule", [RULE, EARLY], ids=["all steps", "plateau"])
    def test_change_nothing_else_and_do_not_depend_on_company(self, make_runner, rule: StopRule) -> None:
        with make_runner(4) as runner:
            plain = by_job(run_jobs(runner, JOBS, starts, rule, POLL))
            framed = by_job(run_jobs(runner, JOBS, starts, rule, POLL, frame_steps=FRAMES))
            assert {job: facts[:-1] for job, facts in framed.items()} == {job: f[:-1] for job, f in plain.items()}
            assert by_job(run_jobs(runner, JOBS[::-1], starts, rule, POLL, frame_steps=FRAMES)) == framed
            assert by_job(run_jobs(runner, JOBS[:3], starts, rule, POLL, frame_steps=FRAMES)) == {
                job: framed[job] for job in JOBS[:3]
            }

    def test_lie_before_the_end(self) -> None:
        results = run_jobs(numpy_runner(4), JOBS, starts, EARLY, POLL, frame_steps=(*FRAMES, STEPS))
        assert len({result.steps for result in results}) > 1
        for result in results:
            assert [frame.step for frame in result.frames] == [step for step in FRAMES if step < result.steps]

    def test_a_dead_job_has_none(self) -> None:
        (result,) = run_jobs(numpy_runner(2, Broken()), [Job(0, 0)], starts, RULE, POLL, frame_steps=FRAMES)
        assert (result.status, result.frames) == ("dead", ())

    def test_between_polls_are_refused(self) -> None:
        runner = numpy_runner(3)
        with pytest.raises(InputError, match="a frame at step 7"):
            run_jobs(runner, [Job(1, 0)], starts, RULE, POLL, frame_steps=(5, 7))
        assert runner.oldest == 0

    @pytest.mark.parametrize(
        ("count", "max_steps", "poll_every", "steps"),
        [
            (8, 80, 5, (0, 5, 10, 15, 20, 25, 35, 55)),
            (8, 200, 5, (0, 5, 10, 15, 25, 40, 70, 120)),
            (4, 20, 5, (0, 5, 10, 15)),
            (8, 20, 5, (0, 5, 10, 15)),
            (1, 20, 5, (0,)),
            (8, 5, 5, (0,)),
            (0, 80, 5, ()),
        ],
    )
    def test_are_spaced_geometrically(
        self, count: int, max_steps: int, poll_every: int, steps: tuple[int, ...]
    ) -> None:
        assert spaced_steps(count, max_steps, poll_every) == steps


class TestSlots:
    @pytest.mark.parametrize("rule", [RULE, EARLY])
    def test_no_slot_is_stepped_beyond_the_schedule(self, rule: StopRule) -> None:
        runner = numpy_runner(5)
        for count in (3, 5, 17):
            run_jobs(runner, JOBS[:count], starts, rule, POLL)
        assert runner.oldest <= STEPS

    def test_every_job_enters_once(self) -> None:
        runner = numpy_runner(5)
        run_jobs(runner, JOBS, starts, EARLY, POLL)
        units = [unit for _, unit in runner.fills]
        for unit in range(1, NUM_UNITS):
            assert units.count(unit) == 2  # two seeds

    def test_start_codes_are_asked_for_once_each(self) -> None:
        asked: list[Job] = []

        def ask(job: Job) -> np.ndarray:
            asked.append(job)
            return starts(job)

        run_jobs(numpy_runner(5), JOBS, ask, RULE, POLL)
        assert asked == JOBS


class TestEndings:
    def results(self, rule: StopRule, limit: float = 1.0) -> dict[int, JobResult]:
        jobs = [Job(unit, 0) for unit in range(NUM_UNITS)]
        runner = numpy_runner(3, Broken(limit))
        results = run_jobs(runner, jobs, starts, rule, POLL)
        assert runner.oldest <= STEPS
        return {result.unit: result for result in results}

    def test_dead_unit(self) -> None:
        result = self.results(StopRule(max_steps=STEPS, dead_after=10))[0]
        assert (result.status, result.steps) == ("dead", 10)
        np.testing.assert_array_equal(result.curve, [0, 0])
        np.testing.assert_array_equal(result.code, starts(Job(0, 0)))

    def test_never_a_number(self) -> None:
        result = self.results(RULE)[1]
        assert (result.status, result.steps) == ("dead", POLL)
        assert result.activation == -np.inf
        assert result.image.shape == (8, 8, 3)

    def test_overflow_keeps_the_best_so_far(self) -> None:
        reached = run_jobs(numpy_runner(1), [Job(2, 0)], starts, RULE, POLL)[0].curve
        limit = float(reached[1] + reached[2]) / 2  # between the second and the third poll
        result = self.results(RULE, limit)[2]
        assert (result.status, result.steps) == ("done", 3 * POLL)
        assert np.isnan(result.curve[-1])
        assert reached[1] <= result.activation <= limit
        assert MLP.ascent(result.code, 2)[0] == pytest.approx(result.activation, rel=1e-5)

    def test_the_others_are_not_touched(self) -> None:
        healthy = by_job(run_jobs(numpy_runner(3), [Job(unit, 0) for unit in range(3, NUM_UNITS)], starts, RULE, POLL))
        found = {Job(unit, 0): result_bytes(result) for unit, result in self.results(RULE).items() if unit > 2}
        assert found == healthy

    @pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
    def test_dead_and_broken_units_on_real_runtimes(self, build_with, runtime: str) -> None:
        top = MLP.top.copy()
        top[0], top[1] = 0, np.nan
        with build_with(runtime, Mlp(MLP.bottom, top, MLP.paint).graph(3, STEPS)) as runner:
            results = run_jobs(runner, [Job(unit, 0) for unit in range(4)], starts, RULE, POLL)
        assert [(result.status, result.steps) for result in results] == [
            ("dead", 10), ("dead", POLL), ("done", STEPS), ("done", STEPS),
        ]  # fmt: skip

    def test_plateau_stops_early_and_costs_little(self) -> None:
        early, full = (self.results(rule, limit=np.inf)[5] for rule in (EARLY, RULE))
        assert early.steps < full.steps
        np.testing.assert_array_equal(early.curve, full.curve[: len(early.curve)])
        assert early.activation == pytest.approx(full.activation, rel=0.2)


class TestRefusals:
    @pytest.mark.parametrize(
        ("jobs", "rule", "poll_every", "match"),
        [
            ([Job(0, 0), Job(NUM_UNITS, 0)], RULE, POLL, "no unit 12"),
            ([Job(-1, 0)], RULE, POLL, "no unit -1"),
            ([Job(1, 0), Job(1, 0)], RULE, POLL, "twice"),
            ([Job(1, 0)], RULE, 7, "polls"),
            ([Job(1, 0)], StopRule(max_steps=STEPS + POLL), POLL, "more than the 40"),
        ],
    )
    def test_before_any_step(self, jobs: list[Job], rule: StopRule, poll_every: int, match: str) -> None:
        runner = numpy_runner(3)
        with pytest.raises(InputError, match=match):
            run_jobs(runner, jobs, starts, rule, poll_every)
        assert runner.oldest == 0
        assert runner.fills == []

    @pytest.mark.parametrize("code", [np.zeros(CODE_DIM + 1, np.float32), np.full(CODE_DIM, np.nan, np.float32)])
    def test_of_a_start_code(self, code: np.ndarray) -> None:
        with pytest.raises(InputError, match="start code of unit 1, seed 0"):
            run_jobs(numpy_runner(3), [Job(1, 0)], lambda job: code, RULE, POLL)


def test_pixels_are_rounded_clipped_and_never_undefined() -> None:
    row = [0.0, 1.0, 0.5, 0.499 / 255, 0.501 / 255, -3.0, 7.0, np.nan, np.inf, -np.inf]
    image = np.asarray(row, np.float32).reshape(1, 1, 1, -1).repeat(3, axis=1)
    pixels = to_pixels(image)
    assert pixels.shape == (1, 1, 10, 3)
    assert pixels[0, 0, :, 0].tolist() == [0, 255, 128, 0, 1, 0, 255, 0, 255, 0]
