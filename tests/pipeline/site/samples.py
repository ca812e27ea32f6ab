"""A small atlas with every oddity a site must bear."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from export.manifest import Box
from pipeline.site.changes import Changes, UnitChange
from pipeline.site.model import Atlas, HeldPictures, Layer, Negatives, Result
from pipeline.site.panels import (
    Column,
    Facts,
    Finding,
    Histogram,
    Lines,
    Mark,
    Panel,
    Picture,
    Pictures,
    Series,
    StudyResult,
    Table,
    Text,
    UnitLink,
    Units,
)

SIDE = 16
EVIL = "<script>alert(1)</script>"
ODD_NAMES = ("/model/Conv.1/Relu output", "../..", "größe ✓", EVIL)


def make_png(seed: int, side: int = SIDE) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


def make_result(unit: int, seed: int = 0, activation: float | None = None, **changes: Any) -> Result:
    value = 1.0 + unit if activation is None else activation
    fields: dict[str, Any] = {
        "unit": unit,
        "seed": seed,
        "status": "done",
        "activation": value,
        "steps": 40,
        "target": "fc",
        "curve": np.array([0.25 * value, 0.5 * value, 0.75 * value, value], np.float32),
    }
    return Result(**{**fields, **changes})


def image_of(unit: int, seed: int = 0) -> bytes:
    """The picture that :func:`make_layer` gives a result."""
    return make_png(1000 * unit + seed)


FILM_STEPS = (0, 5, 20, 40)


def make_film(num_cells: int = len(FILM_STEPS), side: int = SIDE) -> bytes:
    pixels = np.random.default_rng(num_cells).integers(0, 256, (side, num_cells * side, 3), np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "WEBP")
    return sink.getvalue()


def make_dead(unit: int, seed: int = 0, **changes: Any) -> Result:
    return make_result(
        unit, seed, -math.inf, status="dead", steps=10, curve=np.array([0, math.nan], np.float32), **changes
    )


def make_layer(
    name: str = "fc",
    results: tuple[Result, ...] | None = None,
    images: Mapping[tuple[int, int], bytes] | None = None,
    **changes: Any,
) -> Layer:
    """A layer; ``images`` replaces those of its results."""
    results = tuple(make_result(unit) for unit in range(4)) if results is None else results
    held = {(r.unit, r.seed): image_of(r.unit, r.seed) for r in results if r.status == "done"}
    films = {(r.unit, r.seed): make_film(len(r.film_steps)) for r in results if r.film_steps}
    fields: dict[str, Any] = {
        "name": name,
        "title": name,
        "shape": (10,),
        "num_units": 10,
        "position": None,
        "receptive_field": Box(0, 0, SIDE, SIDE),
        "image_px": SIDE,
        "recipe_key": "0123456789abcdef0123",
        "recipe": {"layer": name, "target": "fc", "seed": 0, "ascent": {"steps": 40, "lr": 0.12}},
        "labels": {},
        "results": results,
        "pictures": HeldPictures({**held, **(images or {})}, films),
    }
    return Layer(**{**fields, **changes})


def make_negatives(units: tuple[int, ...], target: str) -> Negatives:
    """What lowers these units most."""
    results = tuple(make_result(unit, activation=-2.0 - unit, target=target) for unit in units)
    return Negatives(results, HeldPictures({(unit, 0): image_of(unit, 77) for unit in units}))


def make_atlas(*layers: Layer, **changes: Any) -> Atlas:
    fields: dict[str, Any] = {
        "name": "sample",
        "title": "A sample",
        "network": {
            "title": "Net & co",
            "source": "https://example.org/net",
            "licence": "",
            "input": {"height": 224, "width": 200, "channels": "RGB"},
        },
        "generator": {"title": EVIL, "source": "javascript:alert(1)", "training_data": "photographs"},
        "layers": layers,
        "run": {"date": "2026-01-02T03:04:05+00:00", "duration_s": 75.0, "runtime": EVIL},
    }
    return Atlas(**{**fields, **changes})


def odd_atlas(**changes: Any) -> Atlas:
    """Early layer with crops, several seeds, dead units, labels that attack, odd names, an empty layer."""
    early = make_layer(
        "stem",
        tuple(make_result(unit, target="stem") for unit in range(3)),
        title="Stem",
        shape=(8, 4, 4),
        position=(2, 2),
        receptive_field=Box(6, -1, 10, 3),
        recipe={"target": "stem", "seed": 0},
        negatives=make_negatives((0, 2), "stem.pre"),
    )
    labels = {0: EVIL, 1: "tench, Tinca tinca", 3: 'a "quoted" & odd\u2028name', 4: "Äpfel"}
    classes = make_layer(
        "fc",
        (
            make_result(0, 0),
            make_result(1, 0, 2.0, film_steps=FILM_STEPS),
            make_result(1, 1, 9.0),
            make_dead(1, 2),
            make_dead(2),
            make_result(3, target="fc.pre", activation=50.0),
            make_result(4),
            make_result(7, activation=-3.0),
        ),
        title="Classes",
        labels=labels,
        negatives=make_negatives((1,), "fc"),
    )
    odd = [make_layer(name, (make_result(0, target=name),)) for name in ODD_NAMES]
    return make_atlas(early, *odd, make_layer("empty", ()), classes, **changes)


PART = Picture("sub/a b.png", 8, 8, "a cat", EVIL, left=8, top=0, file_width=16, file_height=16)

EVERY_BLOCK = (
    Text("a " + EVIL),
    Facts((("name", EVIL),)),
    Pictures("exemplars " + EVIL, (PART, Picture("sub/a b.png", 16, 16, "all"))),
    Units("similar", (UnitLink("stem", 1, "0.9"), UnitLink("fc", 2, "dead"), UnitLink("fc", 99), UnitLink("no", 0))),
    Histogram("natural images", "activation", 0.0, 2.0, (1, 2.0), (Mark(9.5, EVIL),)),
    Lines("tuning", "x", "y", (Series("s", (0.0, 1), (2.0, 3.0)), Series("t", (0.0, 1), (1.0, 0.0)))),
    Table("numbers", ("a", "b"), (("1", EVIL), ("3", "4"))),
)


def make_study(folder: Path, name: str = "judge") -> StudyResult:
    """A study that uses everything; its picture lies in ``folder``."""
    (folder / "sub").mkdir(parents=True, exist_ok=True)
    (folder / "sub" / "a b.png").write_bytes(make_png(7))
    (folder / "notes.txt").write_text("not to be published")
    columns = (
        Column("score", "recognised " + EVIL, "A share.", "percent"),
        Column("rank", "rank", form="count", sort="low"),
        Column("word", "word", form="text", sort="none"),
        Column("near", "near", form="yesno"),
    )
    panels = {
        1: Panel({"rank": 3, "word": EVIL}, {0: {"score": 0.25}, 1: {"score": 0.75, "near": True}}, EVERY_BLOCK),
        3: Panel({"rank": 1, "score": math.nan}),
    }
    findings = (Finding("It holds " + EVIL, "One.\n\nTwo " + EVIL, Picture("sub/a b.png", 16, 16, "a"), EVERY_BLOCK),)
    return StudyResult(name, "A study " + EVIL, "What it asked.", columns, {"fc": panels}, findings, str(folder))


def make_changes() -> Changes:
    units = {
        "fc": {1: UnitChange("higher", 4.5, 9.0), 2: UnitChange("died", 1.0, None), 98: UnitChange("gone", 1.0, None)},
        "gone": {0: UnitChange("gone", 2.0, None)},
    }
    return Changes("2026-01-01", units, ("The generator was replaced " + EVIL,))


def full_atlas(folder: Path, **changes: Any) -> Atlas:
    """:func:`odd_atlas` with a study whose files lie in ``folder``, and changes."""
    return odd_atlas(studies=(make_study(folder),), changes=make_changes(), **changes)
