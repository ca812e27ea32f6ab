"""How much the dataset pass costs beyond the bare forward pass it cannot avoid.

    python tests/bench/dataset_pass.py IMAGES [--network bundled:lite0] [--layers a,b] [--count 512]

Prints pictures per second of: the network alone on decoded pictures; the pass on them; both with decoding. Rounds
alternate, so that what else the machine does falls on both, and the median of the rounds' ratios is the result.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

from export.dataset_graph import STATE, Target, compile_dataset
from export.forward import Readout, compile_forward
from export.network import Network, resolve_network
from pipeline.dataset.images import Batch, ImageSet, batches, open_images
from pipeline.dataset.passes import ORDER_SEED, _Counter
from pipeline.dataset.statistics import Statistics
from pipeline.forward import Forward, Stateful

BATCH, TOP, BINS, SAMPLE, ROUNDS = 32, 9, 64, 128, 5


def decoded(images: ImageSet, count: int, network: Network, threads: int) -> list[Batch]:
    card = network.card.input
    return list(batches(images, images.order(ORDER_SEED)[:count], BATCH, card.height, card.width, threads))


def make_pass(network: Network, targets: list[Target], threads: int) -> Callable[[Batch], None]:
    graph = compile_dataset(network, targets, batch=BATCH, top=TOP, bins=BINS)
    counted = Statistics.empty(graph.num_units, TOP, BINS)
    state = {name: counted.arrays()[name] for name in STATE}
    model = Stateful(graph.model, state, {"origin": counted.origin, "per_width": counted.per_width}, threads)
    return _Counter(counted, SAMPLE, model).add


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--network", "name", default="bundled:lite0", show_default=True)
@click.option("--layers", default="_blocks.2,_blocks.4,_blocks.7,_blocks.10,_blocks.14,_fc", show_default=True)
@click.option("--count", default=512, show_default=True)
@click.option("--threads", default=0, show_default=True)
def main(source: Path, name: str, layers: str, count: int, threads: int) -> None:
    """See the module."""
    network = resolve_network(name, cache=Path("build") / "networks")
    images = open_images(source)
    chosen = [info for info in network.layers if info.name in layers.split(",")] if layers != "all" else network.layers
    targets = [Target(info.name, info.name, info.tensor, info.shape) for info in chosen]
    last = network.layers[-1]
    bare = Forward(compile_forward(network, [Readout("out", last.tensor, "values")], batch=BATCH), threads)
    add = make_pass(network, targets, threads)
    cores = threads or os.cpu_count() or 1
    ready = decoded(images, count, network, cores)
    order, card = images.order(ORDER_SEED)[:count], network.card.input

    def stream() -> object:
        return batches(images, order, BATCH, card.height, card.width, cores)

    ways: dict[str, tuple[Callable[[], object], Callable[[Batch], object]]] = {
        "bare": (lambda: ready, lambda b: bare(image=b.pixels)),
        "pass": (lambda: ready, add),
        "bare, with decoding": (stream, lambda b: bare(image=b.pixels)),
        "pass, with decoding": (stream, add),
    }
    for batch in ready[: SAMPLE // BATCH + 1]:
        bare(image=batch.pixels)
        add(batch)
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, (source_of, work) in ways.items():
            start = time.perf_counter()
            for batch in source_of():  # type: ignore[attr-defined]
                work(batch)
            speeds[way].append(count / (time.perf_counter() - start))
    units = sum(target.num_units for target in targets)
    click.echo(f"{network.card.title}, {len(targets)} layers, {units} units, {count} pictures, batch {BATCH}")
    for way, found in speeds.items():
        click.echo(f"{way:24} {statistics.median(found):8.1f} pictures/s")
    for kind in ("", ", with decoding"):
        ratios = np.asarray(speeds[f"pass{kind}"]) / np.asarray(speeds[f"bare{kind}"])
        click.echo(f"pass / bare{kind}: median {np.median(ratios):.2f}, of rounds {np.round(ratios, 2).tolist()}")
    click.echo(
        f"pass with decoding / bare: {np.median(np.asarray(speeds['pass, with decoding']) / speeds['bare']):.2f}"
    )


if __name__ == "__main__":
    main()
