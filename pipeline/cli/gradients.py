"""The gradient on its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from pipeline.cli.group import cli, output_option


@cli.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--of", help="The tensor that is differentiated; by default the only output.")
@click.option("--wrt", multiple=True, help="With respect to what, repeatable; by default the only float input.")
@click.option(
    "--cotangent",
    type=click.Choice(["input", "ones"]),
    default="input",
    show_default=True,
    help="A further input of the written model, or ones.",
)
@click.option("--shape", "shapes", multiple=True, help="An input with free dimensions, repeatable: NAME=1x3x224x224.")
@output_option("The ONNX file to write.")
def gradient(model: Path, output: Path, **options: Any) -> None:
    """Write an ONNX model that computes gradients of the ONNX file MODEL.

    It takes the inputs of MODEL and an input named cotangent, of the shape of OF, and returns OF and, for every WRT,
    d_OF/d_WRT: the derivative of the sum of cotangent x OF. It can be differentiated again. Weights over 2 GB are
    written next to it.
    """
    from pipeline.gradient import write_gradient

    for line in write_gradient(model, output, **options):
        click.echo(line)


@cli.command()
@click.argument("model")
@click.option("--layer", required=True, help="A layer that `neuron-atlas layers` lists.")
@click.option("--unit", type=click.IntRange(min=0), default=0, show_default=True, help="Number of the unit.")
@click.option("--weights", type=click.Path(path_type=Path), help="State dict for a PyTorch network.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(model: str, layer: str, unit: int, weights: Path | None, as_json: bool) -> None:
    """Compare the compiled gradient of one unit with an independent one.

    MODEL is what `neuron-atlas layers` takes. A PyTorch network is compared with autograd on its module, an ONNX file
    (or any, where PyTorch is not installed) with finite differences; in float64, for an image of noise, at the centre
    of a feature map. Exits with 1 when the relative error is above 1e-4.
    """
    from pipeline.gradient import check_unit

    report = check_unit(model, layer, unit, weights)
    for note in report.notes:
        click.echo(f"note: {note}", err=True)
    if as_json:
        click.echo(json.dumps(report.to_dict()))
    else:
        for name, value in report.to_dict().items():
            click.echo(f"{name:16} {value:.3g}" if isinstance(value, float) else f"{name:16} {value}")
    report.demand()
