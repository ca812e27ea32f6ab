"""A whole training, as the command runs it: from images to a generator that opens."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from export.errors import InputError, ModelError
from export.generator import load_generator
from export.generators import train
from export.generators.checkpoint import read_checkpoint
from export.generators.encoder import Encoder, choose_layers
from export.generators.recipe import TrainConfig
from export.generators.run import TrainOptions, make_trainer, parse_source, train_generator
from export.generators.statistics import CodeStatistics
from export.generators.weights import published_weights
from export.models import digest_of
from export.network import Network, load_network
from export.sources.torch_export import to_onnx
from tests.export.pairs import Pair, SmallNet, save

pytestmark = pytest.mark.usefixtures("short_statistics")
CONFIG = TrainConfig(steps=4, batch=4, mixed=1, climbed=2, adversarial_from=1, adversarial_ramp=2)


def options(folder: Path, out: Path, steps: int = 4, **changed: object) -> TrainOptions:
    asked = TrainOptions(
        "small",
        (f"{folder}:1:18",),
        out,
        replace(CONFIG, steps=steps),
        image_px=16,
        spatial_dim=2,
        style_dim=8,
        every=2,
    )
    return replace(asked, **changed)  # type: ignore[arg-type]


@pytest.mark.parametrize("changed", [{"code": "global"}, {"code": "spatial"}, {}, {"map_dim": 3}])
def test_codes_mean_the_same_to_a_training_that_starts_from_another(
    pair: Pair, images: Path, tmp_path: Path, changed: dict[str, object]
) -> None:
    """Statistics are taken over where the codes are alike, and images of codes are what they were; else measured."""
    made = train_generator(options(images, tmp_path / "first", 2, **changed), pair.network, lambda line: None)
    lines: list[str] = []
    config = replace(CONFIG, seed=5)  # other draws: statistics measured on them would differ
    after = options(images, tmp_path / "second", start_from=made, **changed)
    second = make_trainer(replace(after, config=config), pair.network, lines.append)
    assert lines[0] == f"what codes mean: those of {made}"
    first = CodeStatistics(**read_checkpoint(tmp_path / "first" / "checkpoint.pt")["statistics"])
    for name, value in vars(first).items():
        kept = getattr(second.statistics, name)
        if name == "candidates" or value is None:
            assert kept is None
        else:
            torch.testing.assert_close(kept, value, atol=2e-3, rtol=2e-3)  # the basis is stored as fp16
    generator = load_generator(made)
    code = generator.prior.constrain(np.random.default_rng(0).normal(size=(2, generator.code_dim)).astype(np.float32))
    session = onnxruntime.InferenceSession(made, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        drawn = second.generator(torch.from_numpy(code)).numpy()
    np.testing.assert_allclose(drawn, session.run(None, {"code": code})[0], atol=3e-3)
    other = options(images, tmp_path / "third", start_from=made, spatial_dim=3)
    make_trainer(other, pair.network, lines.append)
    assert f"what codes mean: measured anew, unlike those of {made}" in lines


def test_what_training_started_from_has_a_share(pair: Pair, images: Path, tmp_path: Path) -> None:
    """The mean of both weights is published, and the card says so; where codes or shapes differ it is refused early."""
    say: list[str] = []
    first = train_generator(options(images, tmp_path / "first", 2, map_dim=3), pair.network, say.append)
    quick = replace(CONFIG, steps=2, lr=0.05)
    asked = options(images, tmp_path / "second", map_dim=3, start_from=first, start_share=0.25, config=quick)
    second = train_generator(asked, pair.network, say.append)
    old, new = published_weights(first), published_weights(second)
    trained = read_checkpoint(tmp_path / "second" / "checkpoint.pt")["average"]
    assert any(not torch.allclose(old[name].float(), w, atol=1e-3) for name, w in trained.items())
    for name, w in trained.items():
        torch.testing.assert_close(new[name].float(), 0.75 * w + 0.25 * old[name].float(), rtol=2e-3, atol=1e-3)
    card = load_generator(second).card.model_dump()
    assert card["averaged_with"] == {"digest": digest_of(first), "share": 0.25}
    assert "averaged_with" not in load_generator(first).card.model_dump()
    for changed, out in (({"map_dim": 2}, "other"), ({"map_dim": 3, "style_dim": 12}, "wider")):
        wrong = options(images, tmp_path / out, start_from=first, start_share=0.5, **changed)
        with pytest.raises(InputError, match="cannot have a share: its codes or its shape are others"):
            make_trainer(wrong, pair.network)
    with pytest.raises(InputError, match="give both, or neither"):
        make_trainer(options(images, tmp_path / "none", start_share=0.5), pair.network)


@pytest.mark.parametrize(("code", "code_dim"), [("global", 12), ("spatial", 2 * 16), ("hybrid", 12 + 2 * 16)])
def test_a_training_leaves_a_generator_that_opens(
    pair: Pair, images: Path, tmp_path: Path, code: str, code_dim: int
) -> None:
    lines: list[str] = []
    asked = options(images, tmp_path / "run", code=code, trained_on="noise, no terms", title="Noise")
    made = train_generator(asked, pair.network, lines.append)
    generator = load_generator(made)
    assert (generator.code_dim, generator.image_px) == (code_dim, 16)
    card = generator.card.model_dump()
    assert (card["title"], card["trained_on"], card["training_steps"]) == ("Noise", "noise, no terms", 4)
    assert card["encoder_layers"]["digest"] == pair.network.digest
    assert card["training_images_seen"] == 16
    assert generator.candidates is not None
    assert 1 <= len(generator.candidates) <= 6
    assert [p.name for p in sorted((tmp_path / "run" / "samples").iterdir())] == ["000002.png", "000004.png"]
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in log] == [2, 4]
    assert sum(line.startswith("step ") for line in lines) == 2
    with np.load(made.with_suffix(".encoder.npz")) as arrays:
        assert ("whitening" in arrays) == (code != "global")
        assert ("global_std" in arrays) == (code != "spatial")


def test_interrupted_or_not_it_is_the_same_to_the_byte(pair: Pair, images: Path, tmp_path: Path) -> None:
    steps = 8
    whole = train_generator(options(images, tmp_path / "whole", steps=steps), pair.network, lambda _: None)

    def interrupt(line: str) -> None:
        if line.startswith("step 4/"):
            os.kill(os.getpid(), signal.SIGINT)

    parts = options(images, tmp_path / "parts", steps=steps)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train_generator(parts, pair.network, interrupt)
    assert signal.getsignal(signal.SIGINT) is before
    assert read_checkpoint(tmp_path / "parts" / "checkpoint.pt")["done"] in (4, 5)
    lines: list[str] = []
    made = train_generator(parts, pair.network, lines.append)
    assert any(line.startswith("going on from step") for line in lines)
    for suffix in (".onnx", ".codes.npz", ".encoder.npz"):
        assert made.with_suffix(suffix).read_bytes() == whole.with_suffix(suffix).read_bytes(), suffix


def test_a_checkpoint_of_another_training_is_refused(pair: Pair, images: Path, tmp_path: Path) -> None:
    asked = options(images, tmp_path, steps=1)
    trainer = make_trainer(asked, pair.network)
    trainer.step()
    torch.save(trainer.state(), tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match="another training: spatial_dim 2 is now 3; give another --out"):
        train_generator(replace(asked, spatial_dim=3), pair.network, lambda _: None)
    lines: list[str] = []
    train_generator(replace(asked, config=replace(asked.config, lr=1e-4)), pair.network, lines.append)
    assert "note: lr was 0.0005, is now 0.0001" in lines
    (tmp_path / "checkpoint.pt").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="is not a checkpoint"):
        train_generator(asked, pair.network, lambda _: None)


def test_weights_that_went_astray_stop_the_training(pair: Pair, images: Path, tmp_path: Path) -> None:
    trainer = make_trainer(options(images, tmp_path), pair.network)
    with torch.no_grad():
        next(trainer.generator.parameters()).fill_(float("nan"))
    with pytest.raises(ModelError, match=r"training step 1: the pixel loss is not finite; .* lower --lr"):
        trainer.step()


def test_bf16_trains(pair: Pair, images: Path, tmp_path: Path) -> None:
    asked = options(images, tmp_path, steps=2)
    trainer = make_trainer(replace(asked, config=replace(asked.config, precision="bf16")), pair.network)
    plain = make_trainer(asked, pair.network)
    ours, theirs = trainer.step(), plain.step()
    assert ours["pixel"] == pytest.approx(theirs["pixel"], rel=0.05)
    assert ours["pixel"] != theirs["pixel"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image_px": 17}, "no generator gives 17 px"),
        ({"spatial_dim": 99}, "--spatial-dim 99 is more than the 12 channels"),
        ({"code": "global", "spatial_layer": "pool"}, "a global code has no layer pool"),
        ({"spatial_layer": "head"}, "layer head is a vector, not a map"),
        ({"spatial_layer": "pol"}, "has no layer 'pol'; did you mean pool"),
        ({"taps": ("head",)}, "taps are maps"),
        ({"images": ("nowhere",)}, "training images not found"),
        ({"device": "cuda"}, "PyTorch finds no device 'cuda' here"),
        ({"config": replace(CONFIG, batch=1)}, "a batch of 1 cannot hold 1 blended"),
        ({"config": replace(CONFIG, climbed=5)}, "5 climbing rows are more than the 4 images"),
        ({"map_dim": 6, "code": "global"}, "--map-dim is of a spatial code"),
        ({"witness": "own", "config": replace(CONFIG, mixed=0, climbed=0)}, "the witness has nothing to look at"),
        ({"witness": "own", "witness_taps": ("head",)}, "layer head of the witness is a vector"),
        ({"witness": "own", "witness_taps": ("pol",)}, "did you mean pool"),
        ({"witness": "classless"}, "must both end in a vector"),
        ({"witness": "others"}, "the witness has 3 classes and the encoder"),
        ({"map_dim": 99}, "99 spatial components are more than the 32 there are"),
        (
            {"code": "spatial", "spatial_layer": "stem.0", "spatial_dim": 8, "images": "few"},
            "span fewer than 8 components",
        ),
    ],
)
def test_wrong_options(pair: Pair, images: Path, tmp_path: Path, changed: dict[str, object], message: str) -> None:
    if torch.cuda.is_available() and "device" in changed:
        pytest.skip("there is a GPU")
    if changed.get("images") == "few":  # one flat image: no component varies
        from PIL import Image

        (tmp_path / "few").mkdir()
        Image.new("RGB", (18, 18), "teal").save(tmp_path / "few" / "a.png")
        changed = changed | {"images": (str(tmp_path / "few"),), "image_px": 20, "spatial_layer": "body.2"}
    if "witness" in changed:
        changed = changed | {"witness": witness(pair, str(changed["witness"]), tmp_path)}
    with pytest.raises((InputError, ModelError), match=message):
        make_trainer(options(images, tmp_path / "run", **changed), pair.network)


def witness(pair: Pair, kind: str, folder: Path) -> Network:
    """The encoder itself, or a network like it with three classes (``others``) or with none."""
    if kind == "own":
        return pair.network
    module = SmallNet().eval()
    module.head = torch.nn.Linear(12, 3)
    if kind == "classless":
        module = torch.nn.Sequential(module.stem, module.pool, module.body).eval()
    model = to_onnx(module, torch.zeros(1, 3, 20, 20), "image")
    return load_network(save(model, pair.network.card.model_dump(), folder / "witness.onnx"))


def test_a_resumed_training_measures_no_statistics(
    pair: Pair, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = options(images, tmp_path, steps=1)
    first = make_trainer(asked, pair.network)
    torch.save(first.state(), tmp_path / "checkpoint.pt")
    monkeypatch.setattr(train, "measure_statistics", lambda *_: pytest.fail("measured again"))
    second = make_trainer(asked, pair.network)
    for name, value in vars(first.statistics).items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, getattr(second.statistics, name)), name
    assert all(torch.equal(a, b) for a, b in zip(first.scales, second.scales, strict=True))


def test_the_discriminator_sees_the_witness(pair: Pair, images: Path, tmp_path: Path) -> None:
    """Its taps are looked at after the encoder's; a checkpoint of another discriminator is refused in a sentence."""
    alone = make_trainer(options(images, tmp_path, witness=pair.network), pair.network)
    asked = options(images, tmp_path, witness=pair.network, witness_taps=("pool", "stem.2"))
    trainer = make_trainer(asked, pair.network)
    assert len(trainer.judge.heads) == len(alone.judge.heads) + 2
    before = [p.detach().clone() for p in trainer.judge.heads[-1].parameters()]
    trainer.step()
    changed = [not torch.equal(a, b) for a, b in zip(before, trainer.judge.heads[-1].parameters(), strict=True)]
    assert sum(changed) >= len(changed) - 1  # at first the hinge says nothing about the last bias
    torch.save(alone.state(), tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match="discriminator looks at other maps"):
        train_generator(asked, pair.network, lambda _: None)


