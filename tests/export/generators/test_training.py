"""Training: reproducible, resumable, and published without loss."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from export.cards import CARD_KEY
from export.errors import InputError, ModelError
from export.generator import load_generator
from export.generators.architecture import FeatureDiscriminator, GeneratorConfig, HybridGenerator
from export.generators.encoder import Encoder, EncoderLayers
from export.generators.images import Sampler, Source, load
from export.generators.publish import publish
from export.generators.recipe import TrainConfig
from export.generators.train import Trainer
from export.generators.weights import published_weights
from export.models import read_model
from tests.export.pairs import Pair

SHAPE = GeneratorConfig(12, 2, 4, 8, (8, 6, 4))
LAYERS = EncoderLayers("small", "body", "body.1", ("stem.2", "pool", "body.2"), "head")
CONFIG = TrainConfig(steps=6, batch=4, mixed=1, climbed=2, adversarial_from=1, adversarial_ramp=2)


def trainer(
    pair: Pair, images: Path, cache: Path, config: TrainConfig = CONFIG, shape: GeneratorConfig = SHAPE
) -> Trainer:
    sampler = Sampler([Source(images, 1.0, 18)], cache, shape.image_px, seed=3)
    return Trainer(config, shape, sampler, Encoder(pair.network, LAYERS), witness=witness_of(pair))


def witness_of(pair: Pair) -> Encoder:
    """The same network with a wrong idea of what images look like: it sees other classes."""
    witness = Encoder(pair.network, EncoderLayers("witness", None, None, ("pool",), "head"))
    witness._mean = witness._mean - 0.5
    return witness


def weights(t: Trainer) -> list[torch.Tensor]:
    assert t.climbers is not None
    return [*t.generator.parameters(), *t.average.parameters(), *t.judge.parameters(), *t.climbers.state().values()]


@pytest.mark.usefixtures("short_statistics")
def test_interrupted_equals_uninterrupted(pair: Pair, images: Path, tmp_path: Path) -> None:
    whole = trainer(pair, images, tmp_path)
    records = [whole.step() for _ in range(4)]
    assert all(np.isfinite(list(r.values())).all() for r in records)
    first = trainer(pair, images, tmp_path)
    for _ in range(2):
        first.step()
    torch.save(first.state(), tmp_path / "checkpoint.pt")
    second = trainer(pair, images, tmp_path)
    second.restore(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    for _ in range(2):
        second.step()
    assert second.done == whole.done == 4
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(second), strict=True))
    assert not torch.equal(next(first.generator.parameters()), next(whole.generator.parameters()))


@pytest.mark.usefixtures("short_statistics")
def test_what_climbs_moves_and_teaches(pair: Pair, images: Path, tmp_path: Path) -> None:
    """Climbing rows change the weights, the witness's opinion too; without them everything else is as it was."""
    both, alone, unseen = (
        trainer(pair, images, tmp_path, config)
        for config in (CONFIG, replace(CONFIG, climbed=0), replace(CONFIG, agreement=0.0))
    )
    assert both.climbers is not None
    before = both.climbers.code.clone()
    first, second, _ = (t.step() for t in (both, alone, unseen))
    moved = (both.climbers.code != before).any(dim=1)
    assert moved.tolist() == [True] * 2 + [False] * 14
    assert first["agreement"] > 0
    assert first["pixel"] == pytest.approx(second["pixel"], rel=1e-5)
    assert alone.climbers is None
    for t in (both, unseen):
        for _ in range(2):  # the weight of the agreement comes in slowly
            t.step()
    assert not torch.equal(next(both.generator.parameters()), next(unseen.generator.parameters()))


@pytest.mark.usefixtures("short_statistics")
def test_the_witness_alone_sees_from_nearer(pair: Pair, images: Path, tmp_path: Path) -> None:
    """Another opinion of the witness; what the encoder sees stays."""
    config = replace(CONFIG, agreement=1.0)
    still, nearer, again = (
        trainer(pair, images, tmp_path, replace(config, witness_zoom=zoom)) for zoom in (1.0, 2.0, 2.0)
    )
    batch, _ = still._images(0)
    rng = torch.Generator().manual_seed(1)
    assert still.witness is not None
    assert torch.equal(still._witnessed(still.witness, batch, rng).taps[0], still.witness(batch).taps[0])
    first, second, third = (t.step() for t in (still, nearer, again))
    assert second == third
    assert second["agreement"] != pytest.approx(first["agreement"], rel=1e-2)
    for name in first.keys() - {"agreement", "hinge", "adversarial"}:
        assert second[name] == pytest.approx(first[name], rel=0.5), name


