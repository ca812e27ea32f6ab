"""Plan an atlas and build it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from pipeline.cli.group import cli, config_options, configured


@cli.command()
@config_options
@click.option(
    "--compare",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Folder of another build that the Compare page shows beside this one, repeatable.",
)
def build(out: Path | None, compare: tuple[Path, ...], **options: Any) -> None:
    """Build the atlas of CONFIG, or resume it.

    CONFIG is a TOML file or the bare name of one in deploy/atlases/. What is in the store already is not computed
    again. The last line printed is the page to open.
    """
    from rich.console import Console

    from pipeline.build import build as run_build
    from pipeline.progress import format_duration, make_reporter

    config = configured(**options).beside(compare)
    console = Console()
    report = run_build(config, out or config.default_out, make_reporter(console))
    if report.num_made:
        click.echo(f"{report.num_made} of {report.num_jobs} jobs run in {format_duration(report.duration_s)}")
    if not report.published:
        click.echo("the site is up to date")
    click.echo(report.index)


@cli.command()
@config_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def plan(out: Path | None, as_json: bool, **options: Any) -> None:
    """Tell what a build of CONFIG would do, and about what it would take; run nothing."""
    from pipeline.check import check_plan
    from pipeline.memory import format_size
    from pipeline.plan import make_plan
    from pipeline.predict import predict
    from pipeline.progress import format_duration
    from pipeline.workspace import open_workspace

    config = configured(**options)
    workspace = open_workspace(config, out or config.default_out)
    made = make_plan(workspace)
    prediction = predict(workspace, made, check_plan(workspace, made))
    facts = made.to_dict()
    if as_json:
        click.echo(json.dumps({**facts, "prediction": prediction.to_dict()}))
        return
    rows = {**facts["layers"], "total": {key: facts[key] for key in ("jobs", "done", "todo")}}
    width = max(map(len, rows))
    click.echo(f"{'layer':{width}} {'jobs':>8} {'done':>8} {'todo':>8}")
    for name, row in rows.items():
        click.echo(f"{name:{width}} {row['jobs']:8} {row['done']:8} {row['todo']:8}")
    if facts["todo"]:
        click.echo(
            f"about {format_duration(prediction.duration_s)} with one process, "
            f"{format_size(prediction.memory_bytes)} of memory, {format_size(prediction.store_bytes)} in the store, "
            f"{format_size(prediction.site_bytes)} for the site; from {prediction.basis}"
        )
