from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from export.errors import InputError, ModelError
from export.generator import Declared, load_generator, resolve_generator
from export.prior import CodePrior
from tests.export.pairs import SHAPE, Pair, prior


def copied(pair: Pair, folder: Path) -> Path:
    for suffix in (".onnx", ".codes.npz"):
        shutil.copy(pair.generator.path.with_suffix(suffix), folder / f"gen{suffix}")
    return folder / "gen.onnx"


def test_shape_and_digest(pair: Pair, tmp_path: Path) -> None:
    generator = load_generator(copied(pair, tmp_path))
    assert (generator.code_dim, generator.image_px) == (SHAPE.code_dim, 16)
    assert generator.digest == pair.generator.digest
    prior(SHAPE.code_dim, bound=2.0).save(tmp_path / "gen.codes.npz")
    assert load_generator(tmp_path / "gen.onnx").digest != pair.generator.digest


def test_a_pace_is_read_and_is_part_of_the_digest(pair: Pair, tmp_path: Path) -> None:
    path = copied(pair, tmp_path)
    assert load_generator(path).pace is None
    digests = set()
    for pace in (None, np.full(SHAPE.code_dim, 2, np.float32), np.full(SHAPE.code_dim, 3, np.float32)):
        prior(SHAPE.code_dim).save(tmp_path / "gen.codes.npz", pace)
        generators = [load_generator(path), load_generator(path, Declared("gaussian"))]
        for generator in generators:
            np.testing.assert_array_equal(generator.pace, pace)
        digests |= {generator.digest for generator in generators}
    assert len(digests) == 6
    for wrong in (np.zeros(SHAPE.code_dim), np.ones(3), np.full(SHAPE.code_dim, np.nan)):
        prior(SHAPE.code_dim).save(tmp_path / "gen.codes.npz", wrong)
        with pytest.raises(InputError, match=f"pace must hold {SHAPE.code_dim} positive numbers"):
            load_generator(path)


def test_candidates_are_read_and_are_part_of_the_digest(pair: Pair, tmp_path: Path) -> None:
    path, codes = copied(pair, tmp_path), np.random.default_rng(0).normal(size=(5, SHAPE.code_dim)).astype(np.float32)
    assert load_generator(path).candidates is None
    digests = set()
    for brought in (None, codes, codes[:4]):
        prior(SHAPE.code_dim, bound=1.0).save(tmp_path / "gen.codes.npz", candidates=brought)
        for generator in (
            load_generator(path),
            load_generator(path, Declared({"kind": "box", "low": -0.5, "high": 9})),
        ):
            digests.add(generator.digest)
            if brought is None:
                assert generator.candidates is None
                continue
            assert generator.candidates is not None
            low = generator.prior.low  # type: ignore[attr-defined]
            wanted = generator.prior.constrain(brought)
            np.testing.assert_allclose(generator.candidates, wanted, atol=2e-3)  # kept as fp16, made plausible
            assert (generator.candidates >= low).all()
    assert len(digests) == 6
    for wrong in (np.ones((3, 4)), np.ones(SHAPE.code_dim), np.full((2, SHAPE.code_dim), np.nan)):
        prior(SHAPE.code_dim).save(tmp_path / "gen.codes.npz", candidates=wrong)
        with pytest.raises(InputError, match=f"candidates must be rows of {SHAPE.code_dim} finite numbers"):
            load_generator(path)


def test_statistics_of_another_length(pair: Pair, tmp_path: Path) -> None:
    path = copied(pair, tmp_path)
    prior(5).save(tmp_path / "gen.codes.npz")
    with pytest.raises(ModelError, match="describes codes of 5"):
        load_generator(path)


def test_missing_statistics(pair: Pair, tmp_path: Path) -> None:
    path = copied(pair, tmp_path)
    (tmp_path / "gen.codes.npz").unlink()
    with pytest.raises(InputError, match="not found"):
        load_generator(path)


def test_a_network_is_not_a_generator(pair: Pair, tmp_path: Path) -> None:
    shutil.copy(pair.network.path, tmp_path / "gen.onnx")
    prior(7).save(tmp_path / "gen.codes.npz")
    with pytest.raises(ModelError, match="takes a code of shape"):
        load_generator(tmp_path / "gen.onnx")


def test_unknown_bundled_generator() -> None:
    with pytest.raises(ModelError, match=r"no bundled generator 'x'; bundled are lite0-hybrid"):
        resolve_generator("bundled:x")


def simple(folder: Path, body: str, inputs: str = "float[N,3] x", output: str = "float[N,3,8,8] y") -> Path:
    """A generator in ONNX text, without a card: x (N, 3) -> y (N, 3, 8, 8)."""
    text = f'<ir_version: 10, opset_import: ["" : 20]> g ({inputs}) => ({output}) <int64[4] s = {{-1, 3, 1, 1}}, '
    text += f"float[3,1,8,8] w = {{{', '.join(['1'] * 192)}}}> "
    text += f"{{ r = Reshape(x, s) m = ConvTranspose<group=3>(r, w) {body} }}"
    onnx.save(onnx.parser.parse_model(text), folder / "simple.onnx")
    return folder / "simple.onnx"


