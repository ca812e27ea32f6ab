"""Image -> code: the encoder's graph is the trainer's encoding, and refining finds the code of a generator's image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from export.encoding import compile_encoder, compile_refine, encoder_facts, open_encoder, pooling_matrix, refining
from export.errors import InputError, ModelError
from export.generator import Generator, load_generator, resolve_generator
from export.generators import train
from export.generators.architecture import GeneratorConfig
from export.generators.encoder import Encoder, EncoderLayers
from export.generators.images import Sampler, Source
from export.generators.publish import publish
from export.generators.recipe import TrainConfig
from export.generators.train import Trainer
from export.step import compile_decode
from pipeline.cli import run
from pipeline.encode import BATCH, encode_images, read_image
from tests.export.pairs import Pair, make_pair

SHAPE = GeneratorConfig(12, 3, 2, 8, (8, 6, 6, 4))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def trained(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, Generator]:
    """A generator of 16 px for the small network, its spatial code pooled from 5x5 to 2x2; hardly trained."""
    return published(pair, tmp_path_factory.mktemp("trained"), SHAPE)


@pytest.fixture(scope="module")
def trained_on_maps(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, Generator]:
    """As ``trained``, but its spatial code is 7 components of the whole map."""
    return published(pair, tmp_path_factory.mktemp("maps"), replace(SHAPE, map_dim=7))


def published(pair: Pair, folder: Path, shape: GeneratorConfig) -> tuple[Trainer, Generator]:
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    for i in range(8):
        Image.fromarray(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)).resize((16, 16)).save(
            folder / f"images/{i}.png"
        )
    before, train.STATISTICS_BATCHES = train.STATISTICS_BATCHES, 4
    try:
        sampler = Sampler([Source(folder / "images", 1.0, 16)], folder / "cache", 16, seed=0)
        layers = EncoderLayers(str(pair.network.path), "body.2", "pool", ("pool", "body.2"))
        trainer = Trainer(TrainConfig(batch=4, mixed=1, climbed=0), shape, sampler, Encoder(pair.network, layers))
    finally:
        train.STATISTICS_BATCHES = before
    torch.save(trainer.state(), folder / "checkpoint.pt")
    publish(folder / "checkpoint.pt", folder / "gen.onnx", "noise", network=pair.network)
    return trainer, load_generator(folder / "gen.onnx")


def images(count: int, side: int = 16) -> np.ndarray:
    return np.random.default_rng(5).random((count, 3, side, side), np.float32)


@pytest.mark.parametrize("which", ["trained", "trained_on_maps"])
def test_the_graph_encodes_as_the_trainer_does(which: str, request: pytest.FixtureRequest) -> None:
    trainer, generator = request.getfixturevalue(which)
    facts = encoder_facts(generator)
    assert facts is not None
    assert facts.grid == 2
    model = compile_encoder(generator, open_encoder(facts, Path("nowhere")), facts, 3)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (ours,) = session.run(None, {"image": images(3)})
    with torch.no_grad():
        theirs = trainer.statistics.encode(trainer.encoder(torch.from_numpy(images(3))), 2).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(("size", "out"), [(7, 4), (5, 2), (8, 4), (2, 4), (3, 3)])
def test_pooling_is_adaptive(size: int, out: int) -> None:
    x = torch.rand(1, 1, size, size)
    matrix = torch.from_numpy(pooling_matrix(size, out))
    torch.testing.assert_close(matrix @ x @ matrix.T, torch.nn.functional.adaptive_avg_pool2d(x, out))


def test_the_distance_is_as_it_says(pair: Pair) -> None:
    generator = pair.generator
    model, fields = compile_refine(generator, refining(5, 0.1), 2)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    code = np.random.default_rng(0).normal(size=(2, generator.code_dim)).astype(np.float32)
    fed = {f.name: np.full((2, *f.shape), f.initial or 0, f.dtype) for f in fields} | {"code": code}
    (distance,) = session.run(["distance"], fed | {"target": images(2)})
    with torch.no_grad():
        error = pair.generator_module(torch.from_numpy(code)) - torch.from_numpy(images(2))
    coarse = torch.nn.functional.avg_pool2d(error, 8)
    expected = error.square().mean(dim=(1, 2, 3)) + 4 * coarse.square().mean(dim=(1, 2, 3))
    np.testing.assert_allclose(distance, expected.numpy(), rtol=1e-4)


def test_refining_comes_near_and_never_worse(trained: tuple[Trainer, Generator]) -> None:
    _, generator = trained
    unrefined = encode_images(generator, images(3), steps=0)
    np.testing.assert_array_equal(unrefined.first, unrefined.distance)
    refined = encode_images(generator, images(3), steps=40)
    assert (refined.distance < 0.98 * refined.first).all()
    np.testing.assert_allclose(refined.codes, generator.prior.constrain(refined.codes), rtol=1e-6, atol=1e-6)


def test_a_generator_without_an_encoder_finds_its_own_image(tmp_path: Path) -> None:
    generator = resolve_generator("pixels:16", cache=tmp_path)
    assert encoder_facts(generator) is None
    target = images(BATCH + 1)  # more than a batch
    encoded = encode_images(generator, target, steps=150, lr=0.2)
    assert encoded.codes.shape == (BATCH + 1, 768)
    assert (encoded.distance < 0.02 * encoded.first).all()
    session = onnxruntime.InferenceSession(compile_decode(generator, 1), providers=["CPUExecutionProvider"])
    (again,) = session.run(None, {"code": encoded.codes[-1:]})
    np.testing.assert_allclose(again[0], encoded.images[-1], atol=1e-5)
    assert np.abs(again[0] - target[-1]).mean() < 0.05
    alone = encode_images(generator, target[3:4], steps=150, lr=0.2)
    np.testing.assert_allclose(alone.codes[0], encoded.codes[3], atol=1e-4)


def test_another_encoder_is_refused(trained: tuple[Trainer, Generator], pair: Pair, tmp_path: Path) -> None:
    facts = encoder_facts(trained[1])
    assert facts is not None
    with pytest.raises(ModelError, match="is not the encoder that the generator was trained for"):
        open_encoder(replace(facts, digest="0" * 64), tmp_path)
    damaged = tmp_path / "gen.onnx"
    damaged.with_suffix(".encoder.npz").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="does not hold the encoder's statistics"):
        encoder_facts(replace(trained[1], path=damaged))


def test_the_command(trained: tuple[Trainer, Generator], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(trained[1].path)
    Image.fromarray(np.uint8(255 * images(1, 40)[0].transpose(1, 2, 0))).save(tmp_path / "photo.png")
    arguments = [
        "encode",
        str(tmp_path / "photo.png"),
        "--generator",
        path,
        "--steps",
        "5",
        "-o",
        str(tmp_path / "c.npz"),
    ]
    assert run([*arguments, "--sheet", str(tmp_path / "sheet.png")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("photo.png: distance 0.")
    with np.load(tmp_path / "c.npz") as file:
        assert file["codes"].shape == (1, SHAPE.code_dim)
        assert list(file["names"]) == ["photo.png"]
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 128
    assert run(["encode", str(tmp_path / "none.png"), "-o", str(tmp_path / "c.npz")]) == 2
    assert "none.png cannot be read" in capsys.readouterr().err


def test_images_of_another_size(pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"images must be \(N, 3, 16, 16\)"):
        encode_images(pair.generator, images(1, 20))
    Image.new("L", (30, 20), 128).save(tmp_path / "grey.png")
    assert read_image(tmp_path / "grey.png", 16).shape == (3, 16, 16)