def test_layers_are_chosen_where_none_are_named(pair: Pair) -> None:
    layers = choose_layers(pair.network, "small", "hybrid")
    assert layers.spatial_layer == "body.2"
    assert layers.global_layer == "body.2"  # SmallNet has no vector before its classes
    assert layers.taps == ("stem.2", "pool", "body.2")
    assert choose_layers(pair.network, "small", "global").spatial_layer is None


def test_the_encoder_is_the_network(pair: Pair) -> None:
    """Features by hooks on the PyTorch module, images prepared by hand."""
    layers = choose_layers(pair.network, "small", "hybrid")
    images = torch.rand(3, 3, 20, 20)
    kept: dict[str, torch.Tensor] = {}
    for name in layers.taps:
        module = pair.module.get_submodule(name)
        module.register_forward_hook(lambda _m, _i, out, name=name: kept.update({name: out}))
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3)))
    with torch.no_grad():
        pair.module((images - mean) / std)
        features = Encoder(pair.network, layers)(images)
    for name, tap in zip(layers.taps, features.taps, strict=True):
        torch.testing.assert_close(tap, kept[name], rtol=1e-4, atol=1e-5)
    assert features.pooled is not None
    torch.testing.assert_close(features.pooled, kept["body.2"].mean(dim=(2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.tar", ("a.tar", 1.0, 64)),
        ("a:0.5", ("a", 0.5, 64)),
        ("c:d:2:32", ("c:d", 2.0, 32)),
        ("a:3:128", ("a", 3.0, 128)),
    ],
)
def test_images_on_the_command_line(text: str, expected: tuple[str, float, int]) -> None:
    source = parse_source(text, 64)
    assert (str(source.path), source.weight, source.stored_px) == expected
    with pytest.raises(InputError, match="must be above 0"):
        parse_source("a:0:64", 64)
