"""Versions of what is published in a build's folder, and the pointer that switches between them at once.

::

    OUT/versions/ID/site/index.html, units.parquet, changes.json, report.json, version.json
    OUT/current      -> versions/ID       switched by one rename
    OUT/site         -> current/site      these never change
    OUT/units.parquet -> current/units.parquet

A version is made under a temporary name, so a killed run leaves the last version shown; it is never changed afterwards.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from export.errors import InputError, StoreError, StoreUnavailableError
from pipeline.blobs.front import is_full, reason
from pipeline.changes import Side
from pipeline.registry import Version
from pipeline.site.incremental import MARKER
from pipeline.store import MALFORMED, Store
from pipeline.temporary import is_leftover, temporary_name

FOLDER, POINTER, RECORD = "versions", "current", "version.json"
LINKS = ("site", "units.parquet")


def check_folder(out: Path) -> None:
    """See that a build's folder can be written.

    Raises:
        StoreError: it cannot; the message says what to do.
    """
    probe = out / temporary_name("probe")
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise StoreError(f"folder {out} cannot be written ({reason(error)}); choose another with --out") from error


def read_record(folder: Path) -> Version | None:
    """What a version's folder says of itself; None if it is no version."""
    try:
        return Version.from_json((folder / RECORD).read_bytes())
    except (OSError, *MALFORMED):
        return None


def shown(out: Path) -> Version | None:
    """The version that a folder shows, if it is whole."""
    record = read_record(out / POINTER)
    if record is None or not (out / "site" / "index.html").is_file() or not (out / "units.parquet").is_file():
        return None
    return record


def kept(out: Path) -> list[tuple[Version, Path]]:
    """Every version of a folder, by number."""
    folders = sorted((out / FOLDER).iterdir()) if (out / FOLDER).is_dir() else []
    found = [(read_record(folder), folder) for folder in folders if not folder.name.startswith(".")]
    return sorted(((record, folder) for record, folder in found if record is not None), key=lambda pair: pair[0].number)


def side_of(folder: Path) -> Side:
    """A version to compare: a build's folder stands for what it shows.

    Raises:
        InputError: it is neither a build's folder nor a version's.
    """
    place = folder / POINTER if (folder / POINTER).exists() else folder
    place = place.resolve()
    record = read_record(place)
    if record is None:
        raise InputError(f"{folder} is neither the folder of a build that has published nor of one of its versions")
    try:
        table = (place / "units.parquet").read_bytes()
    except OSError as error:
        raise StoreError(f"{place / 'units.parquet'} cannot be read: {reason(error)}") from error
    return Side.of(record.name, table, Store(record.store or str(place.parent.parent / "store")))


def last_two(out: Path) -> tuple[Side, Side]:
    """The version before the one a build's folder shows, and that one.

    Raises:
        InputError: there is no version before.
    """
    now = shown(out)
    before = [folder for version, folder in kept(out) if now is not None and version.number < now.number]
    if now is None or not before:
        raise InputError(f"{out} has no version before the one it shows; name two folders")
    return side_of(before[-1]), side_of(out)


@contextmanager
def new_version(out: Path) -> Iterator[tuple[Path, list[Version]]]:
    """A folder to make a version in, and a list that is to receive its record; whole or not there at all.

    Raises:
        StoreError: the folder cannot be written.
        StoreUnavailableError: the disk is full; the version that was shown still is.
    """
    folder = out / FOLDER
    building, record = folder / temporary_name("version"), list[Version]()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        building.mkdir()
        yield building, record
        (building / RECORD).write_bytes(record[0].to_json())
        building.rename(folder / record[0].name)
    except OSError as error:
        if is_full(error):
            raise StoreUnavailableError(
                f"the site cannot be written to {folder}: {reason(error)}; what was published before is still shown: "
                "free some space and run again"
            ) from error
        raise StoreError(
            f"the site cannot be written to {folder} ({reason(error)}); choose another with --out"
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def show(out: Path, version: Version) -> None:
    """Switch to a version, by one rename.

    Raises:
        StoreError: the folder cannot be written.
    """
    try:
        _link(out / POINTER, f"{FOLDER}/{version.name}")
        for name in LINKS:
            if not _is_link_to(out / name, f"{POINTER}/{name}"):
                _link(out / name, f"{POINTER}/{name}")
    except OSError as error:
        raise StoreError(f"{out} cannot be written ({reason(error)}); choose another folder with --out") from error


def remove(folder: Path) -> None:
    """Remove a version's folder; what is shown must be another."""
    shutil.rmtree(folder, ignore_errors=True)


def _link(path: Path, target: str) -> None:
    """Point ``path`` at ``target``; a site or table of old that is there as a folder or file gives way."""
    if path.is_dir() and not path.is_symlink():
        if any(path.iterdir()) and not (path / MARKER).is_file():
            raise StoreError(f"{path} holds something else than a site; choose another folder, or empty it first")
        old = path.with_name(temporary_name(path.name))
        path.rename(old)
        shutil.rmtree(old, ignore_errors=True)
    part = path.with_name(temporary_name(path.name))
    part.symlink_to(target)
    part.replace(path)


def _is_link_to(path: Path, target: str) -> bool:
    return path.is_symlink() and os.readlink(path) == target


def _remove_leftovers(folder: Path) -> None:
    """Folders that killed processes left half made."""
    for path in folder.iterdir():
        if path.is_dir() and is_leftover(path.name, time.time() - path.stat().st_mtime):
            shutil.rmtree(path, ignore_errors=True)
