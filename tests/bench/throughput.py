"""Ours against everything else that climbs, side by side: image-steps per second, and units per hour.

    python -m tests.bench.throughput [--workload lite0] [--layer _fc] [--rounds 5] [--out build/bench.json]

Every row runs in a process of its own (see :mod:`tests.bench.rivals`). A layer's anchor, our ONNX Runtime engine, stays
alive; each other row takes steps in turn with it, so that a slow moment of the machine hits both, and no more than two
are in memory. A row's speed is its ratio to the anchor in these rounds, times the anchor's median over all of them. A
workload's figure weighs its layers by the units they stand for. Rows are written to the JSON as they are measured, and
those of the same code are kept when it is run again. Writes a plot beside it, and prints the table.
"""

from __future__ import annotations

import json
import math
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import click
import numpy as np
import onnx
import onnx_ir as ir

from engine.host import num_threads
from engine.runtimes import get_builder
from engine.runtimes.openvino import CPUINFO, cpu_flags
from export.arithmetic import multiply_additions
from export.manifest import GRAPH_REVISION
from export.passes.shapes import infer_shapes
from export.update import Ascent
from pipeline.temporary import replace_file
from tests.bench.rivals import PUBLISHED, forward_model, start, step_graph
from tests.bench.rivals import workload as load

LAYERS = {
    # of every network: the sampled layer and the units it stands for
    "lite0": {"_blocks.4": 168, "_blocks.10": 576, "_fc": 3368},
    "resnet50": {"layer2.3.conv3": 5056, "layer3.5.conv3": 10240, "fc": 12264},
}
ROWS = ("published", "torch-eager", "torch-compile-fp32", "torch-compile-bf16", "onnx-ad", "onnxruntime", "openvino")
OURS = ("onnxruntime", "openvino")
ANCHOR = "onnxruntime"
SLOW_S = 20.0
"""A row whose step takes longer is measured once and no more."""
BF16_FLAGS = {"avx512_bf16", "amx_bf16"}


class Process:
    """One row of one layer at work."""

    def __init__(self, name: str, workload: str, layer: str, batch: int) -> None:
        command = [sys.executable, "-m", "tests.bench.rivals", name, workload, layer]
        command += ["--batch", str(batch), "--threads", str(num_threads({}))]
        self.name, self._batch = name, batch
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        begun = time.monotonic()
        self._reply()
        click.echo(f"  {name}: ready after {time.monotonic() - begun:.0f} s", err=True)

    def _reply(self) -> list[str]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with exit code {self._process.wait()}")
        return line.split()

    def step(self) -> float:
        """Image-steps per second of one step."""
        stdin: IO[str] | None = self._process.stdin
        assert stdin is not None
        stdin.write("\n")
        stdin.flush()
        _, seconds, images = self._reply()
        return int(images) / float(seconds)

    def finish(self) -> int:
        """End it; the bytes it took at its peak."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        peak = int(self._reply()[1])
        self._process.wait()
        return peak


def measure_row(name: str, workload: str, layer: str, batch: int, rounds: int, anchor: Process) -> dict[str, Any]:
    """Steps in turn with the anchor; the anchor itself takes its own."""
    if "bf16" in name and not BF16_FLAGS & cpu_flags():
        return {"reason": "the processor has no bf16 instructions"}
    try:
        row = Process(name, workload, layer, batch) if name != anchor.name else anchor
        speeds, beside = [], []
        for _ in range(rounds):
            beside.append(anchor.step())
            speeds.append(row.step() if row is not anchor else beside[-1])
            if batch / speeds[-1] > SLOW_S:
                break
        peak = row.finish() if row is not anchor else None
    except RuntimeError as error:
        return {"reason": str(error)}
    ratios = [a / b for a, b in zip(speeds, beside, strict=True)]
    return {"speeds": speeds, "anchor": beside, "ratio": statistics.median(ratios), "peak_bytes": peak}


def measure_layer(
    workload: str, layer: str, rows: Sequence[str], batch: int, rounds: int, keep: Callable[[str, dict[str, Any]], None]
) -> None:
    """Measure rows of a layer beside its anchor; ``keep`` is told of each."""
    anchor = Process(ANCHOR, workload, layer, batch)
    for name in rows:
        keep(name, measure_row(name, workload, layer, batch, rounds, anchor))
    keep("", {"peak_bytes": anchor.finish()})


def matmul_peak_gflops(side: int = 2048) -> float:
    """The best of some fp32 matrix products by NumPy's BLAS: what the processor can do."""
    a = np.random.default_rng(0).normal(size=(side, side)).astype(np.float32)
    best = np.inf
    for _ in range(8):
        begun = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - begun)
    return 2 * side**3 / best / 1e9


