"""Does an engine take as much memory as is predicted? Every case in a process of its own, peak against prediction.

    python -m tests.bench.memory [--workload lite0]

Exits with 1 where a process took more than :func:`engine.footprint.engine_bytes` promised.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import click

from engine.footprint import engine_bytes
from engine.runtimes import get_builder
from engine.tuning import Setting
from pipeline.memory import format_size, resident_bytes
from tests.bench.rivals import start, step_graph

CASES = {
    "lite0": [("_blocks.1", 8, 2), ("_blocks.4", 16, 2), ("_fc", 4, 1), ("_fc", 16, 2), ("_fc", 32, 2)],
    "resnet50": [("layer2.3.conv3", 8, 2), ("fc", 4, 1), ("fc", 8, 2)],
}


def measure(workload: str, layer: str, runtime: str, batch: int, lanes: int) -> None:
    """Build, step, decode; print what was predicted and what it took."""
    graph = step_graph(workload, layer, batch)
    before = resident_bytes()
    predicted = before + engine_bytes(graph.manifest, Setting(batch, lanes))
    with get_builder(runtime).build(graph, {"threads": 2, "lanes": lanes}) as runner:
        codes = start(workload, runner.num_slots)
        runner.fill(range(runner.num_slots), [0] * runner.num_slots, codes)
        runner.step(2)
        runner.decode(codes)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    manifest = graph.manifest
    facts = {"before": before, "weights": manifest.weight_bytes, "live": manifest.live_bytes}
    print(json.dumps({**facts, "predicted": predicted, "peak": peak}))


@click.command()
@click.option("--workload", "workloads", multiple=True, type=click.Choice(list(CASES)), default=list(CASES))
@click.option("--case", hidden=True, nargs=5)
def main(workloads: tuple[str, ...], case: tuple[str, ...] | None) -> None:
    """Measure all cases under both runtimes."""
    if case:
        measure(*case[:3], int(case[3]), int(case[4]))
        return
    over = 0
    click.echo(f"{'case':52} {'before':>8} {'weights':>8} {'live':>8} {'predicted':>10} {'peak':>8} {'share':>6}")
    for workload in workloads:
        for layer, batch, lanes in CASES[workload]:
            for runtime in ("onnxruntime", "openvino"):
                words = [workload, layer, runtime, str(batch), str(lanes)]
                command = [sys.executable, "-m", "tests.bench.memory", "--case", *words]
                found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                over += found["peak"] > found["predicted"]
                sizes = [format_size(found[key]) for key in ("before", "weights", "live", "predicted", "peak")]
                click.echo(
                    f"{workload} {layer} {runtime} batch {batch} lanes {lanes}".ljust(52)
                    + f" {sizes[0]:>8} {sizes[1]:>8} {sizes[2]:>8} {sizes[3]:>10} {sizes[4]:>8}"
                    + f" {found['peak'] / found['predicted']:6.0%}"
                )
    sys.exit(1 if over else 0)


if __name__ == "__main__":
    main()
