"""The command ``synthesize``: units and mixtures as text in; a contact sheet, an animation, numbers out."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from export.errors import InputError
from export.network import LayerInfo
from pipeline.control import Control, Made, Mixture, between, run_control
from pipeline.sheet import Cell, png_sheet
from pipeline.temporary import replace_file
from pipeline.units import parse_units_option, select_units
from pipeline.workspace import network_of

FRAME_MS = 120
CELL_PX = 128
"""Least side of an image on the sheet; smaller ones are enlarged."""
COLUMNS = 8
"""Images in a row of a sheet with one seed per unit."""


def parse_mixture(text: str, layer: LayerInfo, labels: Sequence[str] | None) -> Mixture:
    """Read ``207=1; golden retriever=-0.5``: numbers or names of units, each with a weight, 1 when there is none.

    Raises:
        InputError: it has another form, or names a unit that there is not.
    """
    found: dict[int, float] = {}
    for part in text.split(";"):
        name, _, number = part.partition("=")
        units = select_units(parse_units_option(name), layer.name, layer.num_units, labels)
        try:
            weight = float(number) if number.strip() else 1.0
        except ValueError:
            raise InputError(f"--mix {text!r}: {number!r} is no weight; write UNIT=WEIGHT; UNIT=WEIGHT") from None
        if not np.isfinite(weight) or weight == 0:
            raise InputError(f"--mix {text!r}: a weight must be finite and not 0")
        found |= dict.fromkeys(units, weight)
    return Mixture(tuple(found.items()))


def synthesize(
    network: str,
    layer: str,
    units: Sequence[str],
    outputs: Sequence[Path],
    *,
    mixes: Sequence[str] = (),
    ends: tuple[str, str] | None = None,
    frames: int = 9,
    **settings: Any,
) -> Iterator[str]:
    """The command: units and mixtures as text; yields a line per picture, then writes the outputs.

    Args:
        network: as in a configuration.
        layer: a layer of it.
        units: numbers, ranges or class names; a picture each.
        outputs: files to write, see :func:`write_outputs`.
        mixes: see :func:`parse_mixture`; a picture each.
        ends: two units between which to go in ``frames`` pictures.
        frames: pictures between ``ends``.
        settings: other fields of :class:`Control`.

    Raises:
        InputError: what was asked for is wrong.
        EngineError: the runtime failed.
    """
    check_outputs(outputs)
    opened = network_of(network, settings.get("weights"))
    info = opened.layer(layer)
    names = opened.labels if opened.labels and info.shape == (len(opened.labels),) else None

    def chosen(text: str) -> tuple[int, ...]:
        return select_units(parse_units_option(text), info.name, info.num_units, names)

    single = dict.fromkeys(unit for text in units for unit in chosen(text))  # in the order given, each once
    mixtures = [Mixture(((unit, 1.0),)) for unit in single]
    mixtures += [parse_mixture(text, info, names) for text in mixes]
    if ends is not None:
        first, last = (chosen(text)[0] for text in ends)
        mixtures += between(first, last, frames)
    control = Control(network, layer, tuple(mixtures), same_start=ends is not None, **settings)
    made = run_control(control)
    titles = [_title(one.mixture, names) for one in made]
    for one, title in zip(made, titles, strict=True):
        value = "dead" if one.status == "dead" else f"{one.objective:.4g}"
        before = "" if one.target == layer else " (before the activation)"
        yield f"{title}, seed {one.seed}: {value}{before} after {one.steps} steps"
    write_outputs(made, outputs, control.seeds, titles)


def _title(mixture: Mixture, names: Sequence[str] | None) -> str:
    (unit, weight), *others = mixture.weights
    if others or weight != 1:
        return str(mixture)
    return f"{unit} {names[unit]}" if names else f"unit {unit}"


def write_outputs(made: Sequence[Made], outputs: Sequence[Path], seeds: int, names: Sequence[str]) -> None:
    """Write what was made: ``.png`` a contact sheet, ``.webp`` an animation in order, ``.json`` numbers and codes.

    Raises:
        InputError: another suffix.
        StoreError: a file cannot be written.
    """
    check_outputs(outputs)
    for output in outputs:
        if output.suffix == ".json":
            replace_file(output, (json.dumps([one.to_dict() for one in made], indent=1) + "\n").encode())
        elif output.suffix == ".webp":
            replace_file(output, animation([one.image for one in made]))
        else:
            values = ["dead" if one.status == "dead" else f"{one.objective:.4g}" for one in made]
            cells = [Cell(one.image, f"{v}  {name}") for one, v, name in zip(made, values, names, strict=True)]
            largest = max(one.image.shape[0] for one in made)
            columns = seeds if seeds > 1 else min(COLUMNS, len(cells))
            replace_file(output, png_sheet(cells, columns, max(CELL_PX, largest)))


def check_outputs(outputs: Sequence[Path]) -> None:
    """Raises InputError unless every output has a suffix that can be written."""
    for output in outputs:
        if output.suffix not in (".png", ".webp", ".json"):
            raise InputError(f"{output} cannot be written; give a .png (sheet), .webp (animation) or .json (numbers)")


def animation(images: Sequence[npt.NDArray[np.uint8]]) -> bytes:
    """The pictures forth and back, as an animated WebP."""
    scale = max(1, -(-CELL_PX // images[0].shape[1]))
    size = (images[0].shape[1] * scale, images[0].shape[0] * scale)
    frames = [Image.fromarray(image).resize(size, Image.Resampling.BICUBIC) for image in [*images, *images[-2:0:-1]]]
    sink = io.BytesIO()
    frames[0].save(
        sink, "WEBP", save_all=True, append_images=frames[1:], duration=FRAME_MS, loop=0, quality=90, method=4
    )
    return sink.getvalue()
