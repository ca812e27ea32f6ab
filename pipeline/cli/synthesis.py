"""A few units without an atlas, and the codes of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipeline.cli.group import cli, output_option


@cli.command()
@click.argument("network")
@click.argument("layer")
@click.argument("units", nargs=-1)
@click.option("--generator", default="bundled:lite0-hybrid", show_default=True, help="bundled:NAME or an .onnx file.")
@click.option("--weights", type=click.Path(path_type=Path), help="State dict for a PyTorch network.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Start codes per unit.")
@click.option(
    "--attempts",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Starts tried per code; the best goes on.",
)
@click.option("--steps", type=click.IntRange(min=1), default=100, show_default=True, help="Steps of ascent.")
@click.option("--runtime", help="One that `neuron-atlas engines` lists; by default the fastest kind that can run here.")
@click.option("--mix", "mixes", multiple=True, help="Several units as one, repeatable: 'UNIT=WEIGHT; UNIT=-WEIGHT'.")
@click.option("--between", "ends", nargs=2, metavar="UNIT UNIT", help="Go from one unit to another.")
@click.option("--frames", type=click.IntRange(min=2), default=9, show_default=True, help="Pictures of --between.")
@click.option("--start", type=click.Path(path_type=Path), help="Picture to start from.")
@click.option("--position", type=(int, int), metavar="ROW COLUMN", help="Where in the layer; by default the centre.")
@click.option("--mask", type=click.Path(path_type=Path), help="Grey picture: where in the layer, resized to it.")
@click.option(
    "-o",
    "--output",
    "outputs",
    type=click.Path(dir_okay=False, path_type=Path),
    multiple=True,
    required=True,
    help="File to write, repeatable: .png a sheet, .webp an animation, .json numbers and codes.",
)
def synthesize(outputs: tuple[Path, ...], **options: Any) -> None:
    """Make a contact sheet of the preferred inputs of a few UNITS of one LAYER: a row per unit, a column per seed.

    UNITS are numbers, ranges such as 0:8, or class names. With --mix, --between, --start, --position or --mask: of
    several units at once, of units to be avoided (a negative weight), from a picture, at a place.
    """
    if not (options["units"] or options["mixes"] or options["ends"]):
        raise click.UsageError("Missing argument 'UNITS...': give units, --mix or --between")
    from pipeline.synthesize import synthesize as run_synthesis

    for line in run_synthesis(outputs=outputs, **options):
        click.echo(line)
    for output in outputs:
        click.echo(output)


@cli.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--generator", default="bundled:lite0-hybrid", show_default=True, help="As in a configuration.")
@click.option("--steps", type=click.IntRange(min=0), default=60, show_default=True, help="Steps of refinement.")
@click.option("--lr", type=click.FloatRange(min=0, min_open=True), default=0.1, show_default=True, help="Its rate.")
@click.option("--encoder", help="Where the generator's encoder is, if not where it was when it was trained.")
@click.option("--weights", type=click.Path(path_type=Path), help="State dict for a PyTorch encoder.")
@click.option("--sheet", type=click.Path(dir_okay=False, path_type=Path), help="A PNG of images and reconstructions.")
@output_option("The .npz file to write.")
def encode(images: tuple[Path, ...], generator: str, output: Path, **options: Any) -> None:
    """Find the codes of IMAGES: by the generator's encoder, then refined by steps of reconstruction.

    Writes codes (N, code_dim), their distance from the images, and the files' names.
    """
    from export.generator import resolve_generator
    from pipeline.encode import encode_files

    for line in encode_files(resolve_generator(generator), images, output, **options):
        click.echo(line)
    click.echo(output)
