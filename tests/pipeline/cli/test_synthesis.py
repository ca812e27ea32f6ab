"""``synthesize``: a sheet of a few units."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

from tests.pipeline.commands import call
from tests.pipeline.models import LABELS


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
