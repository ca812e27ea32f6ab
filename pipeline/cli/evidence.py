"""Around the pictures: the dataset pass and the studies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipeline.cli.group import cli, config_options, configured


@cli.command("dataset-pass")
@config_options
@click.option("--images", type=click.Path(path_type=Path), help="Folder, .tar or .txt list of pictures.")
def dataset_pass(out: Path | None, images: Path | None, **options: Any) -> None:
    """Show every picture of a data set to the network of CONFIG: statistics and exemplars of every unit.

    Resumes where it was interrupted. The last line printed is the folder of the result.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from pipeline.evidence import Given
    from pipeline.evidence import dataset_pass as run_dataset_pass

    config = configured(**options)
    folder = out or config.default_out
    columns = (TextColumn("pictures"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("pictures", total=None, rate="")
        facts = run_dataset_pass(
            config,
            folder,
            Given(images=images),
            lambda p: bar.update(task, completed=p.done, total=p.total, rate=f"{p.per_s:.0f}/s"),
        )
    for line in facts["broken"]:
        click.echo(f"note: not read: {line}", err=True)
    click.echo(f"{facts['seen']} of {facts['images']} pictures seen, {len(facts['broken'])} could not be read")
    click.echo(folder / "dataset")


@cli.command()
@config_options
@click.argument("names", nargs=-1)
@click.option("--images", type=click.Path(path_type=Path), help="Data set of the dataset pass.")
@click.option("--publish", multiple=True, help="Pattern of its paths whose pixels may be published, repeatable.")
@click.option("--judge", type=click.Path(path_type=Path), help="Network that judges: .onnx, or SqueezeNet's .npz.")
@click.option("--judge-layer", help="Layer of the judge that gives features.")
@click.option("--training", multiple=True, type=click.Path(path_type=Path), help="Training pictures of the generator.")
@click.option("--held-out", multiple=True, type=click.Path(path_type=Path), help="Pictures it was not trained on.")
@click.option("--compare", multiple=True, type=click.Path(path_type=Path), help="Configuration of another built atlas.")
@click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    type=click.Path(path_type=Path),
    help="The network in training, .onnx.",
)
@click.option("--classes", type=click.Path(path_type=Path), help="Which class a folder means: lines `ID NAME`.")
def study(
    out: Path | None,
    names: tuple[str, ...],
    config: str,
    layers: str | None,
    units: str | None,
    seeds: int | None,
    runtime: str | None,
    memory: str | None,
    **given: Any,
) -> None:
    """Run the studies NAMES, or all, over the finished atlas of CONFIG.

    A study whose inputs have not changed is kept; one with too few data, or without what it needs, is refused and says
    why. `neuron-atlas build` then publishes what they found.
    """
    from pipeline.evidence import Given, study_atlas

    settings = configured(config, layers, units, seeds, runtime, memory)
    for line in study_atlas(settings, out or settings.default_out, names, Given(**given)):
        click.echo(line)
