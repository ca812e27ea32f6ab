"""``engines``, ``layers`` and ``export``."""

from __future__ import annotations

from pathlib import Path

from export.network import load_network
from tests.pipeline.commands import call
from tests.pipeline.models import LABELS


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


def test_export_writes_a_network_that_can_be_read_back(tiny: Path, tmp_path: Path, capsys) -> None:
    code, _, err = call(capsys, "export", tiny.parent / "network.onnx", "-o", tmp_path / "deep" / "copy.onnx")
    assert (code, err) == (0, "")
    assert load_network(tmp_path / "deep" / "copy.onnx").labels == LABELS
