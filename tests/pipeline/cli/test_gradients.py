"""``gradient`` and ``check``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from pipeline import cli
from tests.pipeline.commands import call

GRADIENT = ["--of", "fc", "--wrt", "image", "--shape", "image=2x3x16x16"]


def test_gradient_writes_a_model_that_runs(tiny: Path, tmp_path: Path, capsys) -> None:
    path = tmp_path / "deep" / "g.onnx"
    code, out, err = call(capsys, "gradient", tiny.parent / "network.onnx", *GRADIENT, "-o", path)
    assert (code, err) == (0, "")
    summary, last = out.splitlines()
    assert last == str(path)
    forward, gradient, operators = re.match(r"(\d+) forward nodes, (\d+) gradient nodes: (.*)$", summary).groups()
    nodes = onnx.load(path).graph.node
    assert int(forward) + int(gradient) == len(nodes)
    assert int(forward) == 7
    assert {o.split()[0] for o in operators.split(", ")} == {node.op_type for node in nodes}
    assert sum(int(o.split()[1]) for o in operators.split(", ")) == len(nodes)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["image", "cotangent"]
    assert [o.name for o in session.get_outputs()] == ["fc", "d_fc/d_image"]
    image, cotangent = (np.random.default_rng(0).normal(size=s).astype(np.float32) for s in ((2, 3, 16, 16), (2, 5)))
    both = session.run(None, {"image": image, "cotangent": cotangent})
    assert [array.shape for array in both] == [(2, 5), (2, 3, 16, 16)]
    again = [p.name for p in path.parent.iterdir()]
    assert again == ["g.onnx"]


def test_gradient_with_the_cotangent_fixed(tiny: Path, tmp_path: Path, capsys) -> None:
    network = tiny.parent / "network.onnx"
    code, _, err = call(capsys, "gradient", network, *GRADIENT, "--cotangent", "ones", "-o", tmp_path / "g.onnx")
    assert (code, err) == (0, "")
    assert [i.name for i in onnx.load(tmp_path / "g.onnx").graph.input] == ["image"]


def test_gradient_of_external_weights_over_two_gigabytes(tiny: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    model = onnx.load(tiny.parent / "network.onnx")
    onnx.save(model, tmp_path / "big.onnx", save_as_external_data=True, location="big.bin", size_threshold=0)
    call(capsys, "gradient", tiny.parent / "network.onnx", *GRADIENT, "-o", tmp_path / "small.onnx")
    monkeypatch.setattr("pipeline.gradient.MAX_FILE_BYTES", 1000)
    code, _, err = call(capsys, "gradient", tmp_path / "big.onnx", *GRADIENT, "-o", tmp_path / "out" / "g.onnx")
    assert (code, err) == (0, "")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["g.onnx", "g.onnx.data"]
    assert (tmp_path / "out" / "g.onnx").stat().st_size < (tmp_path / "small.onnx").stat().st_size
    feeds = {"image": np.ones((2, 3, 16, 16), np.float32), "cotangent": np.ones((2, 5), np.float32)}
    small, large = (
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feeds)
        for path in (tmp_path / "small.onnx", tmp_path / "out" / "g.onnx")
    )
    np.testing.assert_array_equal(small[1], large[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.onnx", "-o", "g.onnx"], "model file not found: missing.onnx"),
        (
            ["NETWORK", "-o", "g.onnx"],
            "input 'image' has free dimensions [N, 3, 16, 16]: fix them, for example with --shape",
        ),
        (
            ["NETWORK", "--shape", "image=1x3xtall", "-o", "g.onnx"],
            "image=1x3xtall is not of the form NAME=1x3x224x224",
        ),
        (["NETWORK", "--shape", "1x3x16x16", "-o", "g.onnx"], "1x3x16x16 is not of the form NAME=1x3x224x224"),
        (["NETWORK", "--shape", "image=1x0", "-o", "g.onnx"], "image=1x0 is not of the form NAME=1x3x224x224"),
        (["NETWORK", "--shape", "image=1x3x16x16", "--of", "fcc", "-o", "g.onnx"], "no tensor 'fcc'; did you mean fc"),
        (["NETWORK", "--shape", "image=1x3x16x16", "-o", "NETWORK/g.onnx"], "g.onnx cannot be written: "),
        (["NETWORK"], "Missing option '-o'"),
        (["NETWORK", "--cotangent", "twos", "-o", "g.onnx"], "'twos' is not one of 'input', 'ones'"),
    ],
)
def test_gradient_refuses(arguments: list[str], message: str, tiny: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = call(
        capsys, "gradient", *(a.replace("NETWORK", str(tiny.parent / "network.onnx")) for a in arguments)
    )
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
    assert not list(tmp_path.rglob("g.onnx*"))


def test_check_json_is_exactly_the_promised_object(tiny: Path, capsys) -> None:
    network = tiny.parent / "network.onnx"
    code, out, err = call(capsys, "check", network, "--layer", "fc", "--unit", "1", "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert list(report) == ["relative_error", "against", "nodes_forward", "nodes_gradient", "compile_s"]
    assert report["against"] == "finite-differences"
    assert report["relative_error"] < 1e-5
    code, out, _ = call(capsys, "check", network, "--layer", "conv1")
    assert [line.split()[0] for line in out.splitlines()] == list(report)


def test_check_of_a_python_network_asks_autograd(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n"
        "from export.sources.torch_export import TorchNetwork, imagenet_input\n"
        "def net():\n"
        "    layers = nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 36, 2)\n"
        "    return TorchNetwork(nn.Sequential(*layers), {'title': 'net', 'input': imagenet_input(8)})\n"
    )
    code, out, err = call(capsys, "check", "python:nets:net", "--layer", "3", "--unit", "1", "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert report["against"] == "autograd"
    assert report["relative_error"] < 1e-6


def test_check_fails_on_a_wrong_gradient(tiny: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("export.check_gradient.ALLOWED", 0.0)
    code, out, err = call(capsys, "check", tiny.parent / "network.onnx", "--layer", "fc", "--json")
    assert code == 1
    assert json.loads(out)["relative_error"] > 0  # what was measured is printed all the same
    assert err.startswith("error: the compiled gradient is off by ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layer", "fcc"], "has no layer 'fcc'; did you mean fc"),
        (["--layer", "fc", "--unit", "5"], "layer 'fc' has units 0 to 4; there is no unit 5"),
        ([], "Missing option '--layer'"),
    ],
)
def test_check_refuses(options: list[str], message: str, tiny: Path, capsys) -> None:
    code, out, err = call(capsys, "check", tiny.parent / "network.onnx", *options)
    assert (code, out) == (2, "")
    assert message in err


def test_check_notes_a_silent_unit(tiny: Path, capsys) -> None:
    code, out, err = call(capsys, "check", tiny.parent / "network.onnx", "--layer", "relu1", "--unit", "5", "--json")
    assert code == 0
    assert json.loads(out)["relative_error"] == 0.0
    assert err == "note: the gradient is zero for 3 images of noise, so this says little\n"


def test_the_readme_names_the_options_that_there_are() -> None:
    section = (Path(__file__).parents[3] / "README.md").read_text().split("## Only the gradient")[1].split("\n## ")[0]
    for name in ("gradient", "check"):
        (line,) = re.findall(rf"^neuron-atlas {name} .*", section, re.MULTILINE)
        known = {option for parameter in cli.cli.commands[name].params for option in parameter.opts}
        used = set(re.findall(r" (--?[a-z]+)", line.split("#")[0]))
        assert used
        assert used <= known
