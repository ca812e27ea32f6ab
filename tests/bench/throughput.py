"""Ours against everything else that climbs, side by side: image-steps per second, and units per hour.

    python -m tests.bench.throughput [--workload lite0] [--rounds 5] [--out build/bench.json]

Every row runs in a process of its own (see :mod:`tests.bench.rivals`); all rows of a layer are alive at once and take
steps in turn, so that a slow moment of the machine hits all of them. A workload's figure weighs its layers by the units
they stand for. Writes JSON and a plot beside it, and prints the table.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import click
import numpy as np
import onnx
import onnx_ir as ir

from engine.host import num_threads
from engine.runtimes import get_builder
from engine.runtimes.openvino import cpu_flags
from export.arithmetic import multiply_additions
from export.passes.shapes import infer_shapes
from export.update import Ascent
from tests.bench.rivals import PUBLISHED, start, step_graph

LAYERS = {
    # of every network: the sampled layer and the units it stands for
    "lite0": {"_blocks.4": 168, "_blocks.10": 576, "_fc": 3368},
    "resnet50": {"layer2.3.conv3": 5056, "layer3.5.conv3": 10240, "fc": 12264},
}
ROWS = ("published", "torch-eager", "torch-compile-fp32", "torch-compile-bf16", "onnx-ad", "onnxruntime", "openvino")
OURS = ("onnxruntime", "openvino")
SLOW_S = 20.0
"""A row whose step takes longer is measured once and no more."""


@dataclass
class Row:
    """One row of one layer at work."""

    name: str
    process: subprocess.Popen[str]
    speeds: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    reason: str = ""

    def reply(self) -> list[str]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.reason = f"ended with exit code {self.process.wait()}"
            raise RuntimeError(self.reason)
        return line.split()

    def step(self) -> None:
        stdin: IO[str] | None = self.process.stdin
        assert stdin is not None
        stdin.write("\n")
        stdin.flush()
        _, seconds, images = self.reply()
        self.speeds.append(int(images) / float(seconds))

    def finish(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.peak_bytes = int(self.reply()[1])
        self.process.wait()


def measure_layer(workload: str, layer: str, rows: list[str], batch: int, rounds: int) -> list[Row]:
    """Build every row, then let them take steps in turn."""
    alive: list[Row] = []
    failed: list[Row] = []
    for name in rows:
        command = [sys.executable, "-m", "tests.bench.rivals", name, workload, layer]
        command += ["--batch", str(batch), "--threads", str(num_threads({}))]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        row = Row(name, process)
        begun = time.monotonic()
        try:
            row.reply()
            alive.append(row)
            click.echo(f"  {name}: ready after {time.monotonic() - begun:.0f} s", err=True)
        except RuntimeError:
            failed.append(row)
            click.echo(f"  {name}: {row.reason}", err=True)
    for _ in range(rounds):
        for row in alive:
            if not row.speeds or min(row.speeds) * SLOW_S > batch:
                row.step()
    for row in alive:
        row.finish()
    return alive + failed


def matmul_peak_gflops(side: int = 2048) -> float:
    """The best of some fp32 matrix products by NumPy's BLAS: what the processor can do."""
    a = np.random.default_rng(0).normal(size=(side, side)).astype(np.float32)
    best = np.inf
    for _ in range(8):
        begun = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - begun)
    return 2 * side**3 / best / 1e9


def flops_of(workload: str, layer: str, *, cone: bool) -> int:
    """Floating-point operations of one image-step's products."""
    model = ir.from_proto(onnx.load_from_string(step_graph(workload, layer, 1, cone=cone).step))
    infer_shapes(model)
    return 2 * multiply_additions(model.graph)