def graph_facts(workload: str, layer: str) -> dict[str, Any]:
    """Of one image-step: floating-point operations of its products, with the cone and without. Of compiling it, without
    the cone and for a batch of 8: seconds of the processor, and gradient and update nodes per forward node."""
    network, generator, _ = opened = load(workload)
    network.model(1), generator.model(1)  # read
    begun = time.process_time()
    whole = step_graph(workload, layer, 8, cone=False, opened=opened)
    seconds = time.process_time() - begun
    nodes = len(onnx.load_from_string(whole.step).graph.node)
    forward = len(forward_model(workload, layer, 8).graph.node)
    flops = {}
    for cone in (False, True):
        model = ir.from_proto(onnx.load_from_string(step_graph(workload, layer, 1, cone=cone, opened=opened).step))
        infer_shapes(model)
        flops[str(cone)] = 2 * multiply_additions(model.graph)
    return {"flops": flops, "compile_s": seconds, "gradient_nodes_per_forward_node": (nodes - forward) / forward}


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
    """The shortest of our schedules that climbs as high as the published one (200 steps, its rate tuned), by bisection.

    No clock is read: the machine may be busy.
    """
    rates = {rate: mean_best(workload, layer, Ascent("normalized", 200, rate, 1e-10)) for rate in (0.1, 0.3, 0.6, 1.0)}
    rate, height = max(rates.items(), key=lambda item: item[1])
    ours = {0: -math.inf}
    while len(untried := [n for n in SCHEDULES if _decides(n, ours, height)]):
        steps = untried[len(untried) // 2]
        ours[steps] = mean_best(workload, layer, Ascent("adam", steps))
    reached = [steps for steps, found in ours.items() if found >= height]
    steps = min(reached, default=max(ours))
    found = ours[steps]
    return {"published": height, "rate": rate, "steps": steps, "ours": found, "reached": bool(reached)}


SCHEDULES = tuple(range(30, 201, 5))
"""Lengths of ours that are tried."""


def _decides(steps: int, tried: dict[int, float], height: float) -> bool:
    """Whether it is not known yet if so many steps suffice; more steps climb higher."""
    short = max(n for n, found in tried.items() if found < height)
    enough = min((n for n, found in tried.items() if found >= height), default=math.inf)
    return short < steps < enough


class Results:
    """What has been measured, in a JSON file that grows; that of other code is forgotten."""

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        self.path = path
        self.data: dict[str, Any] = {**facts, "measured": {}, "activation": {}}
        try:
            known = json.loads(path.read_text())
        except (OSError, ValueError):
            known = {}
        if known.get("key") == facts["key"]:
            self.data |= {part: known[part] for part in ("measured", "activation")}

    def of_layer(self, workload: str, layer: str) -> dict[str, Any]:
        found: dict[str, Any] = self.data["measured"].setdefault(f"{workload} {layer}", {})
        return found

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self.path, (json.dumps(self.data, indent=1) + "\n").encode())


