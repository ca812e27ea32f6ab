"""Writing one layer's folder: pictures in threads (Pillow works beside Python), pages and data meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future
from pathlib import Path

from markupsafe import Markup
from PIL import Image

from export.errors import AtlasError
from pipeline.site import charts, data
from pipeline.site.gallery import Unit
from pipeline.site.model import Layer
from pipeline.site.pages.layer import layer as layer_context
from pipeline.site.pages.shared import LayerPage
from pipeline.site.pages.unit import unit as unit_context
from pipeline.site.paths import film_name, image_name, negative_name
from pipeline.site.pictures import decode, gallery_picture, shows_crop, to_webp
from pipeline.site.render import Render
from pipeline.site.sprites import NUM_TASTE, Grid, grid_for, sprite, sprite_name, strip

PART = 64
"""Units whose pictures a thread holds in memory at once."""

Thumbnails = dict[int, Image.Image]
"""Unit -> what galleries show of its best result."""


def write_layer(page: LayerPage, folder: Path, render: Render, pool: Executor) -> None:
    """Write everything of a layer.

    Args:
        page: the layer and what surrounds it.
        folder: to be made.
        render: templates.
        pool: for pictures.

    Raises:
        AtlasError: an image is not a PNG, or is missing.
        StoreError: pictures cannot be read.
    """
    gallery = page.gallery
    (folder / "img").mkdir(parents=True)
    (folder / "grid").mkdir()
    grid = grid_for(len(gallery.units))
    parts = [gallery.units[start : start + PART] for start in range(0, len(gallery.units), PART)]
    taste = {unit.unit for unit in gallery.taste(NUM_TASTE)}
    pending = [pool.submit(_write_pictures, page, part, folder) for part in parts]
    try:
        _write_pages(page, folder, render)
        _write_sprites(page, pending, grid, taste, folder, pool)
    finally:
        for future in pending:
            future.cancel()


def write_new(path: Path, content: bytes) -> None:
    """Write a file that is not there yet."""
    with open(path, "xb") as file:
        file.write(content)


def _write_pages(page: LayerPage, folder: Path, render: Render) -> None:
    gallery, numbers = page.gallery, page.numbers
    write_new(folder / "layer.json", data.to_json(data.layer_facts(numbers)))
    write_new(folder / "data.js", data.layer_script(numbers))
    write_new(folder / "index.html", render("layer.html", layer_context(page)))
    histograms: dict[bool, tuple[charts.Histogram | None, Markup]] = {}
    for index, unit in enumerate(gallery.units):
        if unit.pre_activation not in histograms:
            histogram = charts.histogram(gallery.compared(unit))
            ground = render("_histogram.html", {"histogram": histogram}).decode() if histogram else ""
            histograms[unit.pre_activation] = histogram, Markup(ground)
        context = unit_context(page, index, *histograms[unit.pre_activation])
        write_new(folder / f"{unit.unit}.html", render("unit.html", context))
        write_new(folder / f"{unit.unit}.json", data.to_json(data.unit_facts(numbers, unit)))


def _write_pictures(page: LayerPage, units: Sequence[Unit], folder: Path) -> Thumbnails:
    """The pictures of some units; returns those of the gallery."""
    layer, small = page.layer, shows_crop(page.layer)
    cell_px = grid_for(len(page.gallery.units)).cell_px
    wanted = {(unit.unit, result.seed) for unit in units for result in unit.results if result.status == "done"}
    best = {(unit.unit, unit.best.seed) for unit in units if unit.best}
    thumbnails: Thumbnails = {}
    filmed = {(unit.unit, result.seed) for unit in units for result in unit.results if result.film_steps}
    for drawn in layer.pictures.read([unit.unit for unit in units]):
        number, seed = drawn.unit, drawn.seed
        if (number, seed) not in wanted:
            continue
        wanted.discard((number, seed))
        if (number, seed) in filmed:
            write_new(folder / film_name(number, seed), drawn.film)
        image = decode(layer, number, seed, drawn.image)
        write_new(folder / image_name(number, seed), to_webp(image))
        part = gallery_picture(layer, image)
        if small:
            write_new(folder / image_name(number, seed, crop=True), to_webp(part))
        if (number, seed) in best:
            thumbnails[number] = part.resize(_fitting(part.size, cell_px), Image.Resampling.HAMMING)
    if wanted:
        number, seed = min(wanted)
        raise AtlasError(f"the image of unit {number}, seed {seed} of layer {layer.name} is missing; build again")
    _write_negatives(layer, [unit.unit for unit in units if unit.negative], folder)
    return thumbnails


def _write_negatives(layer: Layer, units: Sequence[int], folder: Path) -> None:
    """The pictures that lower some units most."""
    wanted = set(units)
    for drawn in layer.negatives.pictures.read(units) if layer.negatives and units else ():
        if drawn.unit in wanted:
            wanted.discard(drawn.unit)
            image = decode(layer, drawn.unit, drawn.seed, drawn.image)
            write_new(folder / negative_name(drawn.unit), to_webp(image))
            if shows_crop(layer):
                write_new(folder / negative_name(drawn.unit, crop=True), to_webp(gallery_picture(layer, image)))
    if wanted:
        raise AtlasError(f"the negative of unit {min(wanted)} of layer {layer.name} is missing; build again")


def _write_sprites(
    page: LayerPage,
    pending: Sequence[Future[Thumbnails]],
    grid: Grid,
    taste: set[int],
    folder: Path,
    pool: Executor,
) -> None:
    cells: dict[int, Image.Image] = {}
    tasted: dict[int, Image.Image] = {}
    made: list[Future[None]] = []
    units, done = page.gallery.units, 0

    def flush(until: int) -> None:
        nonlocal done
        while done < until:
            first, count = done, min(grid.num_cells, len(units) - done)
            part = {index - first: cells.pop(index) for index in range(first, first + count) if index in cells}
            path = folder / sprite_name(first // grid.num_cells)
            made.append(pool.submit(_write_sprite, grid, part, path))
            done += count

    for number, future in enumerate(pending):
        thumbnails = future.result()
        for index, unit in enumerate(units[number * PART : (number + 1) * PART], start=number * PART):
            if unit.unit in thumbnails:
                cells[index] = thumbnails[unit.unit]
                if unit.unit in taste:
                    tasted[unit.unit] = thumbnails[unit.unit]
        ready = min((number + 1) * PART, len(units))
        flush(ready if ready == len(units) else ready - ready % grid.num_cells)
    if tasted:
        write_new(folder / "taste.webp", strip([tasted[unit] for unit in sorted(tasted)]))
    for written in made:
        written.result()


def _write_sprite(grid: Grid, part: dict[int, Image.Image], path: Path) -> None:
    write_new(path, sprite(grid, part))


def _fitting(size: tuple[int, int], cell_px: int) -> tuple[int, int]:
    scale = cell_px / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
