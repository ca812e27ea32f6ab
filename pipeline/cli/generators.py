"""Training generators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipeline.cli.group import cli


@cli.command("train-generator")
@click.argument("encoder")
@click.option("--images", multiple=True, required=True, help="Folder or tar of images, repeatable: PATH[:WEIGHT[:PX]].")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the run.")
@click.option("--weights", type=click.Path(path_type=Path), help="State dict for a PyTorch network.")
@click.option(
    "--code",
    type=click.Choice(["hybrid", "global", "spatial"]),
    default="hybrid",
    show_default=True,
    help="What the code is made of.",
)
@click.option("--global-layer", help="What is there; by default the last vector before the classes.")
@click.option("--spatial-layer", help="Where it is; by default the last feature map.")
@click.option("--taps", help="Feature maps to compare images in, separated by commas.")
@click.option("--resolution", type=click.IntRange(min=16), default=128, show_default=True, help="Pixels a side.")
@click.option("--steps", type=click.IntRange(min=1), default=6000, show_default=True, help="Steps in all.")
@click.option("--batch", type=click.IntRange(min=2), default=32, show_default=True, help="Images of a step.")
@click.option(
    "--lr", type=click.FloatRange(min=0, min_open=True), default=5e-4, show_default=True, help="Learning rate."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of everything random.")
@click.option("--spatial-dim", type=click.IntRange(min=1), default=32, show_default=True, help="Whitened channels.")
@click.option(
    "--map-dim",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Components of the whole spatial map; 0 for all of it, a code per position.",
)
@click.option(
    "--climbed", type=click.IntRange(min=0), help="Further rows whose codes climb the classes; a quarter of the batch."
)
@click.option("--witness", help="A network with the same classes that must see in climbed images what ENCODER sees.")
@click.option(
    "--witness-taps", help="Feature maps of the witness that the discriminator sees too, separated by commas."
)
@click.option(
    "--grid", type=click.IntRange(min=1), help="Side of the spatial code; the generator's coarsest, 4 to 7, by default."
)
@click.option(
    "--style-dim", type=click.IntRange(min=4), default=512, show_default=True, help="Width of the modulation."
)
@click.option("--every", type=click.IntRange(min=1), default=100, show_default=True, help="Steps between checkpoints.")
@click.option(
    "--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True, help="Of the convolutions."
)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--start-from", type=click.Path(path_type=Path), help="A generator whose weights are taken over.")
@click.option(
    "--start-share",
    type=click.FloatRange(min=0, max=1, max_open=True),
    default=0.0,
    show_default=True,
    help="Its share in the weights that are published: the rest is what was trained.",
)
@click.option("--trained-on", help="What the images are and on what terms; goes into the card.")
@click.option("--title", help="Title of the card.")
def train_generator(encoder: str, weights: Path | None, **options: Any) -> None:
    """Train a generator matched to ENCODER, or go on training it, and write RUN/generator.onnx.

    ENCODER is what `neuron-atlas layers` takes. RUN holds the checkpoint, a log and sheets of samples: images, their
    reconstructions, and reconstructions without the spatial code. The last line printed is the generator's path.
    """
    from pipeline.training import train

    click.echo(train(encoder, weights, click.echo, **options))