@pytest.mark.parametrize(
    ("body", "declared", "message"),
    [
        (
            "y = Tanh(m)",
            Declared("gaussian"),
            r"spans -0\.\d+ to 0\.\d+, which does not fit the declared range of 0 to 1",
        ),
        ("y = Tanh(m)", Declared("gaussian", range=(0, 255)), None),
        ("t = Sigmoid(m) f = Constant<value_float=255.0>() y = Mul(t, f)", Declared("gaussian"), "spans .* declare it"),
        ("y = Log(m)", Declared("gaussian"), "is not finite"),
        ("y = Tanh(m)", Declared("gaussian", range=(1, -1)), "is empty"),
        ("y = Tanh(m)", Declared(range=(-1, 1)), r"not found: .*simple.codes.npz; or declare one: \[generator\] prior"),
        ("y = Tanh(m)", Declared({"kind": "box", "high": "b.txt"}, range=(-1, 1)), "holds 2 numbers, but the .* has 3"),
        ("y = Tanh(r)", Declared("gaussian"), "must be a square RGB image"),
    ],
)
def test_what_is_declared_is_checked(tmp_path: Path, body: str, declared: Declared, message: str | None) -> None:
    (tmp_path / "b.txt").write_text("1 2")
    output = "float[N,3,1,2] y" if "Tanh(r)" in body else "float[N,3,8,8] y"
    if "Tanh(r)" in body:
        body = "p = Tanh(r) y = Concat<axis=3>(p, p)"
    path = simple(tmp_path, body, output=output)
    declared = replace(declared, folder=tmp_path)
    if message is None:
        assert load_generator(path, declared).card.output.scale == pytest.approx((1 / 255,) * 3)
        return
    with pytest.raises(InputError, match=message):
        load_generator(path, declared)


def test_what_is_declared_is_part_of_the_digest(tmp_path: Path) -> None:
    path = simple(tmp_path, "y = Sigmoid(m)")
    all_declared = [
        Declared("gaussian"),
        Declared("gaussian", channels="BGR"),
        Declared("gaussian", range=(-1, 1)),
        Declared("sphere"),
        Declared({"kind": "gaussian", "decay": 0.5}),
    ]
    assert len({load_generator(path, declared).digest for declared in all_declared}) == len(all_declared)


def test_statistics_are_kept_under_a_declared_prior(pair: Pair, tmp_path: Path) -> None:
    path = copied(pair, tmp_path)
    own = load_generator(path).prior
    other = load_generator(path, Declared({"kind": "truncated-normal", "bound": 1.0})).prior
    np.testing.assert_array_equal(other.mean, own.mean)
    np.testing.assert_allclose(other.constrain(own.mean + 99), own.mean + own.std, rtol=1e-6)


def test_class_labels_are_refused(tmp_path: Path) -> None:
    path = simple(tmp_path, "y = Sigmoid(m)", inputs="float[N,3] x, int64[N,1] label")
    with pytest.raises(ModelError, match=r"simple.onnx: the generator's input 'label' is int64"):
        load_generator(path, Declared("gaussian"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("biggan", "unknown generator 'biggan'"),
        ("deepsin:fc6", "unknown generator 'deepsin:fc6'; did you mean deepsim"),
        ("pixels:big", "pixels:big must name the side"),
        ("fourier:4", "fourier:4 must name the side of its image in pixels, 8 to 1024"),
        ("diffusers:vae", "does not say how large"),
        ("diffusers:nowhere:64", "is not a folder of a diffusers model"),
        ("python:nowhere:make", "cannot import make from 'nowhere'"),
        ("python:tests.export.pairs:SmallNet", "returned SmallNet; return an export.generators.sources.TorchGenerator"),
    ],
)
def test_unknown_sources(source: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        resolve_generator(source, cache=tmp_path)


def test_weights_where_none_belong(pair: Pair) -> None:
    with pytest.raises(ModelError, match="takes no weights"):
        resolve_generator("pixels:16", weights=pair.generator.path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"low": np.full(4, 2.0, np.float32)}, "lower bound lies above"),
        ({"std": np.full(4, np.nan, np.float32)}, "std holds values that are not finite"),
        ({"mean": np.zeros(3, np.float32)}, "different shapes"),
    ],
)
def test_wrong_statistics(tmp_path: Path, change: dict[str, np.ndarray], message: str) -> None:
    replace(prior(4, bound=1.0), **change).save(tmp_path / "codes.npz")
    with pytest.raises(InputError, match=message):
        CodePrior.load(tmp_path / "codes.npz")


def test_statistics_survive_saving(tmp_path: Path) -> None:
    before = prior(4, bound=1.5, decay=0.9)
    before.save(tmp_path / "codes.npz")
    after = CodePrior.load(tmp_path / "codes.npz")
    for name in ("mean", "std", "low", "high", "decay"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match="does not hold code statistics"):
        CodePrior.load(tmp_path / "bad.npz")
