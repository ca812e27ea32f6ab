"""Bad input: one sentence, exit code 2, before any work."""

from __future__ import annotations

import os
import re
from pathlib import Path

import onnx
import pytest

from pipeline import build as building
from pipeline import worker as working
from tests.pipeline.commands import call
from tests.pipeline.models import write_generator, write_network

UNSUPPORTED = ["Acosh", "Asinh", "Atanh"]


@pytest.fixture
def refuse_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if a job is run or an engine built."""

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("work was done")

    monkeypatch.setattr(building, "make_shard", refuse)
    monkeypatch.setattr(working, "run_jobs", refuse)


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


def test_a_generator_that_is_a_network_is_refused(tiny: Path, tmp_path: Path, capsys) -> None:
    write_generator(tmp_path / "other.onnx")
    os.replace(tiny.parent / "network.onnx", tiny.parent / "generator.onnx")
    write_network(tiny.parent / "network.onnx")
    code, _, err = call(capsys, "plan", tiny, "--out", tmp_path / "out")
    assert code == 2
    assert "codes of 8" in err
