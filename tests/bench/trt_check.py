"""Builds step graphs for real with TensorRT for RTX, on a machine without a GPU: `make trt-check`.

    python -m tests.bench.trt_check [--network NAME] [--layer LAYER] [--generator bundled|fc6|fc6-quarter] ...

Every network, generator, layer, architecture and precision is built; a build counts if the plan exists, all shapes are
static, inputs and outputs are float32 or int64, and the lint (export/lint.py) has nothing against the graph. The first
of each layer is built twice, and the report says whether the plans are equal. The fc6 generator has random weights;
`fc6-quarter` is the same at a quarter of the width, for machines with little memory. Results go to build/trt-check.json
and are kept: what is there is not built again unless --again. With --table the last thing printed before
`built N, refused M` is a table of the megabytes of the plans.
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import click
import onnx
import onnx_ir as ir

from engine.plans import build_plan
from export.errors import AtlasError
from export.generator import Generator, load_generator, resolve_generator
from export.lint import lint
from export.network import resolve_network
from export.passes.precision import step_in
from export.passes.shapes import static_shape
from export.step import compile_step
from export.update import Ascent

TARGETS = ("SM80", "SM86", "SM89", "SM120")
PRECISIONS = ("fp32", "fp16")
EVERY_PRECISION = (*PRECISIONS, "bf16")
NETWORKS = {
    "lite0": ("bundled:lite0", ("_blocks.4", "_blocks.14", "_fc")),
    "alexnet": ("torchvision:alexnet", ("features.3", "features.10", "classifier.6")),
    "resnet50": ("torchvision:resnet50", ("layer1.0", "layer3.0", "fc")),
    "vgg16": ("torchvision:vgg16", ("features.7", "features.21", "classifier.6")),
    "densenet121": ("torchvision:densenet121", ("features.denseblock1", "features.transition3", "classifier")),
    "vit_b_16": ("torchvision:vit_b_16", ("conv_proj", "heads")),
    "swin_t": ("torchvision:swin_t", ("features.0.0", "head")),
}
"""Several layers each; the attention networks show only maps (N, C, H, W) and vectors."""
REPORT = Path("build") / "trt-check.json"
CACHE = Path("build") / "networks"
GENERATORS = {"bundled": None, "fc6": 1.0, "fc6-quarter": 0.25}
"""Width of the published generator's architecture; None is the bundled generator."""
DEFAULT = ["bundled", "fc6"]


def generator_of(kind: str, cache: Path) -> Generator:
    """The bundled generator, or the published one's architecture with random weights."""
    width = GENERATORS[kind]
    if width is None:
        return resolve_generator("bundled:lite0-hybrid", cache=cache)
    path = cache / f"{kind}-random.onnx"
    if not path.exists():
        from export.generators.deepsim import randomised, save_generator

        cache.mkdir(parents=True, exist_ok=True)
        save_generator(randomised(width), path)
    return load_generator(path)


def faults(step: bytes) -> list[str]:
    """What a runner or TensorRT would have against a step graph, found without building it."""
    model = ir.from_proto(onnx.load_from_string(step))
    found = [str(refusal) for refusal in lint(model)]
    for value in (*model.graph.inputs, *model.graph.outputs):
        if static_shape(value) is None:
            found.append(f"{value.name} is not static")
        if value.dtype not in (ir.DataType.FLOAT, ir.DataType.INT64):
            found.append(f"{value.name} is {value.dtype}")
    return found


def built(trt: Any, step: bytes, target: str, *, twice: bool) -> dict[str, Any]:
    """What became of one build, and, if asked for, whether a second one has the same bytes."""
    try:
        plan = build_plan(trt, step, "step", target=target)
        same = {"same_on_rebuild": build_plan(trt, step, "step", target=target) == plan} if twice else {}
    except AtlasError as error:
        return {"built": False, "error": str(error)}
    return {"built": bool(plan), "bytes": len(plan), "sha256": hashlib.sha256(plan).hexdigest(), **same}


