"""Writing a site: what changed is rendered, the rest taken over from the site before."""

from __future__ import annotations

import filecmp
import os
import re
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from export.errors import InputError
from pipeline.site import data, table
from pipeline.site.columns import layer_numbers
from pipeline.site.gallery import Gallery, make_gallery
from pipeline.site.incremental import MARKER, layer_version, link_or_copy, published_versions, take_over
from pipeline.site.layers import write_layer, write_new
from pipeline.site.model import Atlas
from pipeline.site.pages.compare import compare
from pipeline.site.pages.findings import findings
from pipeline.site.pages.home import home
from pipeline.site.pages.shared import LayerPage, Shell, neighbour
from pipeline.site.panel_views import Known, study_folder
from pipeline.site.panels import StudyResult
from pipeline.site.paths import layer_folder
from pipeline.site.render import HERE, Render, make_renderer
from pipeline.site.replacing import replacing

STUDY_FILES = (".svg", ".png", ".jpg", ".jpeg", ".webp")
"""Files of a study that are published."""


@dataclass(frozen=True)
class SiteReport:
    """What writing a site did.

    Attributes:
        index: the page to open.
        rendered: names of the layers whose files were made.
        kept: names of those taken over from the site before.
    """

    index: Path
    rendered: tuple[str, ...]
    kept: tuple[str, ...]


def publish(atlas: Atlas, out: Path) -> Path:
    """Write a site; every file but ``run.js`` depends on the results alone.

    Args:
        atlas: what to show.
        out: folder of the site; a site that is there is replaced as a whole, once the new one is complete. Layers
            that did not change keep their files.

    Returns:
        The page to open.

    Raises:
        InputError: two layers have one name, or a (unit, seed) of a layer comes twice.
        StoreError: the folder cannot be written, or holds something else than a site; or a study cannot be read.
        AtlasError: an image is not a PNG, or is missing.
    """
    check(atlas)
    with replacing(out) as folder:
        write_site(atlas, folder, out)
    return out / "index.html"


def write_site(atlas: Atlas, folder: Path, previous: Path | None = None) -> SiteReport:
    """Write a site into an empty folder; whoever calls this switches it in.

    Args:
        atlas: what to show.
        folder: empty.
        previous: a site whose unchanged layers are taken over by hard links (copies where there are none); it stays
            as it is. None, or a folder without a site: everything is rendered.

    Raises:
        InputError, StoreError, AtlasError, OSError: see :func:`publish`.
    """
    check(atlas)
    galleries = [make_gallery(layer) for layer in atlas.layers]
    known, render = Known(galleries), make_renderer()
    shutil.copytree(HERE / "static", folder / "static", ignore=shutil.ignore_patterns("__pycache__"))
    rows: list[pa.Table] = []
    versions = _write_layers(atlas, galleries, known, folder, previous, render, rows)
    write_new(folder / "units.parquet", table.write_units(rows, table.units_schema(atlas.studies)))
    for study in atlas.studies:
        _copy_study(study, folder / study_folder(study.name), previous)
    write_new(folder / "search.js", data.to_script("NEURON_ATLAS_SEARCH", data.search_data(galleries)))
    write_new(folder / "run.js", data.to_script("NEURON_ATLAS_RUN", atlas.run))
    write_new(folder / "index.html", render("home.html", home(atlas, galleries, known)))
    write_new(folder / "compare.html", render("compare.html", compare(atlas)))
    if any(study.findings for study in atlas.studies):
        write_new(folder / "findings.html", render("findings.html", findings(atlas, known)))
    names = [gallery.layer.name for gallery in galleries]
    facts = data.atlas_facts(atlas, galleries, [version for version, _ in versions])
    write_new(folder / MARKER, data.to_json(facts))
    return SiteReport(
        folder / "index.html",
        rendered=tuple(name for name, (_, made) in zip(names, versions, strict=True) if made),
        kept=tuple(name for name, (_, made) in zip(names, versions, strict=True) if not made),
    )


def _write_layers(
    atlas: Atlas,
    galleries: Sequence[Gallery],
    known: Known,
    folder: Path,
    previous: Path | None,
    render: Render,
    rows: list[pa.Table],
) -> list[tuple[str, bool]]:
    """Per layer its version and whether it was rendered; adds its rows of the table to ``rows``."""
    schema = table.units_schema(atlas.studies)
    published = published_versions(previous)
    shell = Shell.of(atlas)
    done = []
    with ThreadPoolExecutor(max(2, os.cpu_count() or 2), thread_name_prefix="pictures") as pool:
        for index, gallery in enumerate(galleries):
            numbers = layer_numbers(gallery, atlas.studies, atlas.changes)
            rows.append(table.layer_rows(numbers, schema))
            around = neighbour(galleries, index - 1), neighbour(galleries, index + 1)
            page = LayerPage(shell, numbers, *around, known)
            place, version = layer_folder(gallery.layer.name), layer_version(page)
            kept = bool(version) and published.get(place) == version and previous is not None
            if kept and previous is not None:
                take_over(previous / place, folder / place)
            else:
                write_layer(page, folder / place, render, pool)
            done.append((version, not kept))
    return done


def _copy_study(study: StudyResult, target: Path, previous: Path | None) -> None:
    if study.folder is None:
        return
    source = Path(study.folder)
    for file in sorted(path for path in source.rglob("*") if path.suffix.lower() in STUDY_FILES and path.is_file()):
        place = file.relative_to(source)
        (target / place).parent.mkdir(parents=True, exist_ok=True)
        before = previous / study_folder(study.name) / place if previous else file
        same = previous is not None and before.is_file() and filecmp.cmp(file, before, shallow=False)
        if same:
            link_or_copy(before, target / place)
        else:
            shutil.copyfile(file, target / place)


_NAME = re.compile(r"[a-z0-9._-]+")


def check(atlas: Atlas) -> None:
    """Raises InputError if two layers have one name, a (unit, seed) comes twice, or another atlas is misnamed."""
    names = [other.name for other in atlas.others]
    if len(set(names)) < len(names) or not all(map(_NAME.fullmatch, names)):
        raise InputError(f"atlases to compare with need names of a-z, 0-9, '.', '_' and '-', each another, not {names}")
    seen: set[str] = set()
    for layer in atlas.layers:
        if layer.name in seen:
            raise InputError(f"layer {layer.name!r} comes twice in atlas {atlas.name}; name every layer once")
        seen.add(layer.name)
        keys = [(result.unit, result.seed) for result in layer.results]
        if len(set(keys)) < len(keys):
            raise InputError(f"layer {layer.name!r} has two results for one unit and seed; give one of each")
