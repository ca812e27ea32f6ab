"""Small contact sheets, as data URIs: of what is being made, and of what is published."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from engine.loop import JobResult
from export.errors import InputError
from pipeline.export_sheet import write_sheet
from pipeline.plan import Plan
from pipeline.sheet import Cell, near_square, png_sheet

SIDE_PX = 720
NUM_UNITS = 64


class Preview:
    """The first pictures that a run makes of the layer it is at."""

    def __init__(self) -> None:
        self.layer = ""
        self._cells: dict[tuple[int, int], Cell] = {}

    def begin(self, layer: str) -> None:
        """Work on a layer begins, or goes on."""
        if layer != self.layer:
            self.layer, self._cells = layer, {}

    def add(self, result: JobResult) -> None:
        """A job of the layer has ended."""
        if len(self._cells) < NUM_UNITS:
            dead = result.status == "dead"
            caption = f"{result.unit}  dead" if dead else f"{result.unit}  {result.activation:.4g}"
            self._cells[result.unit, result.seed] = Cell(None if dead else result.image, caption)

    def to_uri(self) -> str | None:
        """The sheet, by unit and seed; None while nothing has ended."""
        if not self._cells:
            return None
        cells = [cell for _, cell in sorted(self._cells.items(), key=lambda entry: entry[0])]
        return _jpeg_uri(png_sheet(cells, *near_square(len(cells))))


def published_preview(out: Path, plan: Plan) -> tuple[str, str] | None:
    """The last layer of a build's folder that has pictures, and its sheet; None where none has."""
    for layer in reversed(plan.layers):
        with TemporaryDirectory() as folder:
            path = Path(folder) / "sheet.png"
            try:
                write_sheet(out, layer.info.name, [str(unit) for unit in layer.units[:NUM_UNITS]], path)
            except InputError:
                continue  # the results are elsewhere, or have just been pruned
            return layer.info.name, _jpeg_uri(path.read_bytes())
    return None


def _jpeg_uri(png: bytes) -> str:
    with Image.open(io.BytesIO(png)) as sheet:
        image = sheet.convert("RGB")
    image.thumbnail((SIDE_PX, SIDE_PX))
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(sink.getvalue()).decode("ascii")
