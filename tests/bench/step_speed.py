"""Image-steps per second of every runtime that can run here, on the demo's network and generator, in turn.

    python tests/bench/step_speed.py [--layer _fc] [--batch 16] [--rounds 5]

Prints medians and the ratio to ONNX Runtime; not a test.
"""

from __future__ import annotations

import statistics
import time

import click

from engine.runtimes import builders
from export.generator import resolve_generator
from export.models import ASSETS
from export.network import load_network
from export.step import compile_step
from export.update import Ascent


@click.command()
@click.option("--layer", default="_fc", show_default=True)
@click.option("--batch", default=16, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--steps", default=5, show_default=True, help="steps per round")
def main(layer: str, batch: int, rounds: int, steps: int) -> None:
    """Time the runtimes in turn, so that a slow moment of the machine hits all of them."""
    graph = compile_step(
        load_network(ASSETS / "lite0.onnx"),
        resolve_generator("bundled:lite0-hybrid"),
        layer,
        batch=batch,
        ascent=Ascent(jitter_px=4),
    )
    runners = {n: b.build(graph, {"threads": 0}) for n, b in builders().items() if b.availability().ok}
    speeds: dict[str, list[float]] = {name: [] for name in runners}
    for turn in range(rounds + 1):
        for name, runner in runners.items():
            start = time.perf_counter()
            runner.step(steps)
            if turn:  # the first round warms up
                speeds[name].append(batch * steps / (time.perf_counter() - start))
    for name, values in speeds.items():
        ratio = statistics.median(v / o for v, o in zip(values, speeds["onnxruntime"], strict=True))
        spread = f"{min(values):.1f} to {max(values):.1f}"
        print(f"{name:14s} {statistics.median(values):7.1f} image-steps/s ({spread}), {ratio:.2f} x onnxruntime")


if __name__ == "__main__":
    main()
