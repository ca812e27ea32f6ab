"""Writing a site: built beside its place under a temporary name, then switched in."""

from __future__ import annotations

import glob
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from export.errors import InputError, StoreError
from pipeline.site import charts, data, pages
from pipeline.site.gallery import Gallery, make_gallery
from pipeline.site.model import Atlas
from pipeline.site.paths import image_name, layer_folder
from pipeline.site.pictures import crop, decode, shows_crop, to_png
from pipeline.site.sheet import contact_sheet, default_layout
from pipeline.temporary import is_leftover, temporary_name

HERE = Path(__file__).parent
MARKER = "atlas.json"
"""File by which a folder is known to be a site, and therefore to be ours to replace."""


def publish(atlas: Atlas, out: Path) -> Path:
    """Write a site; every file but ``run.js`` depends on the results alone.

    Args:
        atlas: what to show.
        out: folder of the site; a site that is there is replaced as a whole, once the new one is complete.

    Returns:
        The page to open.

    Raises:
        InputError: two layers have one name, or a (unit, seed) of a layer comes twice.
        StoreError: the folder cannot be written, or holds something else than a site.
        AtlasError: an image is not a PNG.
    """
    _check(atlas)
    with _replacing(out) as folder:
        _write_site(atlas, folder)
    return out / "index.html"


def _write_site(atlas: Atlas, folder: Path) -> None:
    galleries = [make_gallery(layer) for layer in atlas.layers]
    render = _renderer()
    shutil.copytree(HERE / "static", folder / "static", ignore=shutil.ignore_patterns("__pycache__"))
    for index, gallery in enumerate(galleries):
        _write_layer(atlas, galleries, index, folder / layer_folder(gallery.layer.name), render)
    _write(folder / "search.js", data.to_script("NEURON_ATLAS_SEARCH", data.search_data(galleries)))
    _write(folder / "run.js", data.to_script("NEURON_ATLAS_RUN", atlas.run))
    _write(folder / MARKER, data.to_json(data.atlas_facts(atlas, galleries)))
    _write(folder / "index.html", render("home.html", pages.home(atlas, galleries)))


def _write_layer(
    atlas: Atlas,
    galleries: Sequence[Gallery],
    index: int,
    folder: Path,
    render: Callable[[str, dict[str, Any]], bytes],
) -> None:
    gallery = galleries[index]
    folder.mkdir(parents=True)
    _write_images(gallery, folder)
    if gallery.units:
        sheet = contact_sheet(gallery.layer, *default_layout(len(gallery.units)))
        _write(folder / "sheet.png", to_png(sheet))
    _write(folder / "layer.json", data.to_json(data.layer_facts(gallery)))
    page = pages.layer(atlas, galleries, index, has_sheet=bool(gallery.units))
    _write(folder / "index.html", render("layer.html", page))
    histograms: dict[bool, charts.Histogram | None] = {}
    for number, unit in enumerate(gallery.units):
        if unit.pre_activation not in histograms:
            histograms[unit.pre_activation] = charts.histogram(gallery.compared(unit))
        page = pages.unit(atlas, gallery, number, histograms[unit.pre_activation])
        _write(folder / f"{unit.unit}.html", render("unit.html", page))
        _write(folder / f"{unit.unit}.json", data.to_json(data.unit_facts(gallery, unit)))


def _write_images(gallery: Gallery, folder: Path) -> None:
    (folder / "img").mkdir()
    for unit in gallery.units:
        for result in unit.results:
            if result.status == "dead":
                continue
            image = decode(gallery.layer, result)
            _write(folder / image_name(result.unit, result.seed), result.image)
            if shows_crop(gallery.layer):
                part = to_png(crop(gallery.layer, image))
                _write(folder / image_name(result.unit, result.seed, crop=True), part)


def _renderer() -> Callable[[str, dict[str, Any]], bytes]:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["number"] = charts.number
    environment.filters["measured"] = charts.measured
    frame = ("WIDTH", "HEIGHT", "LEFT", "RIGHT", "TOP", "BOTTOM")
    environment.globals["chart"] = {name: getattr(charts, name) for name in frame}
    return lambda template, context: environment.get_template(template).render(context).encode("utf-8", "replace")


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """A new folder that takes the place of ``out`` if all goes well, and vanishes if not."""
    out = out.resolve()
    building, old = (out.with_name(temporary_name(out.name)) for _ in range(2))
    try:
        _check_replaceable(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(out)
        building.mkdir()
        yield building
        if out.exists():
            out.rename(old)
        try:
            building.rename(out)
        except OSError:
            if old.exists():
                old.rename(out)
            raise
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise StoreError(
            f"the site cannot be written to {out} ({error.strerror or error}); free the folder or choose another"
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _check_replaceable(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise StoreError(f"{out} is not a folder; choose another place for the site")
    if out.exists() and any(out.iterdir()) and not (out / MARKER).is_file():
        raise StoreError(f"{out} holds something else than a site; choose another folder, or empty it first")


def _remove_leftovers(out: Path) -> None:
    """Folders that a killed process left beside the site."""
    for path in out.parent.glob(f".{glob.escape(out.name)}.*"):
        if path.is_dir() and is_leftover(path.name, time.time() - path.stat().st_mtime):
            shutil.rmtree(path, ignore_errors=True)


def _check(atlas: Atlas) -> None:
    seen: set[str] = set()
    for layer in atlas.layers:
        if layer.name in seen:
            raise InputError(f"layer {layer.name!r} comes twice in atlas {atlas.name}; name every layer once")
        seen.add(layer.name)
        keys = [(result.unit, result.seed) for result in layer.results]
        if len(set(keys)) < len(keys):
            raise InputError(f"layer {layer.name!r} has two results for one unit and seed; give one of each")


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