@click.command()
@click.option("--network", "networks", multiple=True, type=click.Choice(list(NETWORKS)), default=list(NETWORKS))
@click.option("--generator", "generators", multiple=True, type=click.Choice(list(GENERATORS)), default=DEFAULT)
@click.option("--layer", "only", multiple=True, help="Only these layers; otherwise all that are listed.")
@click.option("--target", "targets", multiple=True, type=click.Choice(TARGETS), default=TARGETS)
@click.option("--precision", "precisions", multiple=True, type=click.Choice(EVERY_PRECISION), default=PRECISIONS)
@click.option("--batch", default=2, show_default=True)
@click.option("--again", is_flag=True, help="Build also what the report has.")
@click.option("--table", is_flag=True, help="Print the megabytes of the plans as a table.")
@click.option("--minutes", default=0.0, help="Stop after so many; the next call goes on. 0: never.")
def main(**options: Any) -> None:
    """Build all of them."""
    import tensorrt_rtx as trt

    began = time.monotonic()
    rows: dict[str, Any] = json.loads(REPORT.read_text()) if REPORT.exists() and not options["again"] else {}
    wanted = []
    for name in options["networks"]:
        source, layers = NETWORKS[name]
        network = None
        for kind in options["generators"]:
            for layer in (name for name in layers if name in options["only"] or not options["only"]):
                keys = {
                    (precision, target): f"{name} {layer} {kind} {precision} {target}"
                    for precision in options["precisions"]
                    for target in options["targets"]
                }
                wanted += keys.values()
                if all(key in rows for key in keys.values()):
                    continue
                if options["minutes"] and time.monotonic() - began > 60 * options["minutes"]:
                    continue
                network = network or resolve_network(source, cache=CACHE)
                rows |= build_layer(trt, network, generator_of(kind, CACHE), layer, keys, options["batch"])
                REPORT.parent.mkdir(exist_ok=True)
                REPORT.write_text(json.dumps(rows, indent=1, sort_keys=True))
    if options["table"]:
        click.echo("\n".join(table({key: rows[key] for key in wanted if key in rows})))
    mine = [rows[key] for key in wanted if key in rows]
    num_built = sum(row["built"] for row in mine)
    missing = len(wanted) - len(mine)
    if missing:
        click.echo(f"{missing} not tried yet; run it again")
    click.echo(f"built {num_built}, refused {len(mine) - num_built}")
    raise SystemExit(int(num_built < len(mine)))


def table(rows: dict[str, Any]) -> list[str]:
    """Lines of Markdown: by step graph and precision how many architectures build, and the megabytes of the plans."""
    graphs: dict[str, dict[str, list[Any]]] = {}
    for key, row in rows.items():
        graph, precision, _ = key.rsplit(" ", 2)
        graphs.setdefault(graph, {}).setdefault(precision, []).append(row)
    columns = [precision for precision in EVERY_PRECISION if any(precision in found for found in graphs.values())]
    lines = [f"| network, layer, generator | {' | '.join(columns)} |", "| --- " * (1 + len(columns)) + "|"]
    for graph, found in graphs.items():
        cells = []
        for precision in columns:
            sizes = [row["bytes"] / 1e6 for row in found.get(precision, []) if row["built"]]
            spread = f"{min(sizes):.0f} to {max(sizes):.0f}" if sizes else "-"
            if sizes and round(min(sizes)) == round(max(sizes)):
                spread = f"{sizes[0]:.0f}"
            cells.append(f"{len(sizes)} of {len(found.get(precision, []))}: {spread} MB")
        lines.append(f"| {graph} | {' | '.join(cells)} |")
    return lines


def build_layer(
    trt: Any, network: Any, generator: Generator, layer: str, keys: dict[tuple[str, str], str], batch: int
) -> dict[str, Any]:
    """Rows of one layer, by key."""
    rows: dict[str, Any] = {}
    try:
        fit = "crop" if generator.image_px == 256 else "resize"
        graph = compile_step(network, generator, layer, batch=batch, ascent=Ascent(fit=fit, jitter_px=2))
        steps = {p: step_in(graph.step, p) for p in {precision for precision, _ in keys}}
        wrong = {precision: faults(step) for precision, step in steps.items()}
    except AtlasError as error:
        for key in keys.values():
            rows[key] = {"built": False, "error": str(error)}
            click.echo(f"refused  {key}: {error}")
        return rows
    for number, ((precision, target), key) in enumerate(keys.items()):
        start = time.monotonic()
        row = built(trt, steps[precision], target, twice=number == 0)
        if wrong[precision]:
            row = row | {"built": False, "error": f"{row.get('error', 'builds')}; {'; '.join(wrong[precision][:3])}"}
        rows[key] = row | {"seconds": round(time.monotonic() - start, 1)}
        what = f"{row['bytes'] / 1e6:.0f} MB" if row["built"] else row["error"]
        click.echo(f"{'built   ' if row['built'] else 'refused '} {key}: {what}, {rows[key]['seconds']} s")
    return rows


if __name__ == "__main__":
    main()