def mean_best(workload: str, layer: str, ascent: Ascent, num_units: int = 16) -> float:
    """Mean over units of the best activation of a whole run, fp32, without jitter."""
    threads = num_threads({})
    graph = step_graph(workload, layer, max(1, num_units // threads), ascent)
    with get_builder("auto").build(graph, {"threads": threads, "lanes": threads}) as runner:
        slots = range(runner.num_slots)
        units = np.linspace(0, runner.manifest.num_units - 1, runner.num_slots).astype(int).tolist()
        runner.fill(slots, units, start(workload, runner.num_slots))
        runner.step(ascent.steps)
        return float(runner.scalars().best_activation.mean())


def steps_at_equal_activation(workload: str, layer: str) -> dict[str, Any]:
    """The shortest of our schedules that climbs as high as the published one (200 steps, its rate tuned)."""
    rates = {rate: mean_best(workload, layer, Ascent("normalized", 200, rate, 1e-10)) for rate in (0.1, 0.3, 1.0)}
    rate, height = max(rates.items(), key=lambda item: item[1])
    for steps in (60, 80, 100, 120, 140, 160, 180, 200):
        ours = mean_best(workload, layer, Ascent("adam", steps, 0.4, 0.0, 0.5, 0.9))
        if ours >= height:
            break
    return {"layer": layer, "published": height, "rate": rate, "steps": steps, "ours": ours, "reached": ours >= height}


@click.command()
@click.option("--workload", "workloads", multiple=True, type=click.Choice(list(LAYERS)), default=list(LAYERS))
@click.option("--row", "rows", multiple=True, type=click.Choice(ROWS), default=list(ROWS))
@click.option("--layer", "only", multiple=True, help="Only these of the sampled layers.")
@click.option("--batch", default=8, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--activation/--no-activation", default=True, help="Look for equal activation on lite0 (minutes).")
@click.option("--out", default=Path("build") / "bench.json", type=click.Path(path_type=Path), show_default=True)
def main(
    workloads: tuple[str, ...],
    rows: tuple[str, ...],
    only: tuple[str, ...],
    batch: int,
    rounds: int,
    activation: bool,
    out: Path,
) -> None:
    """Measure, print, write."""
    peak = matmul_peak_gflops()
    result: dict[str, Any] = {
        "machine": f"{platform.processor() or platform.machine()}, {num_threads({})} threads, "
        + ", ".join(sorted(f for f in cpu_flags() if f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16"))),
        "command": " ".join(["python -m tests.bench.throughput", *sys.argv[1:]]),
        "matmul_peak_gflops": round(peak, 1),
        "rows": [],
        "layers": [],
        "activation": [],
    }
    for workload in workloads:
        layers = {k: v for k, v in LAYERS[workload].items() if not only or k in only}
        found: dict[str, dict[str, Row]] = {}
        for layer in layers:
            click.echo(f"{workload} {layer}", err=True)
            found[layer] = {row.name: row for row in measure_layer(workload, layer, list(rows), batch, rounds)}
        equal = {}
        if activation and workload == "lite0":
            for layer in layers:
                equal[layer] = steps_at_equal_activation(workload, layer)
                click.echo(f"  {equal[layer]}", err=True)
            result["activation"] += list(equal.values())
        flops = {(layer, cone): flops_of(workload, layer, cone=cone) for layer in layers for cone in (False, True)}
        for layer, made in found.items():
            for row in made.values():
                result["layers"].append(
                    {
                        "workload": workload,
                        "layer": layer,
                        "name": row.name,
                        "image_steps_per_s": row.speeds,
                        "reason": row.reason,
                    }
                )
        for name in rows:
            made_rows = {layer: made[name] for layer, made in found.items()}
            result["rows"].append(summary(workload, name, layers, made_rows, equal, flops, peak))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    show(result)
    plot(result, out.with_suffix(".png"))


def summary(
    workload: str,
    name: str,
    layers: dict[str, int],
    rows: dict[str, Row],
    equal: dict[str, Any],
    flops: dict[tuple[str, bool], int],
    peak: float,
) -> dict[str, Any]:
    """One row over all layers of a workload: harmonic means, weighted by units."""
    speeds = {layer: statistics.median(row.speeds) for layer, row in rows.items() if row.speeds}
    complete = len(speeds) == len(layers)
    total = sum(layers.values())
    rate = total / sum(units / speeds[layer] for layer, units in layers.items()) if complete else None
    per_hour = None
    if complete and equal:
        steps = {x: (equal[x]["steps"] if name in OURS else PUBLISHED.steps) for x in layers}
        per_hour = 3600 * total / sum(units * steps[x] / speeds[x] for x, units in layers.items())
    work = sum(units * flops[x, name in OURS] for x, units in layers.items()) / total
    spread = [f"{x} {min(r.speeds):.1f} to {max(r.speeds):.1f}" for x, r in rows.items() if r.speeds]
    return {
        "workload": workload,
        "name": name,
        "image_steps_per_s": rate,
        "units_per_hour_equal_activation": per_hour,
        "share_of_peak": rate * work / peak / 1e9 if rate else None,
        "peak_memory_bytes": max((row.peak_bytes for row in rows.values()), default=0) or None,
        "by_layer": speeds,
        "spread": spread,
    }


def show(result: dict[str, Any]) -> None:
    click.echo(f"{result['machine']}; fp32 matrix product {result['matmul_peak_gflops']:.0f} GFLOP/s")
    rows = result["rows"]
    for workload in dict.fromkeys(row["workload"] for row in rows):
        mine = [row for row in rows if row["workload"] == workload]
        best = max((r["image_steps_per_s"] or 0 for r in mine if r["name"].startswith("torch-compile")), default=0)
        click.echo(
            f"\n{workload:22} image-steps/s   x torch.compile   units/h, equal activation   share of peak   peak memory"
        )
        for row in mine:
            rate, hour, share, memory = (
                row[k]
                for k in ("image_steps_per_s", "units_per_hour_equal_activation", "share_of_peak", "peak_memory_bytes")
            )
            click.echo(
                f"{row['name']:22} {_cell(rate, '.2f'):>13} {_cell(rate and best and rate / best, '.2f'):>17} "
                f"{_cell(hour, '.0f'):>27} {_cell(share and 100 * share, '.0f') + ' %':>15} "
                f"{_cell(memory and memory / 2**30, '.1f') + ' GiB':>13}"
            )


def _cell(value: float | None, form: str) -> str:
    return format(value, form) if value else "-"


def plot(result: dict[str, Any], path: Path) -> None:
    """Bars of image-steps per second; left out where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        click.echo("no plot: matplotlib is not installed", err=True)
        return
    matplotlib.use("svg")
    from matplotlib import pyplot

    rows = [row for row in result["rows"] if row["image_steps_per_s"]]
    workloads = list(dict.fromkeys(row["workload"] for row in rows))
    figure, axes = pyplot.subplots(1, len(workloads), figsize=(6 * len(workloads), 3.5), squeeze=False)
    for axis, workload in zip(axes[0], workloads, strict=True):
        mine = [row for row in rows if row["workload"] == workload][::-1]
        colours = ["#0b7a75" if row["name"] in OURS else "#b0b0b0" for row in mine]
        bars = axis.barh([row["name"] for row in mine], [row["image_steps_per_s"] for row in mine], color=colours)
        axis.bar_label(bars, fmt="%.1f", padding=3)
        axis.set(title=workload, xlabel="image-steps per second")
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.12)
    figure.tight_layout()
    figure.savefig(path)
    click.echo(f"{path}", err=True)


if __name__ == "__main__":
    main()
