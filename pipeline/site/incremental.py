"""Rendering only what changed: what a layer's pages depend on, and taking over the rest from the site before."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict
from functools import cache
from pathlib import Path

from pipeline.recipe import short_digest
from pipeline.site.pages.shared import LayerPage
from pipeline.site.panels import Units

HERE = Path(__file__).parent
MARKER = "atlas.json"
"""File by which a folder is known to be a site, and therefore to be ours to replace."""


def layer_version(page: LayerPage) -> str:
    """Changes whenever a file of the layer's folder would; empty when that cannot be told.

    It covers the code of the site, the titles around the layer, its facts and results, and what studies and changes
    say of it, pictures of other layers' units included.
    """
    layer, numbers = page.layer, page.numbers
    if not layer.version:
        return ""
    linked = sorted(
        {
            (link.layer, link.unit)
            for _, panels in numbers.studies
            for panel in panels.values()
            for block in panel.blocks
            if isinstance(block, Units)
            for link in block.units
            if page.known.has(link.layer, link.unit)
        }
    )
    content = [
        code_version(),
        asdict(page.shell),
        [page.previous, page.next],
        [layer.name, layer.title, layer.shape, layer.num_units, layer.position, asdict(layer.receptive_field)],
        [layer.image_px, layer.recipe_key, layer.recipe, sorted(layer.labels.items()), layer.version],
        [[unit.unit for unit in page.gallery.units], [result.seed for result in layer.results]],
        [unit.unit for unit in page.gallery.units if unit.negative],
        [
            [study.name, study.title, study.summary, repr(study.columns), bool(study.findings)]
            for study, _ in numbers.studies
        ],
        [repr(sorted(panels.items())) for _, panels in numbers.studies],
        repr(sorted(numbers.changes.items())),
        [asdict(page.known.tile(name, unit, "")) for name, unit in linked],
    ]
    return short_digest(content)


@cache
def code_version() -> str:
    """Of everything that turns an atlas into a site."""
    digest = hashlib.sha256()
    for file in sorted(path for path in HERE.rglob("*") if path.is_file() and path.suffix != ".pyc"):
        digest.update(f"{file.relative_to(HERE)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:20]


def published_versions(site: Path | None) -> dict[str, str]:
    """Layer folder -> version of a site that is there; empty where there is none, or a foreign one."""
    if site is None:
        return {}
    try:
        layers = json.loads((site / MARKER).read_text(encoding="ascii"))["layers"]
        return {str(layer["folder"]): str(layer["version"]) for layer in layers if layer["version"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def take_over(source: Path, target: Path) -> None:
    """Make ``target`` hold the files of ``source``, which stays: by hard links, or copies where there are no links."""
    target.mkdir(parents=True)
    with os.scandir(source) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                take_over(source / entry.name, target / entry.name)
            else:
                link_or_copy(Path(entry.path), target / entry.name)


def link_or_copy(source: Path, target: Path) -> None:
    """One file; never changed in place afterwards, so that both names may share it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