@click.command()
@click.option("--workload", "workloads", multiple=True, type=click.Choice(list(LAYERS)), default=list(LAYERS))
@click.option("--row", "rows", multiple=True, type=click.Choice(ROWS), default=list(ROWS))
@click.option("--layer", "only", multiple=True, help="Measure only these of the sampled layers.")
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
    flags = sorted(f for f in cpu_flags() if f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16"))
    machine = f"{cpu_name()}, {num_threads({})} threads, {', '.join(flags)}"
    results = Results(out, {"key": [machine, GRAPH_REVISION, batch], "machine": machine, "command": COMMAND})
    results.data["matmul_peak_gflops"] = round(matmul_peak_gflops(), 1)
    for workload in workloads:
        for layer in LAYERS[workload]:
            known = results.of_layer(workload, layer)
            if only and layer not in only:
                continue

            def keep(name: str, found: dict[str, Any], known: dict[str, Any] = known) -> None:
                known[name or ANCHOR] = {**known.get(name or ANCHOR, {}), **found}
                results.write()

            todo = [name for name in rows if "speeds" not in known.get(name, {})]
            if todo:
                click.echo(f"{workload} {layer}", err=True)
                measure_layer(workload, layer, todo, batch, rounds, keep)
            if "graph" not in known:
                known["graph"] = graph_facts(workload, layer)
            if activation and workload == "lite0" and layer not in results.data["activation"]:
                results.data["activation"][layer] = steps_at_equal_activation(workload, layer)
                click.echo(f"  {results.data['activation'][layer]}", err=True)
            results.write()
    results.data["rows"] = [summary(workload, name, results.data) for workload in workloads for name in rows]
    results.write()
    show(results.data)
    plot(results.data, out.with_suffix(".png"))


COMMAND = "make bench"


def cpu_name() -> str:
    """As Linux names it."""
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def summary(workload: str, name: str, data: dict[str, Any]) -> dict[str, Any]:
    """One row over all layers of a workload: harmonic means, weighted by units."""
    layers = LAYERS[workload]
    measured = {layer: data["measured"].get(f"{workload} {layer}", {}) for layer in layers}
    speeds = {}
    for layer, rows in measured.items():
        if "ratio" in rows.get(name, {}):
            anchor = statistics.median([speed for row in rows.values() for speed in row.get("anchor", ())])
            speeds[layer] = rows[name]["ratio"] * anchor
    total = sum(layers.values())
    rate = per_hour = share = None
    if len(speeds) == len(layers):
        rate = total / sum(units / speeds[layer] for layer, units in layers.items())
        equal = data["activation"] if workload == "lite0" else {}
        if len(equal) == len(layers):
            steps = {x: (equal[x]["steps"] if name in OURS else PUBLISHED.steps) for x in layers}
            per_hour = 3600 * total / sum(units * steps[x] / speeds[x] for x, units in layers.items())
        work = sum(units * measured[x]["graph"]["flops"][str(name in OURS)] for x, units in layers.items()) / total
        share = rate * work / data["matmul_peak_gflops"] / 1e9
    spread = {x: [min(rows[name]["speeds"]), max(rows[name]["speeds"])] for x, rows in measured.items() if x in speeds}
    reasons = {rows[name]["reason"] for rows in measured.values() if "reason" in rows.get(name, {})}
    return {
        "workload": workload,
        "name": name,
        "image_steps_per_s": rate,
        "units_per_hour_equal_activation": per_hour,
        "share_of_peak": share,
        "peak_memory_bytes": max((rows.get(name, {}).get("peak_bytes") or 0 for rows in measured.values()), default=0),
        "by_layer": speeds,
        "spread": spread,
        "reason": "; ".join(sorted(reasons)),
    }


def show(result: dict[str, Any]) -> None:
    click.echo(f"{result['machine']}; fp32 matrix product {result['matmul_peak_gflops']:.0f} GFLOP/s")
    rows = result["rows"]
    for place, found in result["measured"].items():
        if "graph" in found:
            graph = found["graph"]
            click.echo(
                f"{place}: compiled in {graph['compile_s']:.1f} s, {graph['gradient_nodes_per_forward_node']:.2f} "
                f"gradient nodes per forward node, cone {graph['flops']['False'] / graph['flops']['True']:.2f}"
            )
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
                f"{_cell(memory and memory / 2**30, '.1f') + ' GiB':>13}  {row['reason']}"
            )
            click.echo("    " + ", ".join(f"{layer} {speed:.2f}" for layer, speed in row["by_layer"].items()))


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
    if not workloads:
        return
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
