"""The command's group, and the options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from pipeline.config import AtlasConfig

F = TypeVar("F", bound=Callable[..., Any])


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="neuron-atlas")
def cli() -> None:
    """Synthesise the preferred input of every unit of an image network."""


def config_options(command: Any) -> Any:
    """CONFIG and the options that override it."""
    for decorate in reversed(
        (
            click.argument("config"),
            click.option("--layers", help="Only these layers, separated by commas."),
            click.option("--units", help="Only these units of every layer: all, 0:64, 3,17,40:50, or a class name."),
            click.option("--seeds", type=click.IntRange(min=1), help="Seeds (start codes) per unit."),
            click.option("--runtime", help="One that `neuron-atlas engines` lists."),
            click.option("--memory", help="What a process may take at its peak, such as 4GiB."),
            click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Default: build/NAME."),
        )
    ):
        command = decorate(command)
    return command


def output_option(what: str) -> Callable[[F], F]:
    """The option of the one file that a command writes."""
    return click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help=what)


def configured(
    config: str,
    layers: str | None,
    units: str | None,
    seeds: int | None,
    runtime: str | None,
    memory: str | None,
) -> AtlasConfig:
    """The configuration that :func:`config_options` describe."""
    from pipeline.config import load_config, read_overrides

    return read_overrides(layers, units, seeds, runtime, memory).apply(load_config(config))
