"""What every kind of code prior must do, whatever it believes about codes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from engine.slots import Job
from engine.start import start_code
from export.declared_prior import make_prior
from export.errors import InputError
from export.lint import lint
from export.prior import CodePrior
from export.priors import kinds
from export.vjp.emit import Emitter

DIM, BATCH = 27, 5
"""Codes that can be images of three colours, 3 px a side."""

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
MEAN, STD = RNG.normal(size=DIM).astype(np.float32), RNG.uniform(0.5, 2, DIM).astype(np.float32)
STATISTICS = {"mean": MEAN, "std": STD}


def measured() -> CodePrior:
    return kinds()["none"](MEAN, STD)


@dataclass(frozen=True)
class Case:
    """A declaration, and in float64: the nearest plausible code, and what a step leaves of a code.

    ``halfway`` is what a step leaves in which the prior pulls half as much.
    """

    kind: str
    declared: Any
    constrain: Callable[[Array], Array]
    step: Callable[[Array], Array]
    halfway: Callable[[Array], Array]
    changes: tuple[Any, ...]


def _clip(h: Array, reach: float) -> Array:
    return np.minimum(np.maximum(h, MEAN - reach * STD), MEAN + reach * STD)


def _on_sphere(h: Array, radius: float) -> Array:
    u = (h - MEAN) / STD
    return MEAN + STD * u * radius / np.linalg.norm(u, axis=1, keepdims=True)


def _smoothed(h: Array, weight: float, decay: float) -> Array:
    """Written as the sum over neighbours, pixel by pixel."""
    side, image = 3, h.reshape(len(h), 3, 3, 3)
    moved = image.copy()
    for i in range(side):
        for j in range(side):
            down = image[:, :, i + 1, j] - image[:, :, i, j] if i + 1 < side else 0 * image[:, :, i, j]
            right = image[:, :, i, j + 1] - image[:, :, i, j] if j + 1 < side else 0 * image[:, :, i, j]
            norm = np.sqrt(down**2 + right**2 + 0.05**2)
            moved[:, :, i, j] += weight * (down + right) / norm
            if i + 1 < side:
                moved[:, :, i + 1, j] -= weight * down / norm
            if j + 1 < side:
                moved[:, :, i, j + 1] -= weight * right / norm
    return MEAN + decay * (moved.reshape(h.shape) - MEAN)


def _joint(h: Array, decay: float) -> Array:
    return np.concatenate([_clip(h, 1.5)[:, :8], MEAN[8:] + decay * (h[:, 8:] - MEAN[8:])], axis=1)


CASES = [
    Case("none", "none", lambda h: h, lambda h: h, lambda h: h, ({"kind": "none", "mean": 0.0},)),
    Case(
        "box",
        {"kind": "box", "low": -0.5, "high": 1.25, "decay": 0.9},
        lambda h: np.clip(h, -0.5, 1.25),
        lambda h: 0.9 * np.clip(h, -0.5, 1.25),
        lambda h: 0.95 * np.clip(h, -0.5, 1.25),
        ("box", {"kind": "box", "low": -0.5, "high": 1.25}, {"kind": "box", "low": -0.5, "decay": 0.9}),
    ),
    Case(
        "gaussian",
        {"kind": "gaussian", "decay": 0.8},
        lambda h: h,
        lambda h: MEAN + 0.8 * (h - MEAN),
        lambda h: MEAN + 0.9 * (h - MEAN),
        ("gaussian", {"kind": "gaussian", "decay": 0.8, "std": 1}),
    ),
    Case(
        "truncated-normal",
        {"kind": "truncated-normal", "bound": 1.5, "decay": 0.9},
        lambda h: _clip(h, 1.5),
        lambda h: MEAN + 0.9 * (_clip(h, 1.5) - MEAN),
        lambda h: MEAN + 0.95 * (_clip(h, 1.5) - MEAN),
        ("truncated-normal", {"kind": "truncated-normal", "bound": 1.5}),
    ),
    Case(
        "sphere",
        {"kind": "sphere", "radius": 3.0},
        lambda h: _on_sphere(h, 3.0),
        lambda h: _on_sphere(h, 3.0),
        lambda h: _on_sphere(h, 3.0),
        ("sphere",),
    ),
    Case(
        "total-variation",
        {"kind": "total-variation", "weight": 0.3, "decay": 0.9},
        lambda h: h,
        lambda h: _smoothed(h, 0.3, 0.9),
        lambda h: _smoothed(h, 0.15, 0.95),
        ("total-variation", {"kind": "total-variation", "weight": 0.3}),
    ),
    Case(
        "joint",
        [{"kind": "truncated-normal", "bound": 1.5, "size": 8}, {"kind": "gaussian", "decay": 0.9, "size": 19}],
        lambda h: np.concatenate([_clip(h, 1.5)[:, :8], h[:, 8:]], axis=1),
        lambda h: _joint(h, 0.9),
        lambda h: _joint(h, 0.95),
        ([{"kind": "truncated-normal", "bound": 1.5, "size": 8}, {"kind": "none", "size": 19}],),
    ),
]


def made(declared: Any) -> CodePrior:
    return make_prior(declared, (DIM,), measured())


def codes() -> Array:
    return (3 * np.random.default_rng(1).normal(size=(BATCH, DIM))).astype(np.float32)


def emitted(prior: CodePrior, *, shared: bool = False) -> ir.Model:
    kind = ir.TensorType(ir.DataType.FLOAT)
    source = ir.Value(name="code", type=kind, shape=ir.Shape([BATCH, DIM]))
    share = ir.Value(name="share", type=kind, shape=ir.Shape([BATCH, 1]))
    graph = ir.Graph([source, share] if shared else [source], [], nodes=[], name="prior", opset_imports={"": 20})
    e = Emitter(graph, "prior")
    out = e.op("Identity", prior.emit(e, source, share if shared else None))
    out.name = "out"
    graph.outputs.append(out)
    return ir.Model(graph, ir_version=10)


def test_every_kind_has_a_case() -> None:
    assert {case.kind for case in CASES} == set(kinds())
    assert all(kind.__doc__ and "``" in kind.__doc__ for kind in kinds().values() if kind.kind != "joint")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind)
class TestPrior:
    def test_the_graph_follows_its_formula(self, case: Case) -> None:
        prior = made(case.declared)
        assert prior.kind == case.kind
        model = emitted(prior)
        session = onnxruntime.InferenceSession(
            ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"]
        )
        (got,) = session.run(None, {"code": codes()})
        np.testing.assert_allclose(got, case.step(codes().astype(np.float64)), rtol=2e-6, atol=2e-6)
        assert not lint(model)

    def test_every_slot_is_pulled_by_its_share(self, case: Case) -> None:
        model = ir.to_proto(emitted(made(case.declared), shared=True)).SerializeToString()
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        share = np.float32([0, 0.5, 1, 0.5, 0])[:, None]
        (got,) = session.run(None, {"code": codes(), "share": share})
        exact = codes().astype(np.float64)
        pulled = np.select([share == 0, share == 1], [case.constrain(exact), case.step(exact)], case.halfway(exact))
        np.testing.assert_allclose(got, pulled, rtol=2e-6, atol=2e-6)

    def test_a_code_does_not_depend_on_its_slot(self, case: Case) -> None:
        model = ir.to_proto(emitted(made(case.declared))).SerializeToString()
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        (whole,) = session.run(None, {"code": codes()})
        (rolled,) = session.run(None, {"code": np.roll(codes(), 2, axis=0)})
        np.testing.assert_array_equal(np.roll(whole, 2, axis=0), rolled)

    def test_starts_are_plausible(self, case: Case) -> None:
        prior = made(case.declared)
        np.testing.assert_allclose(
            prior.constrain(codes()), case.constrain(codes().astype(np.float64)), rtol=2e-6, atol=2e-6
        )
        start = start_code(prior, "fc", Job(1, 2), 1.0)
        assert start.shape == (DIM,)
        assert start.dtype == np.float32
        np.testing.assert_allclose(prior.constrain(start), start, rtol=1e-6)
        assert np.isfinite(start_code(prior, "fc", Job(1, 2), 0.0)).all()

    def test_it_survives_saving(self, case: Case, tmp_path: Path) -> None:
        prior = made(case.declared)
        prior.save(tmp_path / "codes.npz")
        loaded = CodePrior.load(tmp_path / "codes.npz")
        assert type(loaded) is type(prior)
        assert loaded.digest() == prior.digest()
        np.testing.assert_array_equal(loaded.constrain(codes()), prior.constrain(codes()))

    def test_its_digest_tells_every_difference(self, case: Case) -> None:
        digests = [made(declared).digest() for declared in (case.declared, *case.changes)]
        assert len(set(digests)) == len(digests)

    def test_the_decay_can_be_replaced_or_is_refused(self, case: Case) -> None:
        prior = made(case.declared)
        if case.kind in ("none", "sphere"):
            with pytest.raises(InputError, match="has no decay"):
                prior.with_decay(0.5)
        else:
            assert prior.with_decay(0.5).digest() != prior.digest()
            assert prior.with_decay(0.5).digest() == prior.with_decay(0.7).with_decay(0.5).digest()

    def test_wrong_statistics_are_refused(self, case: Case, tmp_path: Path) -> None:
        prior = made(case.declared)
        first = "0." if case.kind == "joint" else ""
        for name, value, message in (
            ("std", np.nan, "std holds values that are not finite"),
            ("std", -1.0, "std holds negative values"),
            ("mean", np.inf, "mean holds values that are not finite"),
        ):
            arrays = prior.arrays()
            arrays[first + name] = arrays[first + name].copy()
            arrays[first + name][0] = value
            np.savez(tmp_path / "codes.npz", **arrays)
            with pytest.raises(InputError, match=message):
                CodePrior.load(tmp_path / "codes.npz")


def test_the_published_bounds_are_read(tmp_path: Path) -> None:
    high = RNG.integers(3, 18, DIM)
    (tmp_path / "fc6.txt").write_text(" ".join(map(str, high)) + " \n")  # as the published act_range files
    prior = make_prior({"kind": "box", "low": 0, "high": "fc6.txt"}, (DIM,), folder=tmp_path)
    np.testing.assert_array_equal(prior.constrain(np.full(DIM, 99.0, np.float32)), high)
    np.save(tmp_path / "fc6.npy", high.astype(np.float32))
    np.savez(tmp_path / "fc6.npz", high=high, low=0 * high)
    for name in ("fc6.npy", "fc6.npz"):
        other = make_prior({"kind": "box", "low": 0, "high": name}, (DIM,), folder=tmp_path)
        assert other.digest() == prior.digest()


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ("gausian", "there is no prior 'gausian'; did you mean gaussian"),
        ({"kind": "box", "hihg": 3}, "unknown key hihg of prior box; known are mean, std, low, high, decay"),
        ({"kind": "box", "high": "none.txt"}, "file of the prior's high not found"),
        ({"kind": "box", "high": "short.txt"}, "high holds 2 numbers, but the generator's code has 27"),
        ({"kind": "box", "high": "words.txt"}, "does not hold the prior's high as numbers"),
        ({"kind": "box", "low": 2, "high": 1}, "a lower bound lies above"),
        ({"kind": "gaussian", "decay": 1.5}, "decay = 1.5 is wrong; expected a number above 0 and at most 1"),
        ({"kind": "truncated-normal", "bound": "2"}, "bound = '2' is wrong"),
        ({"high": 2}, "a prior needs a kind"),
        ([{"kind": "total-variation", "size": 26}, {"kind": "none", "size": 1}], "needs a code that is an image"),
        (["gaussian", "none"], "declares 2 parts .* but the code has 27 components in parts"),
        ([{"kind": "gaussian", "size": 8}, {"kind": "none", "size": 12}], "give each part a size"),
        ("joint", "declared as a list"),
    ],
)
def test_wrong_declarations(declared: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("1 2")
    (tmp_path / "words.txt").write_text("no numbers here")
    with pytest.raises(InputError, match=message):
        make_prior(declared, (DIM,), folder=tmp_path)
