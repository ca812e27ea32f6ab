"""The command ``neuron-atlas``: one file per group of commands.

What a command needs is imported when it runs, so that help is quick.
"""

from __future__ import annotations

import sys

import click

from export.errors import AtlasError, InputError
from export.interrupts import listening
from pipeline.cli import (  # noqa: F401  (each adds its commands to the group)
    build,
    evidence,
    generators,
    gradients,
    models,
    store,
    synthesis,
    takeaway,
)
from pipeline.cli.group import cli

__all__ = ["cli", "main", "run"]

INTERRUPTED = 130


def main() -> None:
    """Run the command; exit with 0 done, 1 failure, 2 bad input, 130 interrupted."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line; return its exit code.

    A foreseen error is one sentence on stderr; an unforeseen one keeps its traceback.
    """
    try:
        with listening():
            cli.main(arguments, prog_name="neuron-atlas", standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return InputError.exit_code
    except AtlasError as error:
        click.secho(f"error: {error}", fg="red", err=True)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; run the same command again to resume", err=True)
        return INTERRUPTED
    except Exception:
        import traceback

        traceback.print_exc()
        click.secho("error: this is a bug; please report it with the lines above", fg="red", err=True)
        return AtlasError.exit_code
    return 0
