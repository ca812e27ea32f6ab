"""The site at full size: ResNet-50, 27,560 units, 4 seeds, a film of the first, placeholder pictures.

``python tests/bench/site_scale.py [--out build/scale] [--layers N] [--seeds N] [--study]`` renders it, changes one
layer, renders again, opens it in chromium, and prints what is promised beside what was measured; exit code 1 if a
promise is broken. ``--study`` gives every unit the panel of a study too, which no promise covers.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from engine.loop import Frame, spaced_steps
from export.manifest import Box
from pipeline.films import make_film
from pipeline.site.model import Atlas, Drawn, Layer, Result
from pipeline.site.publish import publish
from tests.bench.site_study import write_study

IMAGE_PX, NUM_PICTURES, NUM_FILMS, STEPS = 128, 400, 40, 200
FILM_STEPS = (*spaced_steps(8, STEPS, 5), STEPS)
LABELS = Path(__file__).resolve().parents[2] / "export/assets/imagenet1k_labels.txt"
MIB = 2**20


@dataclass(frozen=True)
class Budget:
    """A promise: what is measured, its limit, and what came out."""

    name: str
    limit: float
    measured: float
    unit: str

    @property
    def kept(self) -> bool:
        return self.measured <= self.limit


@dataclass(frozen=True)
class Placeholders:
    """One of a few hundred pictures for each unit and seed, and one of some films for each unit's first seed; ``shift``
    makes other ones."""

    images: Sequence[bytes]
    films: Sequence[bytes]
    num_seeds: int
    shift: int = 0

    def read(self, units: Sequence[int]) -> Iterable[Drawn]:
        for unit in units:
            film = self.films[unit % len(self.films)]
            for seed in range(self.num_seeds):
                image = self.images[(unit * 7 + seed * 101 + self.shift) % len(self.images)]
                yield Drawn(unit, seed, image, film if seed == 0 else b"")


def placeholder(seed: int) -> bytes:
    """A PNG whose detail falls off with frequency as a photograph's does; about as large as a generator's picture."""
    rng = np.random.default_rng(seed)
    total = np.zeros((IMAGE_PX, IMAGE_PX, 3), np.float32)
    size, amplitude = 2, 1.0
    while size <= IMAGE_PX:
        for channel in range(3):
            noise = Image.fromarray(rng.normal(size=(size, size)).astype(np.float32))
            total[..., channel] += amplitude * np.asarray(noise.resize((IMAGE_PX, IMAGE_PX), Image.Resampling.BICUBIC))
        size, amplitude = 2 * size, amplitude * 0.56
    sink = io.BytesIO()
    Image.fromarray((128 + 50 * total).clip(0, 255).astype(np.uint8)).save(sink, "PNG")
    return sink.getvalue()


def resnet50_layers() -> list[tuple[str, int, int, int]]:
    """(name, channels, side of the map, receptive field in pixels of 224) of every convolution, and the logits."""
    layers, field, jump, side = [("conv1", 64, 112, 7)], 11, 4, 56
    for stage, (blocks, width) in enumerate([(3, 64), (4, 128), (6, 256), (3, 512)], start=1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            layers.append((f"{name}.conv1", width, side, field))
            stride = 2 if stage > 1 and block == 0 else 1
            field, jump, side = field + 2 * jump, jump * stride, side // stride
            layers.append((f"{name}.conv2", width, side, field))
            layers.append((f"{name}.conv3", 4 * width, side, field))
            if block == 0:
                layers.append((f"{name}.downsample.0", 4 * width, side, field))
    return [*layers, ("fc", 1000, 0, 224)]


def placeholder_films(images: Sequence[bytes]) -> list[bytes]:
    """Films of whole pictures, each of as many as a climb keeps."""
    arrays = [np.asarray(Image.open(io.BytesIO(image))) for image in images[: NUM_FILMS + len(FILM_STEPS)]]
    whole = Box(0, 0, IMAGE_PX, IMAGE_PX)
    return [
        make_film(
            [Frame(step, arrays[first + index]) for index, step in enumerate(FILM_STEPS[:-1])], arrays[-1], whole, 64
        )
        for first in range(NUM_FILMS)
    ]


def make_layer(
    name: str, channels: int, side: int, field: int, images: Sequence[bytes], films: Sequence[bytes], num_seeds: int
) -> Layer:
    """A layer whose every unit has results of every seed."""
    rng = np.random.default_rng(channels + side)
    best = rng.lognormal(2.0, 0.5, channels)
    curve = (1 - np.exp(-np.arange(1, STEPS // 5 + 1) / 12)).astype(np.float32)
    film_steps = {0: FILM_STEPS}
    results = tuple(
        Result(
            unit,
            seed,
            "done",
            (value := float(best[unit] * factor)),
            STEPS,
            name,
            np.float32(value) * curve,
            film_steps.get(seed, ()),
        )
        for unit in range(channels)
        for seed, factor in enumerate(rng.uniform(0.8, 1.0, num_seeds))
    )
    px = min(IMAGE_PX, round(field * IMAGE_PX / 224))
    low = (IMAGE_PX - px) // 2
    labels = dict(enumerate(LABELS.read_text(encoding="utf-8").splitlines())) if name == "fc" else {}
    return Layer(
        name=name,
        title=name,
        shape=(channels, side, side) if side else (channels,),
        num_units=channels,
        position=(side // 2, side // 2) if side else None,
        receptive_field=Box(low, low, low + px, low + px),
        image_px=IMAGE_PX,
        recipe_key="0123456789abcdef0123",
        recipe={"network": "0" * 64, "layer": name, "target": name, "seed": 0, "ascent": {"steps": STEPS, "lr": 0.12}},
        labels=labels,
        results=results,
        pictures=Placeholders(images, films, num_seeds),
        version=f"{name}-0",
    )


def make_atlas(count: int, num_seeds: int) -> Atlas:
    """The whole network, or its last ``count`` layers."""
    images = [placeholder(seed) for seed in range(NUM_PICTURES)]
    films = placeholder_films(images)
    layers = tuple(make_layer(*facts, images, films, num_seeds) for facts in resnet50_layers()[-count:])
    return Atlas(
        "scale", "ResNet-50", {"title": "ResNet-50"}, {"title": "placeholders"}, layers, {"date": "2026-01-02"}
    )


def render(atlas: Atlas, out: Path) -> list[Budget]:
    """Render, change one layer, render again."""
    shutil.rmtree(out, ignore_errors=True)
    start, cpu = time.monotonic(), time.process_time()
    publish(atlas, out)
    wall_s, cpu_s = time.monotonic() - start, time.process_time() - cpu
    files = {path: path.stat() for path in out.rglob("*") if path.is_file()}
    budgets = [
        Budget("rendering the whole site, two quiet cores", 180, wall_s, "s"),
        Budget("  CPU time over two cores", 180, cpu_s / 2, "s"),
        Budget("size of the site", 1000, sum(facts.st_size for facts in files.values()) / 1e6, "MB"),
        Budget("  on disk, in blocks", 1500, sum(facts.st_blocks for facts in files.values()) * 512 / 1e6, "MB"),
        Budget("largest memory", 1000, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "MiB"),
    ]
    last = atlas.layers[-1]
    other = replace(last, pictures=replace(last.pictures, shift=1), version="changed")  # type: ignore[type-var]
    start = time.monotonic()
    publish(replace(atlas, layers=(*atlas.layers[:-1], other)), out)
    touched = {
        str(path.relative_to(out).parent)
        for path in out.rglob("*")
        if path.is_file() and (path not in files or path.stat().st_ino != files[path].st_ino)
    }
    layers = {folder.split("/")[1] for folder in touched if folder.startswith("layer/")}
    budgets.append(Budget("rendering again after one layer changed", 60, time.monotonic() - start, "s"))
    budgets.append(Budget("  layers that were touched", 1, len(layers), ""))
    print(f"{len(files):,} files", file=sys.stderr)
    return budgets


def browse(site: Path, folder: str) -> list[Budget]:
    """Open pages in chromium from the folder; bytes are those of the files that it asked for."""
    from playwright.sync_api import sync_playwright

    from tests.browser.conftest import ARGUMENTS

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)

        def asked(page: object) -> set[str]:
            names: set[str] = set()
            page.on("request", lambda request: names.add(request.url.partition("#")[0].partition("?")[0]))  # type: ignore[attr-defined]
            return names

        def size(names: set[str]) -> float:
            return sum(Path(name.removeprefix("file://")).stat().st_size for name in names) / 1000

        page = chromium.new_page(viewport={"width": 1366, "height": 800})
        names = asked(page)
        page.goto((site / "index.html").as_uri())
        page.wait_for_timeout(1000)
        first_view_kb = size(names)

        page.focus("#query")
        page.wait_for_function("window.NEURON_ATLAS_SEARCH")
        slowest = 0.0
        for text in ("2", "layer4", "goldfish", "layer4.2.conv3/412", "a", "conv 77"):
            page.fill("#query", text)
            page.wait_for_timeout(300)
            slowest = max(slowest, float(page.get_attribute("#found", "data-search-ms") or 1e9))

        page = chromium.new_page(viewport={"width": 1366, "height": 800})
        names = asked(page)
        start = time.monotonic()
        page.goto((site / folder / "index.html").as_uri())
        opened_ms = 1000 * (time.monotonic() - start)
        page.evaluate("for (const image of document.images) image.loading = 'eager'")
        page.wait_for_function("[...document.images].every((image) => image.complete)")
        grid_kb = size(names)
        start = time.monotonic()
        page.select_option("#sort", "activation")
        page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        sort_ms = 1000 * (time.monotonic() - start)

        times = []
        for unit in range(10, 30):
            start = time.monotonic()
            page.goto((site / folder / f"{unit}.html").as_uri())
            times.append(1000 * (time.monotonic() - start))
        chromium.close()
    return [
        Budget("first view of the home page", 300, first_view_kb, "kB"),
        Budget("slowest of six searches", 100, slowest, "ms"),
        Budget("whole grid of 2,048 units", 1500, grid_kb, "kB"),
        Budget("  opened in", 3000, opened_ms, "ms"),
        Budget("  sorted in", 500, sort_ms, "ms"),
        Budget("a unit opens (median of 20)", 200, sorted(times)[10], "ms"),
    ]


def main() -> int:
    """Print the table; 1 if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/scale"))
    parser.add_argument("--layers", type=int, default=len(resnet50_layers()), help="only the last ones")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--study", action="store_true", help="with the panel of a study on every unit's page")
    options = parser.parse_args()
    atlas = make_atlas(options.layers, options.seeds)
    if options.study:
        shutil.rmtree(options.out / "studies", ignore_errors=True)
        atlas = replace(atlas, studies=(write_study(options.out / "studies" / "placeholders", atlas.layers),))
    budgets = render(atlas, options.out / "site")
    budgets += browse((options.out / "site").resolve(), "layer/layer4.2.conv3")
    for budget in budgets:
        mark = "" if budget.kept else "   TOO MUCH"
        print(f"{budget.name:42} {budget.measured:9.1f} of {budget.limit:7.0f} {budget.unit}{mark}")
    facts = [{"name": b.name.strip(), "limit": b.limit, "measured": b.measured, "unit": b.unit} for b in budgets]
    (options.out / "scale.json").write_text(json.dumps({"cores": os.cpu_count(), "budgets": facts}, indent=1) + "\n")
    return 0 if all(budget.kept for budget in budgets) else 1


if __name__ == "__main__":
    sys.exit(main())
