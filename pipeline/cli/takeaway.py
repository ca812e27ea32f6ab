"""A built atlas in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipeline.cli.group import cli, output_option


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("layer")
@click.argument("units", nargs=-1)
@click.option("--columns", type=click.IntRange(min=1), help="Pictures in a row; by default as many as rows.")
@click.option("--cell", "cell_px", type=click.IntRange(min=16), help="Side of a picture in a PNG, in pixels.")
@output_option("A .png or .pdf file.")
def sheet(folder: Path, output: Path, **options: Any) -> None:
    """Write a contact sheet of a LAYER of the atlas built in FOLDER (build/NAME): every unit's best picture.

    UNITS are numbers and ranges such as 0:64, by default all. In a PDF the captions are text; it needs
    neuron-atlas[pdf].
    """
    from pipeline.export_sheet import write_sheet

    write_sheet(folder, output=output, **options)
    click.echo(output)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@output_option("The .tar file to write.")
def pack(folder: Path, output: Path) -> None:
    """Write the atlas built in FOLDER (build/NAME) as one tar: the table, lossless pictures, codes."""
    from pipeline.atlas import open_atlas
    from pipeline.pack import write_pack

    click.echo(f"{write_pack(open_atlas(folder), output)} pictures")
    click.echo(output)
