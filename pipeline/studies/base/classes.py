"""Which class of a network a folder of a data set means."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from export.errors import InputError


class Classes:
    """Folder name -> index of a class: by an identifier listed in a file, or by one of the class's names."""

    def __init__(self, labels: Sequence[str], identifiers: Path | None = None) -> None:
        """Args:
        labels: the network's class names, synonyms separated by commas.
        identifiers: text file, one class a line: an identifier (such as a WordNet id), a space, the class's name.

        Raises:
            InputError: the file cannot be read or names other classes.
        """
        self._labels, self._listed = labels, dict[str, int]()
        if identifiers is not None:
            self._listed = _read(identifiers, labels)

    @cached_property
    def _named(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for index, label in enumerate(self._labels):
            for part in label.split(","):
                found.setdefault(_plain(part), index)
        return found

    def index(self, folder: str) -> int | None:
        """The class, None when the folder names none."""
        return self._listed.get(folder, self._named.get(_plain(folder)))


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", " ").replace("-", " ")


def _read(path: Path, labels: Sequence[str]) -> dict[str, int]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"classes {path} cannot be read: {error}") from error
    names = [line.partition(" ")[2].strip() for line in lines]
    if names == list(labels):
        return {line.partition(" ")[0]: index for index, line in enumerate(lines)}
    place = {label: index for index, label in enumerate(labels)}
    found = {line.partition(" ")[0]: place[name] for line, name in zip(lines, names, strict=True) if name in place}
    if not found:
        raise InputError(f"classes {path}: none of its {len(lines)} lines names a class of the network")
    return found
