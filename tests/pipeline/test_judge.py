"""The judge: is SqueezeNet SqueezeNet, are places counted right, and what is said when something is missing."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn
from torchvision.models import squeezenet1_0

from export.errors import InputError, ModelError
from export.network import resolve_network
from export.squeezenet import FIRES, IMAGE_PX, layer_names, prepared, squeezenet
from pipeline.config import load_config
from pipeline.judge import Verdict, as_seen, built_records, judge, main
from tests.pipeline.models import write_generator, write_network

FEATURES = {2: 3, 3: 4, 4: 5, 5: 7, 6: 8, 7: 9, 8: 10, 9: 12}
"""Fire module -> its place in torchvision's SqueezeNet."""


def weights(classes: int = 1000) -> dict[str, np.ndarray]:
    module = squeezenet1_0(num_classes=classes)
    torch.manual_seed(0)
    made = {"conv1": module.features[0], "conv_final": module.classifier[1]}
    for fire in FIRES:
        for part in ("squeeze", "expand1x1", "expand3x3"):
            made[f"fire{fire}.{part}"] = getattr(module.features[FEATURES[fire]], part)
    arrays = {}
    for name, layer in made.items():
        nn.init.kaiming_normal_(layer.weight)
        nn.init.normal_(layer.bias, std=0.05)
        arrays |= {f"{name}.weight": layer.weight.detach().numpy(), f"{name}.bias": layer.bias.detach().numpy()}
    return arrays


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("judge") / "weights.npz"
    np.savez(path, **weights())
    return path


def png(seed: int, side: int = 24) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)).save(sink, "PNG")
    return sink.getvalue()


def test_it_is_torchvisions_squeezenet() -> None:
    arrays = weights(10)
    module = squeezenet1_0(num_classes=10).eval()
    module.classifier[1].padding = (1, 1)  # as the weights were trained
    for name in layer_names():
        number = name.split(".")[0].removeprefix("fire")
        layer = {"conv1": module.features[0], "conv_final": module.classifier[1]}.get(name)
        layer = layer or getattr(module.features[FEATURES[int(number)]], name.split(".")[1])
        layer.load_state_dict({k: torch.from_numpy(arrays[f"{name}.{k}"]) for k in ("weight", "bias")})
    image = np.stack([prepared(as_seen(png(seed))) for seed in range(2)])
    assert image.shape == (2, 3, IMAGE_PX, IMAGE_PX)
    assert image[:, 0].min() >= -104
    session = onnxruntime.InferenceSession(
        ir.to_proto(squeezenet(arrays, 2)).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (ours,) = session.run(None, {"image": image})
    with torch.no_grad():
        theirs = module(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * np.abs(theirs).max())


def test_places_are_counted(weights_file: Path) -> None:
    model = ir.to_proto(squeezenet(dict(np.load(weights_file)), 1)).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    images, expected = [], {}
    for seed in range(10):  # more than a batch
        (scores,) = session.run(None, {"image": prepared(as_seen(png(seed)))[None]})
        place = [0, 3, 4, 5, 700][seed % 5]
        unit = int(np.argsort(-scores[0], kind="stable")[place])
        images.append((unit, seed, png(seed)))
        expected[unit, seed] = int((scores[0] > scores[0][unit]).sum())
    verdict = judge(images, weights_file)
    assert verdict.ranks == expected
    assert Verdict({(0, 0): 0, (1, 0): 4, (2, 0): 5, (3, 0): 0}).share(1) == 0.5
    assert Verdict({(0, 0): 0, (1, 0): 4, (2, 0): 5, (3, 0): 0}).share(5) == 0.75


def test_a_unit_that_is_no_class(weights_file: Path) -> None:
    with pytest.raises(InputError, match="unit 1000 is none of the judge's 1000 classes"):
        judge([(1000, 0, png(0))], weights_file)


def test_the_last_lines_are_the_figures(weights_file: Path, tmp_path: Path) -> None:
    write_network(tmp_path / "network.onnx")
    write_generator(tmp_path / "generator.onnx")
    (tmp_path / "atlas.toml").write_text(
        'name = "judged"\n[network]\nsource = "network.onnx"\n[generator]\nsource = "generator.onnx"\n'
        '[ascent]\nsteps = 5\n[run]\nbatch = 2\nthreads = 1\n[[layers]]\nname = "fc"\nunits = "0:3"\n'
    )
    arguments = [
        "--config",
        str(tmp_path / "atlas.toml"),
        "--weights",
        str(weights_file),
        "--out",
        str(tmp_path / "out"),
    ]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    *_, first, second = result.output.splitlines()
    assert first.startswith("top-1 ")
    assert second.startswith("top-5 ")
    assert first.endswith("%")
    again = CliRunner().invoke(main, arguments).output.splitlines()
    assert again[-2:] == [first, second]


def test_of_several_seeds_the_one_shown_is_judged(tmp_path: Path) -> None:
    write_network(tmp_path / "network.onnx")
    write_generator(tmp_path / "generator.onnx")
    (tmp_path / "atlas.toml").write_text(
        'name = "judged"\n[network]\nsource = "network.onnx"\n[generator]\nsource = "generator.onnx"\n'
        "[ascent]\nsteps = 5\nstart_scale = 1.0\n[run]\nbatch = 2\nthreads = 1\n"
        '[[layers]]\nname = "fc"\nunits = "0:3"\nseeds = 4\n'
    )
    judged = built_records(load_config(str(tmp_path / "atlas.toml")), tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "units.parquet").to_pylist()
    assert len(table) == 12
    highest = {unit: max((r for r in table if r["unit"] == unit), key=lambda r: r["activation"]) for unit in range(3)}
    assert {record.unit: record.seed for record in judged} == {u: r["seed"] for u, r in highest.items()}
    assert any(record.seed for record in judged)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "weights are not part of the project; give SqueezeNet v1.0 .* JUDGE_WEIGHTS=FILE make judge"),
        (["--weights", "none.npz"], r"the judge's weights were not found: none\.npz"),
        (["--weights", __file__], "is not an .npz of SqueezeNet's weights"),
    ],
)
def test_missing_weights(arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_WEIGHTS", raising=False)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    import re

    assert re.search(message, result.output.replace("\n", " "))


def test_the_judged_classes_are_those_of_tiny_imagenet() -> None:
    (layer,) = load_config("judge").layers
    assert isinstance(layer.selection, tuple)
    assert len(set(layer.selection)) == 200
    assert max(layer.selection) < 1000


def test_the_judge_as_a_network_of_any_side(weights_file: Path, tmp_path: Path) -> None:
    network = resolve_network("squeezenet:64", weights=weights_file, cache=tmp_path)
    assert (network.card.input.height, network.card.input.channels) == (64, "BGR")
    assert [layer.name for layer in network.layers] == [*(f"fire{i}" for i in FIRES), "scores"]
    assert network.layer("fire9").shape == (512, 3, 3)
    assert resolve_network("squeezenet:64", weights=weights_file, cache=tmp_path).digest == network.digest
    for source, given in (("squeezenet:64", None), ("squeezenet:big", weights_file), ("squeezenet:16", weights_file)):
        with pytest.raises(ModelError, match=r"squeezenet:PX|48 px or more"):
            resolve_network(source, weights=given, cache=tmp_path)
