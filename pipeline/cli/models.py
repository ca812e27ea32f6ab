"""What there is: runtimes, layers, networks as ONNX files."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.group import cli, output_option


@cli.command()
def engines() -> None:
    """List the runtimes that can run here, and why the others cannot."""
    from engine.runtimes import builders

    found = builders()
    width = max(map(len, found))
    for name, builder in found.items():
        state = builder.availability()
        click.echo(f"{name:{width}}  {'yes' if state.ok else 'no '}  {state.detail}")


@cli.command()
@click.argument("model")
@click.option("--weights", type=click.Path(path_type=Path), help="State dict for a PyTorch network.")
def layers(model: str, weights: Path | None) -> None:
    """List the layers of MODEL and their shapes.

    MODEL is bundled:NAME, an .onnx file, torchvision:NAME, timm:NAME or python:package.module:factory.
    """
    from pipeline.workspace import network_of

    found = network_of(model, weights).layers
    width = max((len(layer.name) for layer in found), default=0)
    for layer in found:
        click.echo(f"{layer.name:{width}}  {'x'.join(map(str, layer.shape))}")


@cli.command()
@click.argument("source")
@click.option("--weights", type=click.Path(path_type=Path), help="State dict for a PyTorch network.")
@output_option("The ONNX file to write.")
def export(source: str, weights: Path | None, output: Path) -> None:
    """Write the network that SOURCE names as an ONNX file with its layer names and its card."""
    from pipeline.temporary import replace_file
    from pipeline.workspace import network_of

    replace_file(output, network_of(source, weights).path.read_bytes())
    click.echo(output)
