"""Replacing a site as a whole: built beside its place under a temporary name, then switched in."""

from __future__ import annotations

import glob
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from export.errors import StoreError
from pipeline.site.incremental import MARKER
from pipeline.temporary import is_leftover, temporary_name


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """A new folder that takes the place of ``out`` if all goes well, and vanishes if not."""
    out = out.resolve()
    building, old = (out.with_name(temporary_name(out.name)) for _ in range(2))
    try:
        _check_replaceable(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(out)
        building.mkdir()
        yield building
        if out.exists():
            out.rename(old)
        try:
            building.rename(out)
        except OSError:
            if old.exists():
                old.rename(out)
            raise
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise StoreError(
            f"the site cannot be written to {out} ({error.strerror or error}); free the folder or choose another"
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _check_replaceable(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise StoreError(f"{out} is not a folder; choose another place for the site")
    if out.exists() and any(out.iterdir()) and not (out / MARKER).is_file():
        raise StoreError(f"{out} holds something else than a site; choose another folder, or empty it first")


def _remove_leftovers(out: Path) -> None:
    """Folders that a killed process left beside the site."""
    for path in out.parent.glob(f".{glob.escape(out.name)}.*"):
        if path.is_dir() and is_leftover(path.name, time.time() - path.stat().st_mtime):
            shutil.rmtree(path, ignore_errors=True)
