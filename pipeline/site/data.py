"""The site's machine-readable files: JSON per unit, layer and atlas, and the scripts that carry data.

Scripts, because a page opened from a folder may not fetch JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from pipeline.site.columns import LayerNumbers
from pipeline.site.gallery import Gallery, Unit
from pipeline.site.model import Atlas, Layer, Result
from pipeline.site.paths import film_name, image_name, layer_folder, negative_name
from pipeline.site.pictures import shows_crop
from pipeline.site.sprites import grid_for


def to_json(value: object) -> bytes:
    """JSON, ASCII; numbers that are not finite become null, others are given with nine digits."""
    text = json.dumps(_plain(value, 9), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.encode("ascii") + b"\n"


def to_script(name: str, value: object) -> bytes:
    """A script that assigns a value to a global."""
    return f"window.{name} = ".encode() + to_json(value).rstrip() + b";\n"


def atlas_facts(atlas: Atlas, galleries: Sequence[Gallery], versions: Sequence[str]) -> dict[str, Any]:
    """``atlas.json``: what there is and where; nothing of the run. ``version`` tells which layers changed."""
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
                "version": version,
            }
            for gallery, version in zip(galleries, versions, strict=True)
        ],
        "studies": [{"name": study.name, "title": study.title, "summary": study.summary} for study in atlas.studies],
    }


def layer_facts(numbers: LayerNumbers) -> dict[str, Any]:
    """``layer.json``: the recipe, what the columns mean, and every unit with its numbers."""
    gallery, layer = numbers.gallery, numbers.gallery.layer
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
        "columns": [asdict(column) for column in numbers.columns],
        "units": [{"unit": unit.unit, "label": unit.label or None, **numbers.values(unit)} for unit in gallery.units],
    }


def layer_script(numbers: LayerNumbers) -> bytes:
    """``data.js``: what the scripts need to sort, filter, preview and compare the units of a layer."""
    gallery, layer = numbers.gallery, numbers.gallery.layer
    values = [numbers.values(unit) for unit in gallery.units]
    seeds = [[r.seed for r in unit.results if r.status == "done"] for unit in gallery.units]
    usual = max(map(sorted, seeds), key=len, default=[])
    facts = {
        "name": layer.name,
        "title": layer.title or layer.name,
        "crop": shows_crop(layer),
        "columns_in_sprite": grid_for(len(gallery.units)).columns,
        "units": _ranges([unit.unit for unit in gallery.units]),
        "best": _best(gallery),
        "seeds": usual,
        "other_seeds": {
            str(unit.unit): found for unit, found in zip(gallery.units, seeds, strict=True) if sorted(found) != usual
        },
        "pre": [unit.unit for unit in gallery.units if unit.pre_activation],
        "labels": {str(unit.unit): unit.label for unit in gallery.units if unit.label},
        "columns": [
            {
                "key": column.key,
                "title": column.title,
                "description": column.description,
                "form": column.form,
                "sort": column.sort,
                "values": [_plain(row[column.key], 5) for row in values],
            }
            for column in numbers.columns
        ],
    }
    body = json.dumps(facts, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    folder = json.dumps(layer_folder(layer.name))
    return f"(window.NEURON_ATLAS_LAYERS ??= {{}})[{folder}] = {body};\n".encode("ascii")


def unit_facts(numbers: LayerNumbers, unit: Unit) -> dict[str, Any]:
    """``UNIT.json``: every number of a unit."""
    gallery, layer = numbers.gallery, numbers.gallery.layer
    standing = gallery.standing(unit)
    return {
        "layer": layer.name,
        "unit": unit.unit,
        "label": unit.label or None,
        "position": list(layer.position) if layer.position else None,
        "receptive_field": asdict(layer.receptive_field),
        "image_px": layer.image_px,
        "recipe_key": layer.recipe_key,
        "percentile_in_layer": standing.percentile if standing else None,
        "values": numbers.values(unit),
        "change": asdict(numbers.changes[unit.unit]) if unit.unit in numbers.changes else None,
        "results": [_result_facts(layer, result) for result in unit.results],
        **({"negative": _negative_facts(layer, unit.negative)} if unit.negative else {}),
        "studies": {
            said.study.name: {"values": dict(said.panel.values), "by_seed": dict(said.panel.by_seed)}
            for said in numbers.of_unit(unit)
        },
    }


def search_data(galleries: Sequence[Gallery]) -> list[dict[str, Any]]:
    """One entry per layer: ``units`` as ranges [start, end), and for each of them the seed shown, -1 where dead."""
    return [
        {
            "name": gallery.layer.name,
            "title": gallery.layer.title or gallery.layer.name,
            "folder": layer_folder(gallery.layer.name),
            "crop": shows_crop(gallery.layer),
            "units": _ranges([unit.unit for unit in gallery.units]),
            "best": _best(gallery),
            "labels": {str(unit.unit): unit.label for unit in gallery.units if unit.label},
        }
        for gallery in galleries
    ]


def _result_facts(layer: Layer, result: Result) -> dict[str, Any]:
    shown, steps = result.status == "done", result.film_steps
    return {
        "seed": result.seed,
        "status": result.status,
        "activation": result.activation,
        "steps": result.steps,
        "target": result.target,
        "curve": result.curve.tolist(),
        "image": image_name(result.unit, result.seed) if shown else None,
        "crop": image_name(result.unit, result.seed, crop=True) if shown and shows_crop(layer) else None,
        **({"film": film_name(result.unit, result.seed), "film_steps": list(steps)} if shown and steps else {}),
    }


def _negative_facts(layer: Layer, result: Result) -> dict[str, Any]:
    return {
        "activation": result.activation,
        "steps": result.steps,
        "target": result.target,
        "curve": result.curve.tolist(),
        "image": negative_name(result.unit),
        "crop": negative_name(result.unit, crop=True) if shows_crop(layer) else None,
    }


def _best(gallery: Gallery) -> list[int]:
    return [unit.best.seed if unit.best else -1 for unit in gallery.units]


def _ranges(units: Iterable[int]) -> list[list[int]]:
    ranges: list[list[int]] = []
    for unit in units:
        if ranges and ranges[-1][1] == unit:
            ranges[-1][1] += 1
        else:
            ranges.append([unit, unit + 1])
    return ranges


def _plain(value: object, digits: int) -> object:
    if isinstance(value, int | str):
        return value
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(part, digits) for key, part in value.items()}
    if isinstance(value, list | tuple):
        if len(value) > 3 and all(type(part) is float for part in value):  # curves
            return [float(f"{part:.{digits}g}") if math.isfinite(part) else None for part in value]
        return [_plain(part, digits) for part in value]
    return value
