"""Codes that climb while a generator is trained: in turn, at all ages, by the very step of an atlas."""

from __future__ import annotations

import numpy as np
import onnxruntime
import torch

from export.generators.climbers import ASCENT, Climbers
from export.priors.sphere import SpherePrior
from export.step import add_input, empty_model, finish
from export.update import add_update, state_fields
from export.view import make_view
from export.vjp.emit import Emitter

DIM, SIZE = 6, 12
PACE = np.asarray([0.5, 0.5, 0.5, 2, 2, 2], np.float32)


def prior() -> SpherePrior:
    rng = np.random.default_rng(0)
    mean = rng.random(DIM).astype(np.float32)
    return SpherePrior(mean, 1 + mean, np.asarray([2.5], np.float32))


def pool() -> Climbers:
    return Climbers(prior(), PACE, 8, SIZE, (8, (12, 10)))


def rng(step: int) -> torch.Generator:
    return torch.Generator().manual_seed(step)


def photographs() -> tuple[torch.Tensor, torch.Tensor]:
    """Codes, and what they activate: the photograph i its units i, i + 1, ... most."""
    known = prior()
    codes = torch.from_numpy(known.constrain(known.mean + known.std * np.eye(3, DIM, dtype=np.float32)))
    return codes, torch.stack([-((torch.arange(8) - i) % 8).float() for i in range(3)])


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
        rows = climbers.take(step, SIZE, rng(step), *photographs())
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
    turns = [climbers.take(step, count, rng(step), *photographs()).tolist() for step in range(laps)]
    assert sorted(row for turn in turns for row in turn) == list(range(SIZE))
    assert climbers.take(laps, count, rng(laps), *photographs()).tolist() == turns[0]
    assert len(climbers.age.unique()) == SIZE


def test_what_is_at_its_end_starts_anew_at_a_photograph() -> None:
    climbers = pool()
    climbers.code += 1
    climbers.age[3:6] = ASCENT.steps
    climbers.moment1 += 1
    ended, others = [3, 4, 5], [row for row in range(SIZE) if row not in (3, 4, 5)]
    before = climbers.code.clone()
    codes, units = photographs()
    rows = climbers.take(0, SIZE, rng(0), codes, units)
    assert rows.tolist() == list(range(SIZE))
    assert torch.equal(climbers.code[others], before[others])
    assert not climbers.age[ended].any()
    assert not climbers.moment1[ended].any()
    assert climbers.moment1[others].all()
    for row in ended:
        code = climbers.code[row]
        np.testing.assert_allclose(prior().constrain(code.numpy()), code.numpy(), rtol=1e-5, atol=1e-6)
        nearest = int((codes - code).square().sum(dim=1).argmin())
        assert 0 < float((codes[nearest] - code).abs().max()) < 1
    unlikely = torch.full((3, 8), -9.0)
    unlikely[:, 2] = 0.0  # one unit is what all of them activate
    unlikely[:, [1, 3, 4, 5]] = -1.0
    climbers.age[:] = ASCENT.steps
    climbers.take(0, SIZE, rng(1), codes, unlikely)
    assert set(climbers.unit.tolist()) <= {1, 2, 3, 4, 5}
    assert len(set(climbers.unit.tolist())) > 1


def test_they_climb() -> None:
    """A linear unit: after a whole ascent every component stands on the side that its weight points to."""
    climbers = pool()
    weights = torch.tensor([1.0, -1.0, 2.0, 1.0, -2.0, 1.0])
    climbers.age[:] = 0
    for step in range(ASCENT.steps):
        rows = climbers.take(step, SIZE, rng(step), *photographs())
        climbers.advance(rows, weights.expand(SIZE, -1))
    up = climbers.code[0] > torch.from_numpy(prior().mean)
    assert torch.equal(up, weights > 0)
    assert (climbers.age == ASCENT.steps).all()


def test_they_are_seen_as_an_atlas_sees_them() -> None:
    """Straight on every fifth step, else nearer and shifted: the view of their age."""
    climbers = pool()
    rows = torch.arange(SIZE)
    climbers.age[:] = torch.arange(SIZE)
    images = torch.rand(SIZE, 3, 8, 8, generator=rng(3))
    looked = climbers.look(rows, images)
    assert looked.shape == (SIZE, 3, 12, 10)
    view = make_view(8, 12, 10, fit=ASCENT.fit, jitter_px=ASCENT.jitter_px, steps=ASCENT.steps, zoom=ASCENT.zoom)
    for age in range(SIZE):
        by_row, by_column = view.rows[view.row_of_step[age]], view.columns[view.column_of_step[age]]
        wanted = by_row @ images[age].numpy() @ by_column.T
        np.testing.assert_allclose(looked[age].numpy(), wanted, rtol=1e-5, atol=1e-6)
    straight = torch.nn.functional.interpolate(images, size=(12, 10), mode="bilinear", align_corners=False)
    same = [bool(torch.allclose(a, b, atol=1e-5)) for a, b in zip(looked, straight, strict=True)]
    assert same == view.steady()[:SIZE].tolist()
    assert 0 < sum(same) < SIZE
