"""From night to night: what changed, and what may go."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.group import cli


@cli.command()
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, as changes.json of a version.")
def diff(before: Path, after: Path | None, as_json: bool) -> None:
    """Tell which units are new, gone or changed from BEFORE to AFTER, and by how much.

    Each is the folder of a build, which stands for the version it shows, or of one of its versions. With one folder of
    a build alone, the version it shows is compared with the one before.
    """
    from pipeline.changes import compare
    from pipeline.versions import last_two, side_of

    sides = (side_of(before), side_of(after)) if after is not None else last_two(before)
    changes = compare(*sides)
    if as_json:
        click.echo(changes.to_json().decode().rstrip())
        return
    for line in changes.lines():
        click.echo(line)


@cli.command()
@click.argument("config")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Default: build/NAME.")
@click.option("--days", type=click.IntRange(min=1), help="Default: store.keep_days of CONFIG.")
@click.option("--dry-run", is_flag=True, help="Tell what would be removed; remove nothing.")
def prune(config: str, out: Path | None, days: int | None, dry_run: bool) -> None:
    """Remove results that no kept version of any atlas in the store of CONFIG shows, once they are old.

    Every build that publishes does this too.
    """
    from pipeline.config import load_config
    from pipeline.memory import format_size
    from pipeline.retention import prune as run_prune
    from pipeline.workspace import open_store

    settings = load_config(config)
    store = open_store(settings, out or settings.default_out)
    pruned = run_prune(store, days or settings.store.keep_days, dry_run=dry_run)
    for name in (*pruned.recipes, *pruned.files):
        click.echo(name)
    verb = "would be removed" if dry_run else "removed"
    click.echo(f"{len(pruned.recipes)} recipes and {len(pruned.files)} files {verb}, {format_size(pruned.num_bytes)}")
