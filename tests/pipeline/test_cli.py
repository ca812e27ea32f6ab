"""The command line: outputs others rely on, exit codes, one sentence per error."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from export.network import load_network
from pipeline import build as building
from pipeline import cli
from pipeline import worker as working
from tests.pipeline import commands
from tests.pipeline.models import LABELS, write_generator, write_network, write_tiny

UNSUPPORTED = ["Acosh", "Asinh", "Atanh"]


@pytest.fixture
def refuse_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if a job is run or an engine built."""

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("work was done")

    monkeypatch.setattr(building, "make_shard", refuse)
    monkeypatch.setattr(working, "run_jobs", refuse)


def call(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """Run a command line in this process: exit code, stdout, stderr."""
    code = cli.run([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_build_prints_the_page_last_and_a_second_build_has_nothing_to_do(tiny: Path, tmp_path: Path, capsys) -> None:
    out_folder = tmp_path / "out"
    code, out, err = call(
        capsys, "build", tiny, "--out", out_folder, "--layers", "fc", "--units", "0:2", "--seeds", "1"
    )
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == str(out_folder / "site" / "index.html")
    assert out.splitlines()[0] == "2 of 2 jobs to run in 1 shards"
    code, out, err = call(
        capsys, "build", tiny, "--out", out_folder, "--layers", "fc", "--units", "0:2", "--seeds", "1"
    )
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "nothing to do: 2 of 2 jobs are already in the store",
        "the site is up to date",
        str(out_folder / "site" / "index.html"),
    ]


def test_the_default_out_is_build_name(tiny: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = call(capsys, "build", tiny, "--layers", "fc", "--units", "1")
    assert code == 0
    assert out.splitlines()[-1] == "build/tiny/site/index.html"
    assert (tmp_path / "build" / "tiny" / "units.parquet").is_file()


def test_plan_json_is_exactly_the_promised_object(tiny: Path, tmp_path: Path, capsys) -> None:
    code, out, err = call(capsys, "plan", tiny, "--json", "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    prediction = facts.pop("prediction")
    assert set(prediction) == {"duration_s", "memory_bytes", "store_bytes", "site_bytes", "basis"}
    assert prediction["basis"] == "arithmetic"
    assert facts == {
        "jobs": 16,
        "done": 0,
        "todo": 16,
        "layers": {"relu1": {"jobs": 6, "done": 0, "todo": 6}, "fc": {"jobs": 10, "done": 0, "todo": 10}},
    }
    assert call(capsys, "plan", tiny, "--out", tmp_path / "out")[1].splitlines()[-2].split() == [
        "total",
        "16",
        "0",
        "16",
    ]


def test_engines_lists_every_runtime(capsys) -> None:
    code, out, _ = call(capsys, "engines")
    assert code == 0
    assert {line.split()[0] for line in out.splitlines()} >= {"onnxruntime", "openvino"}
    assert all(line.split()[1] in ("yes", "no") for line in out.splitlines())


def test_layers_lists_names_and_shapes(tiny: Path, capsys) -> None:
    code, out, _ = call(capsys, "layers", tiny.parent / "network.onnx")
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["conv1", "6x8x8"],
        ["relu1", "6x8x8"],
        ["conv2", "7x4x4"],
        ["relu2", "7x4x4"],
        ["pool", "7x1x1"],
        ["flat", "7"],
        ["fc", "5"],
    ]


def test_synthesize_writes_a_sheet_with_a_cell_per_unit_and_seed(tiny: Path, tmp_path: Path, capsys) -> None:
    sheet = tmp_path / "sheet.png"
    models = ["--generator", tiny.parent / "generator.onnx", "--steps", "6", "-o", sheet]
    code, out, err = call(
        capsys, "synthesize", tiny.parent / "network.onnx", "fc", "3", "bee", "0:2", "--seeds", 2, *models
    )
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [re.match(r"(\d+ \w+), seed (\d): -?[\d.e+-]+ after 6 steps$", line).groups() for line in lines[:-1]] == [
        (f"{unit} {LABELS[unit]}", str(seed)) for unit in (3, 1, 0) for seed in (0, 1)
    ]
    assert lines[-1] == str(sheet)
    with Image.open(sheet) as image:
        assert image.size == (2 * 132 + 4, 3 * 155 + 4)


def test_export_writes_a_network_that_can_be_read_back(tiny: Path, tmp_path: Path, capsys) -> None:
    code, _, err = call(capsys, "export", tiny.parent / "network.onnx", "-o", tmp_path / "deep" / "copy.onnx")
    assert (code, err) == (0, "")
    assert load_network(tmp_path / "deep" / "copy.onnx").labels == LABELS


def corrupt_network(folder: Path) -> list[str]:
    (folder / "network.onnx").write_bytes(b"\x08\x07 not a model")
    return []


def missing_network(folder: Path) -> list[str]:
    (folder / "network.onnx").unlink()
    return []


def corrupt_generator(folder: Path) -> list[str]:
    path = folder / "generator.onnx"
    path.write_bytes(path.read_bytes()[:-200])
    return []


def missing_codes(folder: Path) -> list[str]:
    (folder / "generator.codes.npz").unlink()
    return []


def unknown_layer(folder: Path) -> list[str]:
    return ["--layers", "reelu1"]


def unit_out_of_range(folder: Path) -> list[str]:
    return ["--units", "0:7"]


def no_rule(folder: Path) -> list[str]:
    write_network(folder / "network.onnx", extra_ops=UNSUPPORTED[:3])
    return []


def generator_that_does_not_fit(folder: Path) -> list[str]:
    write_network(folder / "network.onnx", height=32)
    return []


def crop_of_a_small_image(folder: Path) -> list[str]:
    config, path = folder / "tiny.toml", folder / "network.onnx"
    config.write_text(config.read_text().replace("[ascent]", '[ascent]\nfit = "crop"'))
    model = onnx.load(path)
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_value = 32
    model.metadata_props[0].value = model.metadata_props[0].value.replace(": 16", ": 32")
    onnx.save(model, path)
    return []


def folder_that_cannot_be_made(folder: Path) -> list[str]:
    (folder / "file").write_text("")
    return ["--out", str(folder / "file" / "out")]


def store_that_cannot_be_written(folder: Path) -> list[str]:
    (folder / "results").mkdir()
    (folder / "results" / "store").write_text("a file where a folder should be")
    return ["--out", str(folder / "results")]


def wrong_type(folder: Path) -> list[str]:
    config = folder / "tiny.toml"
    config.write_text(config.read_text().replace("batch = 3", 'batch = "three"'))
    return []


def unknown_runtime(folder: Path) -> list[str]:
    return ["--runtime", "openvin"]


BAD_INPUT = [
    (missing_network, "model file not found: .*network.onnx"),
    (corrupt_network, "network.onnx is not a readable ONNX file"),
    (corrupt_generator, "generator.onnx is not a readable ONNX file"),
    (missing_codes, "code statistics not found: .*generator.codes.npz"),
    (unknown_layer, "has no layer 'reelu1'; did you mean relu1"),
    (unit_out_of_range, "layer relu1 has units 0 to 5; there is no unit 6"),
    (no_rule, f"no vjp rule for {'.*'.join(sorted(UNSUPPORTED[:3]))}"),
    (generator_that_does_not_fit, "the generator's image does not fit"),
    (crop_of_a_small_image, "the generator's image .* does not fit"),
    (folder_that_cannot_be_made, "folder .* cannot be written .*--out"),
    (store_that_cannot_be_written, "the store .* cannot be written .*--out"),
    (wrong_type, "run.batch: 'three' is wrong; expected a whole number"),
    (unknown_runtime, "there is no runtime 'openvin'; did you mean openvino"),
]


@pytest.mark.usefixtures("refuse_work")
@pytest.mark.parametrize(("spoil", "message"), BAD_INPUT, ids=[spoil.__name__ for spoil, _ in BAD_INPUT])
def test_bad_input_is_exit_code_2_before_any_work(tiny: Path, tmp_path: Path, spoil, message: str, capsys) -> None:
    options = spoil(tiny.parent)
    code, out, err = call(capsys, "build", tiny, "--out", tmp_path / "out", *options)
    assert code == 2, err
    assert re.search(message, err, re.DOTALL), err
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert out == ""
    assert list(tmp_path.rglob("*.parquet")) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build"], "Missing argument 'CONFIG'"),
        (["build", "nosuch"], "configuration not found: nosuch"),
        (["build", "lite0", "--seeds", "0"], "Invalid value for '--seeds'"),
        (["biuld"], "No such command 'biuld'"),
        (["layers", "nosuch.onnx"], "model file not found: nosuch.onnx"),
        (["layers", "tochvision:x"], "unknown network 'tochvision:x'"),
        (["synthesize", "nosuch.onnx", "fc", "0", "-o", "x.png"], "model file not found"),
        (["synthesize", "nosuch.onnx", "fc", "-o", "x.png"], "Missing argument 'UNITS...'"),
        (["export", "bundled:nosuch", "-o", "x.onnx"], "there is no bundled network 'nosuch'"),
    ],
)
def test_wrong_command_lines_are_exit_code_2(arguments: list[str], message: str, capsys) -> None:
    code, out, err = call(capsys, *arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert out == ""


def test_an_unforeseen_error_keeps_its_traceback(tiny: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("boom")

    monkeypatch.setattr(building, "make_shard", fail)
    code, _, err = call(capsys, "build", tiny, "--out", tmp_path / "out")
    assert code == 1
    assert "Traceback" in err
    assert "ZeroDivisionError: boom" in err


def test_interrupting_is_clean_and_the_build_can_be_resumed(tmp_path: Path) -> None:
    config = write_tiny(tmp_path / "models", steps=4000, shard_size=1)
    with commands.start("build", config, "--out", tmp_path / "out") as process:
        deadline = time.monotonic() + 60
        while not list((tmp_path / "out").rglob("0*.json")) and time.monotonic() < deadline:
            time.sleep(0.02)
        for _ in range(5):  # a person presses again: Python drops an interrupt that falls into a destructor
            process.send_signal(signal.SIGINT)
            try:
                _, err = process.communicate(timeout=2)
                break
            except subprocess.TimeoutExpired:
                continue
    assert process.returncode == 130
    assert err.strip() == "interrupted; run the same command again to resume"
    assert list((tmp_path / "out").rglob("*.tmp")) == []


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from pipeline import cli; cli.run(['--help']);"
        "heavy = {'prefect', 'onnx', 'onnx_ir', 'numpy', 'pyarrow', 'torch', 'pydantic', 'rich'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    times = []
    for _ in range(3):
        start = time.monotonic()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        times.append(time.monotonic() - start)
        assert done.returncode == 0, done.stderr
    assert min(times) < 0.6


def test_a_build_imports_neither_prefect_nor_torch(tiny: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pipeline import cli; code = cli.run(sys.argv[1:]);"
        "heavy = {'prefect', 'torch', 'fastapi'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    arguments = ["build", str(tiny), "--out", str(tmp_path / "out"), "--layers", "fc", "--units", "0"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_command_says_what_it_does() -> None:
    for name, command in cli.cli.commands.items():
        assert command.help, name
        for parameter in command.params:
            assert isinstance(parameter, click.Argument) or parameter.help, (name, parameter.name)


def test_a_generator_that_is_a_network_is_refused(tiny: Path, tmp_path: Path, capsys) -> None:
    write_generator(tmp_path / "other.onnx")
    os.replace(tiny.parent / "network.onnx", tiny.parent / "generator.onnx")
    write_network(tiny.parent / "network.onnx")
    code, _, err = call(capsys, "plan", tiny, "--out", tmp_path / "out")
    assert code == 2
    assert "codes of 8" in err


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
    section = (Path(__file__).parents[2] / "README.md").read_text().split("## Only the gradient")[1].split("\n## ")[0]
    for name in ("gradient", "check"):
        (line,) = re.findall(rf"^neuron-atlas {name} .*", section, re.MULTILINE)
        known = {option for parameter in cli.cli.commands[name].params for option in parameter.opts}
        used = set(re.findall(r" (--?[a-z]+)", line.split("#")[0]))
        assert used
        assert used <= known
