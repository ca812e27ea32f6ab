"""Codes that climb while a generator is trained: in turn, at all ages, by the very step of an atlas."""

from __future__ import annotations

import numpy as np
import onnxruntime
import torch

from export.generators.climbers import ASCENT, Climbers
from export.priors.box import BoxPrior
from export.step import add_input, empty_model, finish
from export.update import add_update, state_fields
from export.vjp.emit import Emitter

DIM, SIZE = 6, 12
PACE = np.asarray([0.5, 0.5, 0.5, 2, 2, 2], np.float32)


def prior() -> BoxPrior:
    rng = np.random.default_rng(0)
    mean = rng.random(DIM).astype(np.float32)
    return BoxPrior(mean, np.ones_like(mean), 0 * mean, mean + 3, np.full_like(mean, 0.9))


def pool() -> Climbers:
    return Climbers(prior(), PACE, 5, SIZE)


def rng(step: int) -> torch.Generator:
    return torch.Generator().manual_seed(step)


def step_graph(batch: int) -> onnxruntime.InferenceSession:
    """The update of a step graph, its gradient an input."""
    model = empty_model("update")
    graph = model.graph
    fields = state_fields(ASCENT, DIM)
    state = {f.name: add_input(graph, f.name, f.dtype, (batch, *f.shape)) for f in fields}
    activation = add_input(graph, "activation", "float32", (batch,))
    gradient = add_input(graph, "gradient", "float32", (batch, DIM))
    e = Emitter(graph, prefix="update")
    made = add_update(e, state, activation, gradient, ASCENT, prior(), np.ones(ASCENT.steps, bool), PACE)
    data = finish(model, {f"{f.name}.next": made[f.name] for f in fields})
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])


def test_a_step_is_that_of_the_step_graph() -> None:
    climbers, noise = pool(), np.random.default_rng(1)
    session = step_graph(SIZE)
    for step in range(4):
        rows = climbers.take(step, SIZE, rng(step))
        feeds = {name: value.numpy().copy() for name, value in climbers.state().items() if name != "unit"}
        gradient = noise.normal(size=(SIZE, DIM)).astype(np.float32)
        age = feeds.pop("age")
        feeds |= {
            "step": age,
            "best_code": 0 * feeds["code"],
            "best_activation": np.zeros(SIZE, np.float32),
            "activation": np.zeros(SIZE, np.float32),
            "gradient": gradient,
        }
        wanted = dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))
        climbers.advance(rows, torch.from_numpy(gradient))
        for name in ("code", "moment1", "moment2"):
            np.testing.assert_allclose(
                getattr(climbers, name).numpy(), wanted[f"{name}.next"], rtol=1e-4, atol=1e-5, err_msg=name
            )
        assert (climbers.age.numpy() == age + 1).all()


def test_every_code_has_its_turn_and_all_ages_are_there() -> None:
    climbers, count = pool(), 4
    laps = SIZE // count
    turns = [climbers.take(step, count, rng(step)).tolist() for step in range(laps)]
    assert sorted(row for turn in turns for row in turn) == list(range(SIZE))
    assert climbers.take(laps, count, rng(laps)).tolist() == turns[0]
    assert len(climbers.age.unique()) == SIZE


def test_what_is_at_its_end_starts_anew_near_the_mean() -> None:
    climbers = pool()
    climbers.code += 1
    climbers.age[3] = ASCENT.steps
    climbers.moment1 += 1
    others = [row for row in range(SIZE) if row != 3]
    before = climbers.code.clone()
    rows = climbers.take(0, SIZE, rng(0))
    assert torch.equal(climbers.code[others], before[others])
    assert climbers.age[3] == 0
    assert not climbers.moment1[3].any()
    assert climbers.moment1[others].all()
    low, high = torch.from_numpy(prior().low), torch.from_numpy(prior().high)
    assert ((climbers.code[3] >= low) & (climbers.code[3] <= high)).all()
    assert 0 < float((climbers.code[3] - torch.from_numpy(prior().mean)).abs().max()) < 0.5
    assert 0 <= int(climbers.unit[rows[3]]) < 5


def test_they_climb() -> None:
    """A linear unit: after a whole ascent every component stands at the bound its weight points to."""
    climbers = pool()
    weights = torch.tensor([1.0, -1.0, 2.0, 1.0, -2.0, 1.0])
    climbers.age[:] = 0
    for step in range(ASCENT.steps):
        rows = climbers.take(step, SIZE, rng(step))
        climbers.advance(rows, weights.expand(SIZE, -1))
    up = climbers.code[0] > torch.from_numpy(prior().mean)
    assert torch.equal(up, weights > 0)
    assert (climbers.age == ASCENT.steps).all()
