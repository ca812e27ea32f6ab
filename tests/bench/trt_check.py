"""Builds step graphs for real with TensorRT for RTX, on a machine without a GPU: `make trt-check`.

    python -m tests.bench.trt_check [--network NAME] [--layer LAYER] [--generator bundled|fc6] [--target SM89] ...

Every network, generator, layer, architecture and precision is built; a build counts if the plan exists, all shapes are
static, and inputs and outputs are float32 or int64. The first of each layer is built twice, and the report says whether
the plans are equal. The
fc6 generator (random weights) is at a quarter of its width: at full width the 32 builds of a network would take hours.
Results go to build/trt-check.json and are kept: what is there is not built again unless --again. The last line is
`built N, refused M`.
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import click
import onnx

from engine.plans import build_plan
from export.errors import AtlasError
from export.generator import Generator, load_generator, resolve_generator
from export.network import resolve_network
from export.passes.precision import step_in
from export.step import compile_step
from export.update import Ascent

TARGETS = ("SM80", "SM86", "SM89", "SM120")
PRECISIONS = ("fp32", "fp16")
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
FC6_WIDTH = 0.25


def fc6(cache: Path) -> Generator:
    """The published generator's architecture at a quarter of its width, random weights."""
    path = cache / "fc6-quarter.onnx"
    if not path.exists():
        from export.generators.deepsim import randomised, save_generator

        cache.mkdir(parents=True, exist_ok=True)
        save_generator(randomised(FC6_WIDTH), path)
    return load_generator(path)


def checked_build(trt: Any, step: bytes, target: str) -> bytes:
    """The plan of a step graph.

    Raises:
        EngineError: it does not build.
        AssertionError: it is not what a runner needs.
    """
    graph = onnx.load_from_string(step).graph
    for value in (*graph.input, *graph.output):
        assert all(d.dim_value > 0 for d in value.type.tensor_type.shape.dim), f"{value.name} is not static"
        assert value.type.tensor_type.elem_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.INT64), value.name
    plan = build_plan(trt, step, "step", target=target)
    assert plan, "the plan is empty"
    return plan


@click.command()
@click.option("--network", "networks", multiple=True, type=click.Choice(list(NETWORKS)), default=list(NETWORKS))
@click.option(
    "--generator", "generators", multiple=True, type=click.Choice(["bundled", "fc6"]), default=["bundled", "fc6"]
)
@click.option("--layer", "only", multiple=True, help="Only these layers; otherwise all that are listed.")
@click.option("--target", "targets", multiple=True, type=click.Choice(TARGETS), default=TARGETS)
@click.option("--precision", "precisions", multiple=True, type=click.Choice(PRECISIONS), default=PRECISIONS)
@click.option("--batch", default=2, show_default=True)
@click.option("--again", is_flag=True, help="Build also what the report has.")
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
            generator = resolve_generator("bundled:lite0-hybrid", cache=CACHE) if kind == "bundled" else fc6(CACHE)
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
                rows |= build_layer(trt, network, generator, layer, keys, options["batch"])
                REPORT.parent.mkdir(exist_ok=True)
                REPORT.write_text(json.dumps(rows, indent=1, sort_keys=True))
    mine = [rows[key] for key in wanted if key in rows]
    built = sum(row["built"] for row in mine)
    missing = len(wanted) - len(mine)
    if missing:
        click.echo(f"{missing} not tried yet; run it again")
    click.echo(f"built {built}, refused {len(mine) - built}")
    raise SystemExit(int(built < len(mine)))


def build_layer(
    trt: Any, network: Any, generator: Generator, layer: str, keys: dict[tuple[str, str], str], batch: int
) -> dict[str, Any]:
    """Rows of one layer, by key."""
    rows: dict[str, Any] = {}
    try:
        fit = "crop" if generator.image_px == 256 else "resize"
        graph = compile_step(network, generator, layer, batch=batch, ascent=Ascent(fit=fit, jitter_px=2))
        steps = {p: step_in(graph.step, p) for p in {precision for precision, _ in keys}}
    except AtlasError as error:
        for key in keys.values():
            rows[key] = {"built": False, "error": str(error)}
            click.echo(f"refused  {key}: {error}")
        return rows
    for number, ((precision, target), key) in enumerate(keys.items()):
        start = time.monotonic()
        try:
            plan = checked_build(trt, steps[precision], target)
            same = checked_build(trt, steps[precision], target) == plan if number == 0 else None
        except (AtlasError, AssertionError) as error:
            rows[key] = {"built": False, "error": str(error)}
        else:
            rows[key] = {"built": True, "bytes": len(plan), "sha256": hashlib.sha256(plan).hexdigest()}
            if same is not None:
                rows[key]["same_on_rebuild"] = same
        row = rows[key] | {"seconds": round(time.monotonic() - start, 1)}
        rows[key] = row
        what = f"{row['bytes'] / 1e6:.0f} MB" if row["built"] else row["error"]
        click.echo(f"{'built   ' if row['built'] else 'refused '} {key}: {what}, {row['seconds']} s")
    return rows


if __name__ == "__main__":
    main()
