"""The site's machine-readable files: JSON per unit and per layer, and the scripts that carry data.

Scripts, because a page opened from a folder may not fetch JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pipeline.site.gallery import Gallery, Unit
from pipeline.site.model import Atlas, Result
from pipeline.site.paths import image_name, layer_folder
from pipeline.site.pictures import shows_crop


def to_json(value: object) -> bytes:
    """JSON, ASCII; numbers that are not finite become null."""
    text = json.dumps(_finite(value), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.encode("ascii") + b"\n"


def to_script(name: str, value: object) -> bytes:
    """A script that assigns a value to a global."""
    return f"window.{name} = ".encode() + to_json(value).rstrip() + b";\n"


def atlas_facts(atlas: Atlas, galleries: Sequence[Gallery]) -> dict[str, Any]:
    """``atlas.json``: what there is and where; nothing of the run."""
    return {
        "name": atlas.name,
        "title": atlas.title,
        "network": atlas.network,
        "generator": atlas.generator,
        "layers": [
            {
                "name": gallery.layer.name,
                "folder": layer_folder(gallery.layer.name),
                "num_units": gallery.layer.num_units,
                "num_shown": len(gallery.units),
                "num_dead": gallery.num_dead,
            }
            for gallery in galleries
        ],
    }


def layer_facts(gallery: Gallery) -> dict[str, Any]:
    """``layer.json``: the recipe and the list of units."""
    layer = gallery.layer
    return {
        "name": layer.name,
        "title": layer.title,
        "shape": list(layer.shape),
        "num_units": layer.num_units,
        "position": list(layer.position) if layer.position else None,
        "receptive_field": asdict(layer.receptive_field),
        "image_px": layer.image_px,
        "recipe_key": layer.recipe_key,
        "recipe": layer.recipe,
        "units": [
            {"unit": unit.unit, "label": unit.label or None, "activation": unit.best.activation if unit.best else None}
            for unit in gallery.units
        ],
    }


def unit_facts(gallery: Gallery, unit: Unit) -> dict[str, Any]:
    """``UNIT.json``: every number of a unit."""
    layer, standing = gallery.layer, gallery.standing(unit)
    return {
        "layer": layer.name,
        "unit": unit.unit,
        "label": unit.label or None,
        "position": list(layer.position) if layer.position else None,
        "receptive_field": asdict(layer.receptive_field),
        "image_px": layer.image_px,
        "recipe_key": layer.recipe_key,
        "percentile": standing.percentile if standing else None,
        "results": [_result_facts(gallery, result) for result in unit.results],
    }


def search_data(galleries: Sequence[Gallery]) -> list[dict[str, Any]]:
    """One entry per layer; ``units`` as ranges [start, end), ``seeds`` where the best seed is not ``seed``."""
    entries = []
    for gallery in galleries:
        best = {unit.unit: unit.best.seed for unit in gallery.units if unit.best}
        usual = min(best.values(), default=0)
        entries.append(
            {
                "name": gallery.layer.name,
                "title": gallery.layer.title,
                "folder": layer_folder(gallery.layer.name),
                "crop": shows_crop(gallery.layer),
                "units": _ranges([unit.unit for unit in gallery.units]),
                "dead": [unit.unit for unit in gallery.units if not unit.best],
                "seed": usual,
                "seeds": {str(unit): seed for unit, seed in best.items() if seed != usual},
                "labels": {str(unit.unit): unit.label for unit in gallery.units if unit.label},
            }
        )
    return entries


def _result_facts(gallery: Gallery, result: Result) -> dict[str, Any]:
    shown = result.status == "done"
    return {
        "seed": result.seed,
        "status": result.status,
        "activation": result.activation,
        "steps": result.steps,
        "target": result.target,
        "curve": list(result.curve),
        "image": image_name(result.unit, result.seed) if shown else None,
        "crop": image_name(result.unit, result.seed, crop=True) if shown and shows_crop(gallery.layer) else None,
    }


def _ranges(units: Sequence[int]) -> list[list[int]]:
    ranges: list[list[int]] = []
    for unit in units:
        if ranges and ranges[-1][1] == unit:
            ranges[-1][1] += 1
        else:
            ranges.append([unit, unit + 1])
    return ranges


def _finite(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return value
