"""The worker: engines kept and released, dead units retried, records complete."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from engine.protocol import Builder, Runner
from engine.slots import Job
from engine.start import start_code
from export.errors import EngineError
from export.manifest import StepGraph
from pipeline.config.sections import FilmSection
from pipeline.engines import Engines
from pipeline.plan import make_plan
from pipeline.records import Record
from pipeline.worker import encode_png, make_shard, run_units
from pipeline.workspace import Workspace
from tests.pipeline.models import CODE_DIM, DEAD, DEAD_BUT_REVIVED, IMAGE_PX

Open = Callable[..., Workspace]


class CountingBuilder:
    """A real runtime that counts its engines."""

    def __init__(self, inner: Builder) -> None:
        self.name, self.device = inner.name, inner.device
        self.availability, self.precisions = inner.availability, inner.precisions
        self._inner = inner
        self.built: list[str] = []
        self.num_open = self.peak = 0

    def build(self, graph: StepGraph, options: Mapping[str, object]) -> Runner:
        self.built.append(graph.manifest.target)
        return Counted(self, self._inner.build(graph, options))  # type: ignore[return-value]


class Counted:
    def __init__(self, owner: CountingBuilder, inner: Runner) -> None:
        self._owner, self._inner = owner, inner

    def __enter__(self) -> Counted:
        self._owner.num_open += 1
        self._owner.peak = max(self._owner.peak, self._owner.num_open)
        self._inner.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._owner.num_open -= 1
        self._inner.__exit__(*exc)

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)


def make_all(workspace: Workspace, engines: Engines) -> dict[tuple[str, int, int], Record]:
    """Every record of a plan, read back from the store."""
    records = {}
    for shard in make_plan(workspace).shards:
        for record in workspace.store.read_shard(make_shard(workspace, shard, engines)):
            records[shard.layer, record.unit, record.seed] = record
    return records


def test_an_engine_serves_every_shard_and_seed_of_its_layer_and_is_then_released(open_tiny: Open) -> None:
    plain = open_tiny(layers=("conv1", "fc"), seeds=2)
    counter = CountingBuilder(plain.builder)
    workspace = replace(plain, builder=counter)
    with Engines(workspace) as engines:
        records = make_all(workspace, engines)
        assert counter.num_open == 1
    assert len(records) == 22
    assert counter.built == ["conv1", "fc"]
    assert (counter.peak, counter.num_open) == (1, 0)


def test_dead_units_are_run_again_before_the_activation(open_tiny: Open) -> None:
    plain = open_tiny(layers=("relu1",))
    counter = CountingBuilder(plain.builder)
    workspace = replace(plain, builder=counter)
    with Engines(workspace) as engines:
        records = make_all(workspace, engines)
    revived, dead = records["relu1", DEAD_BUT_REVIVED, 0], records["relu1", DEAD, 0]
    assert (revived.status, revived.target) == ("done", "conv1")
    assert (dead.status, dead.target) == ("dead", "conv1")
    assert revived.activation < -50
    assert any(record.target == "relu1" for record in records.values())
    assert counter.built == ["relu1", "conv1"]
    assert (counter.peak, counter.num_open) == (2, 0)


def test_a_revived_units_activation_is_that_of_the_pre_activation(open_tiny: Open) -> None:
    """Ascending the convolution directly, from the start codes of the activation, gives the same."""
    workspace = open_tiny(layers=("relu1",), units=(DEAD_BUT_REVIVED,))
    prior, scale = workspace.generator.prior, workspace.config.ascent.start_scale
    job = Job(DEAD_BUT_REVIVED, 0)
    with Engines(workspace) as engines:
        record = make_all(workspace, engines)["relu1", DEAD_BUT_REVIVED, 0]
        runner = engines.runner("conv1", pre_activation=False)
        runner.fill([0], [job.unit], start_code(prior, "relu1", job, scale)[None])
        runner.step(record.steps)
        best = runner.scalars().best_activation[0]
        code = runner.best_codes([0])[0]
    assert record.activation == pytest.approx(float(best), rel=1e-6)
    np.testing.assert_allclose(record.code, code, rtol=1e-6, atol=1e-7)


def test_a_dead_unit_without_pre_activation_stays_dead(open_tiny: Open) -> None:
    workspace = open_tiny(layers=("conv1",), units=(DEAD,))
    with Engines(workspace) as engines:
        record = make_all(workspace, engines)["conv1", DEAD, 0]
    assert (record.status, record.target) == ("dead", "conv1")


def test_records_are_complete_and_images_are_the_generators(open_tiny: Open) -> None:
    workspace = open_tiny(layers=("fc",), seeds=1)
    with Engines(workspace) as engines:
        records = make_all(workspace, engines)
        runner = engines.runner("fc", pre_activation=False)
        for record in records.values():
            assert record.code.shape == (CODE_DIM,)
            assert record.steps == 10
            assert len(record.curve) == 2
            assert np.isfinite(record.activation)
            image = np.asarray(Image.open(io.BytesIO(record.image)))
            assert (image.shape, image.dtype) == ((IMAGE_PX, IMAGE_PX, 3), np.uint8)
            decoded = runner.decode(record.code[None])[0].transpose(1, 2, 0) * 255
            assert np.abs(decoded - image).max() <= 0.501
    assert len({record.image for record in records.values()}) == 5


def filmed(workspace: Workspace, frames: int | None) -> Workspace:
    return replace(workspace, config=workspace.config.model_copy(update={"film": FilmSection(frames=frames)}))


@pytest.mark.parametrize(("steps", "frames"), [(40, [0, 5, 10, 20]), (200, [0, 5, 10, 15, 25, 40, 70, 120]), (9, None)])
def test_by_default_a_climb_has_a_frame_per_ten_steps(open_tiny: Open, steps: int, frames: list[int] | None) -> None:
    plain = open_tiny(layers=("fc",))
    ascent = plain.config.ascent.model_copy(update={"steps": steps})
    film = replace(plain, config=plain.config.model_copy(update={"ascent": ascent})).film(0)
    assert film == (frames and {"steps": frames, "px": 64})


def test_the_first_seed_has_a_film_that_ends_in_its_image(open_tiny: Open) -> None:
    workspace = filmed(open_tiny(layers=("fc",), seeds=2), 8)
    with Engines(workspace) as engines:
        records = make_all(workspace, engines)
    for (_, unit, seed), record in records.items():
        if seed:
            assert (record.film_steps, record.film) == ((), b""), unit
            continue
        assert record.film_steps == (0, 5, 10)
        film = Image.open(io.BytesIO(record.film))
        assert (film.format, film.size) == ("WEBP", (3 * 64, 64))
        cells = [np.asarray(film.crop((64 * i, 0, 64 * (i + 1), 64)), np.float32) for i in range(3)]
        whole = np.asarray(Image.open(io.BytesIO(record.image)).resize((64, 64), Image.Resampling.BICUBIC), np.float32)
        errors = [float(np.abs(cell - whole).mean()) for cell in cells]
        assert errors[2] < 12, unit
        assert errors[2] < min(errors[:2]), unit
    assert len({record.film for record in records.values()}) == 6


def test_without_films_the_results_are_the_same(open_tiny: Open) -> None:
    plain, shown_too = (filmed(open_tiny(layers=("relu1",)), count) for count in (0, 8))
    assert shown_too.recipe(shown_too.network.layer("relu1"), 0).film == {"steps": [0, 5], "px": 64}
    assert plain.recipe(plain.network.layer("relu1"), 0).film is None
    with Engines(plain) as engines:
        bare = make_all(plain, engines)
    with Engines(shown_too) as engines:
        shown = make_all(shown_too, engines)
    assert {key: (r.image, r.code.tobytes(), r.curve.tobytes()) for key, r in bare.items()} == {
        key: (r.image, r.code.tobytes(), r.curve.tobytes()) for key, r in shown.items()
    }
    assert not any(record.film for record in bare.values())
    assert [r.unit for r in shown.values() if not r.film] == [r.unit for r in shown.values() if r.status == "dead"]


def test_facts_of_the_layer_are_kept_with_the_shard(open_tiny: Open) -> None:
    workspace = open_tiny(layers=("relu1",), units="0:1")
    (shard,) = make_plan(workspace).shards
    with Engines(workspace) as engines:
        stored = make_shard(workspace, shard, engines)
    assert stored.facts["position"] == [4, 4]
    assert stored.facts["num_units"] == 6
    assert stored.facts["receptive_field"] == {"top": 7, "left": 7, "bottom": 10, "right": 10}
    assert workspace.store.shards(shard.key) == (stored,)


def test_each_job_is_told_once_with_its_target(open_tiny: Open) -> None:
    workspace = open_tiny(layers=("relu1",))
    told: list[tuple[int, str]] = []
    with Engines(workspace) as engines:
        for shard in make_plan(workspace).shards:
            make_shard(workspace, shard, engines, lambda result, target: told.append((result.unit, target)))
    assert sorted(unit for unit, _ in told) == list(range(6))
    assert dict(told)[DEAD_BUT_REVIVED] == "conv1"


def test_results_do_not_depend_on_how_jobs_are_split(open_tiny: Open) -> None:
    workspace = open_tiny(layers=("fc",), seeds=2)
    together: dict[Job, tuple] = {}
    with Engines(workspace) as engines:
        jobs = [Job(unit, seed) for seed in (1, 0) for unit in (4, 2, 0, 1, 3)]
        run_units(
            workspace,
            workspace.network.layer("fc"),
            jobs,
            engines,
            lambda result, target: together.update(
                {Job(result.unit, result.seed): (result.code.tobytes(), encode_png(result.image), target)}
            ),
        )
        apart = make_all(workspace, engines)
    assert together == {
        Job(record.unit, record.seed): (record.code.tobytes(), record.image, record.target) for record in apart.values()
    }


def test_a_runtime_that_fails_stores_nothing(open_tiny: Open) -> None:
    class Failing:
        def __getattr__(self, name: str) -> object:
            return getattr(plain.builder, name)

        def build(self, graph: StepGraph, options: Mapping[str, object]) -> Runner:
            raise EngineError("out of memory; use a smaller batch")

    plain = open_tiny(layers=("fc",))
    workspace = replace(plain, builder=Failing())  # type: ignore[arg-type]
    with pytest.raises(EngineError, match="smaller batch"), Engines(workspace) as engines:
        make_all(workspace, engines)
    assert list(workspace.out.rglob("*.parquet")) == []
