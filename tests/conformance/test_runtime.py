"""What every runtime must do, against a numpy implementation of the same step."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import engine.runtimes
from engine.protocol import Runner
from engine.runtimes import builders
from export.errors import EngineError, InputError
from export.manifest import StateField
from tests.conformance.conftest import PAIRS, Build
from tests.engine.graphs import Mlp, learning_rates
from tests.engine.reference import NumpyRunner

BATCH, CODE_DIM, NUM_UNITS = 5, 48, 9
MLP = Mlp.random(code_dim=CODE_DIM, num_units=NUM_UNITS)


class Tolerance(NamedTuple):
    """After some steps: each runtime sums in an order of its own, and rounds to its precision.

    Attributes:
        scalars: relative and absolute, of activations and gradients.
        codes: absolute, of codes, which reach 4: each step goes on from what rounding made of the one before. Eight
            steps of fp16 ended 0.06 away, of bf16 0.3 where results alone were rounded and 0.9 with OpenVINO; another
            job's code is further off by far.
    """

    scalars: float
    codes: float


TOLERANCE = {"fp32": Tolerance(2e-5, 8e-5), "bf16": Tolerance(3e-2, 1.5), "fp16": Tolerance(3e-3, 0.2)}


def random_jobs(count: int, seed: int = 0) -> tuple[list[int], np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, NUM_UNITS, count).tolist(), rng.normal(size=(count, CODE_DIM)).astype(np.float32)


def assert_same(runner: Runner, reference: NumpyRunner, tolerance: Tolerance, num_slots: int = BATCH) -> None:
    ours, theirs = runner.scalars(), reference.scalars()
    for name in ("activation", "gradient", "best_activation"):
        a, b = getattr(ours, name), getattr(theirs, name)
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=tolerance.scalars, atol=tolerance.scalars)
    assert ours.step.dtype == np.int64
    np.testing.assert_array_equal(ours.step, theirs.step)
    slots = list(range(num_slots))
    np.testing.assert_allclose(runner.best_codes(slots), reference.best_codes(slots), rtol=0, atol=tolerance.codes)
    np.testing.assert_allclose(runner.codes(slots), reference.codes(slots), rtol=0, atol=tolerance.codes)


class TestRuntime:
    """The conformance class; ``build`` is parametrised over every runtime and precision."""

    @pytest.fixture
    def tolerance(self, runtime: tuple[str, str]) -> Tolerance:
        return TOLERANCE[runtime[1]]

    @pytest.mark.parametrize("num_steps", [1, 2, 3, 8])
    def test_steps_match_numpy(self, build: Build, tolerance: Tolerance, num_steps: int) -> None:
        units, codes = random_jobs(BATCH)
        reference = NumpyRunner(MLP.manifest(BATCH), MLP)
        with build(MLP.graph(BATCH)) as runner:
            for engine_ in (runner, reference):
                engine_.fill(range(BATCH), units, codes)
                engine_.step(num_steps)
            assert_same(runner, reference, tolerance)

    @pytest.mark.parametrize(("first", "second"), [(1, 1), (1, 2), (3, 4), (2, 2)])
    def test_a_refilled_slot_starts_anew_and_leaves_the_others(
        self, build: Build, tolerance: Tolerance, first: int, second: int
    ) -> None:
        units, codes = random_jobs(BATCH)
        new_units, new_codes = random_jobs(2, seed=1)
        reference = NumpyRunner(MLP.manifest(BATCH), MLP)
        with build(MLP.graph(BATCH)) as runner:
            for engine_ in (runner, reference):
                engine_.fill(range(BATCH), units, codes)
                engine_.step(first)
                engine_.fill([3, 1], new_units, new_codes)
                engine_.step(second)
            assert_same(runner, reference, tolerance)
            assert runner.scalars().step.tolist() == [first + second, second, first + second, second, first + second]

    def test_splitting_the_steps_changes_nothing(self, build: Build) -> None:
        units, codes = random_jobs(BATCH)
        results = []
        with build(MLP.graph(BATCH)) as runner:
            for parts in ([7], [1, 6], [2, 2, 3], [1] * 7):
                runner.fill(range(BATCH), units, codes)
                for count in parts:
                    runner.step(count)
                results.append(runner.best_codes(range(BATCH)).tobytes())
        assert len(set(results)) == 1

    def test_an_empty_engine_is_idle(self, build: Build) -> None:
        with build(MLP.graph(BATCH)) as runner:
            assert runner.manifest == MLP.manifest(BATCH)
            assert runner.scalars().step.tolist() == [0] * BATCH
            runner.step(1)
            assert np.isfinite(runner.scalars().activation).all()
            np.testing.assert_array_equal(runner.best_codes([0, 4]), np.zeros((2, CODE_DIM)))

    def test_beyond_the_schedule_the_last_rate_holds(self, build: Build, tolerance: Tolerance) -> None:
        units, codes = random_jobs(BATCH)
        reference = NumpyRunner(MLP.manifest(BATCH, num_steps=3), MLP)
        with build(MLP.graph(BATCH, num_steps=3)) as runner:
            for engine_ in (runner, reference):
                engine_.fill(range(BATCH), units, codes)
                engine_.step(6)
            assert_same(runner, reference, tolerance)

    def test_the_update_keeps_full_precision(self, build: Build) -> None:
        """Whatever the precision of the network, a code moves by exactly lr g / mean|g| in float32."""
        units, codes = random_jobs(BATCH)
        codes = codes + np.float32(2**-18)
        with build(MLP.graph(BATCH)) as runner:
            runner.fill(range(BATCH), units, codes)
            runner.step(1)
            np.testing.assert_array_equal(runner.best_codes(range(BATCH)), codes)
            runner.step(1)
            rose = np.flatnonzero(runner.scalars().best_activation == runner.scalars().activation)
            assert len(rose) > 0
            moved = runner.best_codes(rose.tolist()) - codes[rose]
        np.testing.assert_allclose(np.abs(moved).mean(axis=1), learning_rates(40)[0], rtol=1e-5)

    def test_what_is_handed_out_is_a_copy(self, build: Build) -> None:
        units, codes = random_jobs(BATCH)
        with build(MLP.graph(BATCH)) as runner:
            runner.fill(range(BATCH), units, codes)
            runner.step(1)
            scalars, best = runner.scalars(), runner.best_codes([0, 1])
            kept = dataclasses.replace(scalars, activation=scalars.activation.copy()), best.copy()
            codes[:] = 9
            runner.step(3)
            np.testing.assert_array_equal(scalars.activation, kept[0].activation)
            np.testing.assert_array_equal(scalars.step, 1)
            np.testing.assert_array_equal(best, kept[1])

    @pytest.mark.parametrize("count", [0, 1, BATCH - 1, BATCH, BATCH + 1, 2 * BATCH + 3])
    def test_decodes_any_number(self, build: Build, count: int) -> None:
        _, codes = random_jobs(count)
        with build(MLP.graph(BATCH)) as runner:
            images = runner.decode(codes)
        assert images.shape == (count, 3, 8, 8)
        assert images.dtype == np.float32
        expected = np.asarray([MLP.image(code) for code in codes], np.float32).reshape(images.shape)
        np.testing.assert_allclose(images, expected, rtol=0, atol=1e-5)

    def test_decoding_does_not_disturb_the_slots(self, build: Build) -> None:
        units, codes = random_jobs(BATCH)
        results = []
        with build(MLP.graph(BATCH)) as runner:
            for decoding in (False, True):
                runner.fill(range(BATCH), units, codes)
                runner.step(2)
                if decoding:
                    runner.decode(codes[:3])
                runner.step(3)
                results.append(runner.best_codes(range(BATCH)).tobytes())
        assert results[0] == results[1]

    @pytest.mark.parametrize("what", ["step", "decode"])
    @pytest.mark.parametrize("content", [b"", b"not a model"])
    def test_refuses_a_corrupt_graph(self, build: Build, what: str, content: bytes) -> None:
        with pytest.raises(EngineError, match=f"{what} graph"):
            build(dataclasses.replace(MLP.graph(BATCH), **{what: content}))

    def test_refuses_a_truncated_graph(self, build: Build) -> None:
        graph = MLP.graph(BATCH)
        with pytest.raises(EngineError):
            build(dataclasses.replace(graph, step=graph.step[: len(graph.step) // 2]))

    def test_refuses_a_manifest_of_another_graph(self, build: Build) -> None:
        graph = MLP.graph(BATCH)
        momentum = StateField("momentum", (CODE_DIM,), "float32", 0.0)
        for change in ({"batch": 4}, {"image_px": 16}, {"state": (*graph.manifest.state, momentum)}):
            with pytest.raises(EngineError, match="manifest"):
                build(dataclasses.replace(graph, manifest=dataclasses.replace(graph.manifest, **change)))

    @pytest.mark.parametrize(
        ("slots", "units", "shape"),
        [
            ([BATCH], [0], (1, CODE_DIM)),
            ([-1], [0], (1, CODE_DIM)),
            ([0, 0], [0, 0], (2, CODE_DIM)),
            ([0], [NUM_UNITS], (1, CODE_DIM)),
            ([0], [-1], (1, CODE_DIM)),
            ([0], [0], (1, CODE_DIM + 1)),
            ([0], [0], (2, CODE_DIM)),
            ([0, 1], [0], (2, CODE_DIM)),
        ],
    )
    def test_refuses_a_wrong_fill(self, build: Build, slots: list[int], units: list[int], shape: tuple) -> None:
        with build(MLP.graph(BATCH)) as runner, pytest.raises(InputError):
            runner.fill(slots, units, np.zeros(shape, np.float32))

    def test_lanes_are_further_slots(self, build: Build, tolerance: Tolerance) -> None:
        """A fill that crosses lanes, a refill in the second lane, and readings in the order of the slots."""
        with build(MLP.graph(2), threads=3, lanes=3) as runner:
            assert runner.num_slots % 2 == 0
            count = runner.num_slots
            units, codes = random_jobs(count)
            reference = NumpyRunner(MLP.manifest(count), MLP)
            refilled = [count - 1, 0]
            new_units, new_codes = random_jobs(2, seed=1)
            for engine_ in (runner, reference):
                engine_.fill(range(count)[::-1], units, codes)
                engine_.step(3)
                engine_.fill(refilled, new_units, new_codes)
                engine_.step(2)
            assert runner.scalars().step.tolist() == [2, *[5] * (count - 2), 2]
            assert_same(runner, reference, tolerance, count)
            mixed = list(range(count))[::-1]
            np.testing.assert_allclose(
                runner.best_codes(mixed), reference.best_codes(mixed), rtol=0, atol=tolerance.codes
            )

    def test_a_closed_engine_says_so(self, build: Build) -> None:
        with build(MLP.graph(BATCH)) as runner:
            pass
        with pytest.raises(EngineError, match="closed"):
            runner.step(1)

    def test_refuses_options_it_cannot_follow(self, runtime: tuple[str, str]) -> None:
        builder = builders()[runtime[0]]
        for options in ({"precision": "fp7"}, {"threads": -1}, {"threads": "two"}, {"lanes": 0}):
            with pytest.raises(InputError):
                builder.build(MLP.graph(BATCH), options)


def test_every_runtime_module_is_covered() -> None:
    """One module per runtime, and all of them run through TestRuntime."""
    folder = Path(engine.runtimes.__file__).parent
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert {name for name, _ in PAIRS} == modules
    assert all(builder.name == name for name, builder in builders().items())