@pytest.mark.usefixtures("short_statistics")
def test_a_published_checkpoint_is_the_averaged_generator(pair: Pair, images: Path, tmp_path: Path) -> None:
    t = trainer(pair, images, tmp_path)
    t.step()
    torch.save(t.state(), tmp_path / "checkpoint.pt")
    publish(tmp_path / "checkpoint.pt", tmp_path / "gen.onnx", "random noise", network=pair.network)
    generator = load_generator(tmp_path / "gen.onnx")
    assert (generator.code_dim, generator.image_px) == (SHAPE.code_dim, 16)
    assert json.loads(read_model(generator.path).metadata_props[CARD_KEY])["trained_on"] == "random noise"
    code = generator.prior.mean + 0.5 * np.random.default_rng(0).normal(size=(3, SHAPE.code_dim)).astype(np.float32)
    session = onnxruntime.InferenceSession(generator.path, providers=["CPUExecutionProvider"])
    ours = session.run(None, {"code": code})[0]
    with torch.no_grad():
        theirs = t.average(torch.from_numpy(code)).numpy()
    np.testing.assert_allclose(ours, theirs, atol=3e-3)  # weights are stored as fp16


@pytest.mark.usefixtures("short_statistics")
def test_an_earlier_checkpoint_is_gone_on_from_and_published(pair: Pair, images: Path, tmp_path: Path) -> None:
    """Its statistics told one thing more."""
    t = trainer(pair, images, tmp_path)
    t.step()
    state = t.state()
    state["statistics"]["rectified"] = True
    torch.save(state, tmp_path / "checkpoint.pt")
    again = trainer(pair, images, tmp_path)
    again.restore(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    assert again.done == 1
    publish(tmp_path / "checkpoint.pt", tmp_path / "gen.onnx", "random noise", network=pair.network)
    assert load_generator(tmp_path / "gen.onnx").code_dim == SHAPE.code_dim


@pytest.mark.usefixtures("short_statistics")
def test_weights_that_are_not_finite_are_not_published(pair: Pair, images: Path, tmp_path: Path) -> None:
    t = trainer(pair, images, tmp_path)
    next(t.average.parameters()).fill_(float("nan"))
    torch.save(t.state(), tmp_path / "checkpoint.pt")
    with pytest.raises(ModelError, match="not finite"):
        publish(tmp_path / "checkpoint.pt", tmp_path / "gen.onnx", "", network=pair.network)


def test_images_from_folders_and_tars_are_the_same(images: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "images.tar", "w") as tar:
        for file in sorted(images.iterdir()):
            tar.add(file, file.name)
    folder, tarred = (
        load(Source(images, 1, 18), tmp_path / "a"),
        load(Source(tmp_path / "images.tar", 1, 18), tmp_path / "a"),
    )
    assert folder.shape == (12, 18, 18, 3)  # the broken file is passed over
    np.testing.assert_array_equal(folder, tarred)


def test_batches_depend_on_seed_and_step_only(images: Path, tmp_path: Path) -> None:
    sampler, other = (Sampler([Source(images, 1, 18)], tmp_path, 16, seed) for seed in (0, 1))
    np.testing.assert_array_equal(sampler.batch(5, 4).images, sampler.batch(5, 4).images)
    assert (sampler.batch(5, 4).images != sampler.batch(6, 4).images).any()
    assert (sampler.batch(5, 4).images != other.batch(5, 4).images).any()
    assert sampler.batch(0, 4).images.shape == (4, 3, 16, 16)


@pytest.mark.usefixtures("short_statistics")
def test_training_starts_from_a_published_generator(pair: Pair, images: Path, tmp_path: Path) -> None:
    first = trainer(pair, images, tmp_path)
    torch.save(first.state(), tmp_path / "checkpoint.pt")
    publish(tmp_path / "checkpoint.pt", tmp_path / "gen.onnx", "random noise", network=pair.network)
    wider = replace(SHAPE, widths=(8, 6, 6))
    second = trainer(pair, images, tmp_path, replace(CONFIG, seed=1), wider)
    taken = second.start_from(published_weights(tmp_path / "gen.onnx"))
    assert "stem.conv1.weight" in taken
    assert "last.conv.weight" not in taken
    old, new = first.generator.state_dict(), second.average.state_dict()
    for name in taken:
        torch.testing.assert_close(new[name], old[name], rtol=1e-3, atol=1e-4)  # weights are stored as fp16


def test_heads_of_the_discriminator_halve_their_maps() -> None:
    """Whatever the side of a map, few scores; one value of a map reaches a score far away."""
    shapes = [(3, 64, 64), (4, 36, 36), (5, 9, 9), (6, 4, 4), (7, 3, 3)]
    judge = FeatureDiscriminator(shapes, width=8)
    maps = [torch.randn(2, *shape, requires_grad=True) for shape in shapes]
    scores = judge(maps)
    assert [tuple(s.shape) for s in scores] == [(2, 1, n, n) for n in (4, 3, 3, 4, 3)]
    (reach,) = torch.autograd.grad(scores[0][0, 0, 1, 1], maps[0])
    rows = reach[0].abs().sum(dim=(0, 2)).nonzero()
    assert int(rows.max() - rows.min()) > 40


def test_the_global_code_alone_puts_nothing_at_one_place_in_every_image() -> None:
    """Without a layout of its own the style says the same everywhere; with one, only what codes differ in."""
    torch.manual_seed(0)
    plain, placed = (HybridGenerator(replace(SHAPE, layout=layout)) for layout in (False, True))
    assert "layout.bias" not in placed.state_dict()
    code = torch.rand(2, SHAPE.code_dim)
    code[:, SHAPE.global_dim :] = 0
    inner = slice(3, 13)  # away from the padding
    for generator, spread_expected in ((plain, False), (placed, True)):
        seen = []
        generator.stem.register_forward_pre_hook(lambda _m, given, seen=seen: seen.append(given[0].detach()))
        image = generator(code).detach()
        assert image.shape[2:] == (16, 16)
        spread = float(seen[0].std(dim=(2, 3)).max())
        assert (spread > 1e-3) is spread_expected
        assert torch.isfinite(image[:, :, inner, inner]).all()


@pytest.mark.parametrize(("side", "base", "grid"), [(96, 6, 4), (96, 6, 6), (64, 4, 4), (224, 7, 4)])
def test_a_spatial_code_coarser_than_the_generator_is_enlarged(side: int, base: int, grid: int) -> None:
    shape = GeneratorConfig.for_image(side, global_dim=12, spatial_dim=2, style_dim=8, grid=grid)
    assert (shape.coarsest, shape.grid, shape.image_px) == (base, grid, side)
    assert shape.code_dim == 12 + 2 * grid**2
    slim = replace(shape, widths=tuple(4 for _ in shape.widths))
    assert HybridGenerator(slim)(torch.rand(1, slim.code_dim)).shape == (1, 3, side, side)


@pytest.mark.usefixtures("short_statistics")
def test_components_of_the_whole_map_stand_for_maps(pair: Pair, images: Path, tmp_path: Path) -> None:
    """As many as there are: decoded, they are the code per position less its means over images and over positions."""
    own, whole = (
        trainer(pair, images, tmp_path, shape=replace(SHAPE, grid=2, base=4, map_dim=map_dim)) for map_dim in (0, 6)
    )
    assert (own.shape.code_dim, whole.shape.code_dim) == (12 + 8, 12 + 6)
    batch, _ = whole._images(0)
    per_place, components = (t._encode(t.encoder(batch))[:, 12:] for t in (own, whole))
    per_place = per_place.reshape(4, 2, 4)
    wanted = (per_place - per_place.mean(dim=2, keepdim=True)).flatten(1)
    decoded = components @ whole.generator.basis
    wanted, decoded = wanted - wanted.mean(dim=0), decoded - decoded.mean(dim=0)
    torch.testing.assert_close(decoded * (wanted.std() / decoded.std()), wanted, rtol=1e-3, atol=1e-3)
    assert torch.equal(whole.average.basis, whole.generator.basis)
    assert "basis" not in dict(whole.generator.named_parameters())  # measured, not learned
    few = trainer(pair, images, tmp_path, shape=replace(SHAPE, grid=2, base=4, map_dim=3))
    spread = torch.cat([few._encode(few.encoder(few._images(i)[0]))[:, 12:] for i in range(40)]).std(dim=0)
    assert ((spread > 0.5) & (spread < 2)).all()
    few.step()
    torch.save(few.state(), tmp_path / "checkpoint.pt")
    few.restore(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    assert few.shape.code_dim == 15


@pytest.mark.parametrize(("make", "message"), [(False, "not found"), (True, "no readable image")])
def test_wrong_images(tmp_path: Path, make: bool, message: str) -> None:
    folder = tmp_path / "none"
    if make:
        folder.mkdir()
    with pytest.raises(InputError, match=message):
        load(Source(folder, 1, 18), tmp_path / "cache")


def test_an_image_does_not_depend_on_its_batch() -> None:
    torch.manual_seed(0)
    generator = HybridGenerator(SHAPE).eval()
    codes = torch.rand(4, SHAPE.code_dim)
    with torch.no_grad():
        torch.testing.assert_close(generator(codes)[2:3], generator(codes[2:3]), rtol=0, atol=1e-6)
