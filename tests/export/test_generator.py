from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.errors import InputError, ModelError
from export.generator import load_generator, resolve_generator
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
