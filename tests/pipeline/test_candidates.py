"""Start codes chosen among candidates: the best by brute force, one after the other by seed, kept for the next time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from engine.slots import Job
from engine.start import start_code
from export.forward import Readout
from pipeline import candidates
from pipeline.candidates import Candidates, candidate_codes
from pipeline.config.sections import StartSection
from pipeline.engines import Engines
from pipeline.plan import make_plan
from pipeline.workspace import Workspace
from tests.pipeline.models import CODE_DIM, DEAD, DEAD_BUT_REVIVED
from tests.pipeline.test_worker import make_all

Open = Callable[..., Workspace]
BANK = np.random.default_rng(5).normal(size=(12, CODE_DIM)).astype(np.float32)


def with_candidates(
    workspace: Workspace, count: int | None = None, *, brought: bool = True, **ascent: object
) -> Workspace:
    config = workspace.config.model_copy(
        update={
            "start": StartSection(candidates=count),
            "ascent": workspace.config.ascent.model_copy(update={"start_scale": 0.0} | ascent),
        }
    )
    generator = replace(workspace.generator, candidates=BANK if brought else None)
    return replace(workspace, config=config, generator=generator)


def activations(workspace: Workspace, tensor: str, codes: np.ndarray) -> np.ndarray:
    """(K, units) by ONNX Runtime from the two files as they are."""
    (image,) = session(str(workspace.generator.path)).run(None, {"code": codes})
    seen = (np.rint(image * 255) / 255 - 0.5) / 0.25
    model = workspace.network.model(len(codes))
    values = {v.name: v for node in model.graph for v in node.outputs}
    model.graph.outputs.clear()
    model.graph.outputs.append(values[tensor])
    (value,) = session(ir.to_proto(model).SerializeToString()).run(None, {"image": seen.astype(np.float32)})
    return value if value.ndim == 2 else value[:, :, value.shape[2] // 2, value.shape[3] // 2]


def session(model: bytes | str) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("layer", ["fc", "conv2", "-fc"])
def test_a_unit_starts_at_the_candidate_that_activates_it_most_and_seeds_at_the_next(
    open_tiny: Open, layer: str
) -> None:
    workspace = with_candidates(open_tiny(layers=("fc", "relu1")))
    info = workspace.network.layer(layer)
    values = info.sign * activations(workspace, layer.removeprefix("-"), BANK)
    chosen = Candidates(workspace)
    for unit in range(info.num_units):
        order = np.argsort(-values[:, unit])
        for seed in range(3):
            np.testing.assert_array_equal(chosen.start(info, Job(unit, seed)), BANK[order[seed]])
        np.testing.assert_array_equal(chosen.start(info, Job(unit, len(BANK))), BANK[order[0]])  # from the first again


def test_the_start_scale_spreads_around_the_candidate(open_tiny: Open) -> None:
    workspace = with_candidates(open_tiny(layers=("fc",)), start_scale=0.5)
    info, job = workspace.network.layer("fc"), Job(2, 1)
    exact = Candidates(with_candidates(workspace)).start(info, job)
    wanted = start_code(workspace.generator.prior, "fc", job, 0.5, exact)
    np.testing.assert_array_equal(Candidates(workspace).start(info, job), wanted)
    assert not np.array_equal(wanted, exact)


def test_how_many(open_tiny: Open) -> None:
    """None: what the generator brings; a number: the first of those, or so many drawn from the prior; 0: the mean."""
    plain = open_tiny(layers=("fc",))
    np.testing.assert_array_equal(candidate_codes(with_candidates(plain)), BANK)
    np.testing.assert_array_equal(candidate_codes(with_candidates(plain, 5)), BANK[:5])
    assert with_candidates(plain, 99).num_candidates == len(BANK)
    none = with_candidates(plain, 0)
    info, job = none.network.layer("fc"), Job(0, 0)
    assert Candidates(none).chosen(info, job) is None
    np.testing.assert_array_equal(
        Candidates(none).start(info, job), start_code(none.generator.prior, "fc", job, scale=0.0)
    )
    assert with_candidates(plain, brought=False).num_candidates == 0
    drawn = candidate_codes(with_candidates(plain, 300, brought=False))
    prior = plain.generator.prior
    assert drawn.shape == (300, CODE_DIM)
    np.testing.assert_allclose(drawn.std(axis=0), prior.std, rtol=0.2)
    assert (np.abs(drawn) <= 3).all()  # plausible: inside the box
    keys = {
        w.recipe(w.network.layer("fc"), 0).key
        for w in (none, with_candidates(plain), with_candidates(plain, 5), with_candidates(plain, 6, brought=False))
    }
    assert len(keys) == 4
    assert "candidates" not in none.recipe(none.network.layer("fc"), 0).to_dict()


def test_what_was_found_is_kept_and_found_again_for_another_network(
    open_tiny: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = with_candidates(open_tiny(layers=("fc",)))
    info, job = workspace.network.layer("fc"), Job(1, 0)
    said: list[str] = []
    first = Candidates(workspace, said.append).start(info, job)
    assert said == [f"showing 12 candidate starts to {workspace.network.card.title}, once on this machine"]
    runs: list[Readout] = []
    compile_forward = candidates.compile_forward

    def counted(network: object, readouts: list[Readout], **options: object) -> bytes:
        runs.extend(readouts)
        return compile_forward(network, readouts, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(candidates, "compile_forward", counted)
    np.testing.assert_array_equal(Candidates(workspace, said.append).start(info, job), first)
    assert not runs
    assert len(said) == 1
    other = replace(workspace, generator=replace(workspace.generator, digest="another"))
    Candidates(other).start(info, job)
    assert runs


def test_a_build_starts_there_and_falls_back_where_a_unit_is_dead(open_tiny: Open) -> None:
    """The first value of a climb is that of its candidate; a unit that is dead at it is drawn anew, then revived."""
    workspace = with_candidates(open_tiny(layers=("fc", "relu1")), steps=10, zoom=(1.0, 1.0))
    mean = with_candidates(workspace, 0)
    values = activations(workspace, "fc", BANK)
    with Engines(workspace) as engines:
        records = make_all(workspace, engines)
    with Engines(mean) as engines:
        before = make_all(mean, engines)
    best = {unit: values[:, unit].max() for unit in range(values.shape[1])}
    for (layer, unit, seed), record in records.items():
        if layer == "fc" and seed == 0:
            assert record.curve[0] >= best[unit] - 1e-2
            assert record.activation > before[layer, unit, seed].activation - 0.5
    assert records["relu1", DEAD_BUT_REVIVED, 0].target == "conv1"
    assert {seed.recipe.candidates for layer in make_plan(workspace).layers for seed in layer.seeds} == {len(BANK)}


def test_of_several_attempts_the_best_is_kept(open_tiny: Open) -> None:
    """Each starts at a candidate of its own; decided at the end, the highest of what seeds would have found."""
    workspace = with_candidates(open_tiny(layers=("fc",)), steps=10)
    with Engines(workspace) as engines:
        seeds = make_all(seeded(workspace, 6), engines)
    several = trying(workspace, 3, 10)
    with Engines(several) as engines:
        records = make_all(seeded(several, 2), engines)
    assert len(records) == 2 * len({unit for _, unit, _ in records})
    for (layer, unit, seed), record in records.items():
        rivals = [seeds[layer, unit, 3 * seed + attempt] for attempt in range(3)]
        best = max(rivals, key=lambda rival: rival.activation)
        assert record.activation == best.activation
        assert record.image == best.image
    assert any(seeds["fc", unit, 0].activation < record.activation for (_, unit, _), record in records.items())
    keys = {w.recipe(w.network.layer("fc"), 0).key for w in (workspace, several, trying(workspace, 3, 5))}
    assert len(keys) == 3
    assert "attempts" not in workspace.recipe(workspace.network.layer("fc"), 0).to_dict()
    assert trying(workspace, 3, None).trial_steps == 5  # a quarter of ten steps, in whole polls


def test_attempts_of_dead_units_are_revived_or_stay_dead(open_tiny: Open) -> None:
    workspace = trying(with_candidates(open_tiny(layers=("relu1",)), steps=10), 3, 5)
    with Engines(workspace) as engines:
        records = make_all(workspace, engines)
    assert {unit for _, unit, _ in records} == set(range(workspace.network.layer("relu1").num_units))
    assert (records["relu1", DEAD_BUT_REVIVED, 0].status, records["relu1", DEAD, 0].status) == ("done", "dead")
    assert records["relu1", DEAD_BUT_REVIVED, 0].target == "conv1"


def trying(workspace: Workspace, attempts: int, trial_steps: int | None) -> Workspace:
    start = workspace.config.start.model_copy(update={"attempts": attempts, "trial_steps": trial_steps})
    return replace(workspace, config=workspace.config.model_copy(update={"start": start}))


def seeded(workspace: Workspace, seeds: int) -> Workspace:
    layers = tuple(layer.model_copy(update={"seeds": seeds}) for layer in workspace.config.layers)
    return replace(workspace, config=workspace.config.model_copy(update={"layers": layers}))
