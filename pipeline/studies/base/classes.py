"""Which class of a network a folder of a data set means."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from export.errors import InputError

IN_ORDER = 0.95
"""A file of a line per class is in the network's order when this share of lines names the class at its place."""


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
        """Names that one class alone has."""
        owners: dict[str, set[int]] = {}
        for index, label in enumerate(self._labels):
            for name in _names(label):
                owners.setdefault(name, set()).add(index)
        return {name: next(iter(found)) for name, found in owners.items() if len(found) == 1}

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
    pairs = [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in lines]
    if len(pairs) == len(labels):
        alike = [bool(_names(name) & _names(label)) for (_, name), label in zip(pairs, labels, strict=True)]
        if sum(alike) >= IN_ORDER * len(alike):
            return {identifier: index for index, (identifier, _) in enumerate(pairs)}
    named = Classes(labels)
    found = {}
    for identifier, text in pairs:
        classes = {index for name in _names(text) if (index := named.index(name)) is not None}
        if len(classes) == 1:
            found[identifier] = classes.pop()
    if not found:
        raise InputError(f"classes {path}: none of its {len(lines)} lines names a class of the network")
    return found


def _names(label: str) -> set[str]:
    """``"tench, Tinca tinca"`` has two."""
    return {_plain(part) for part in label.split(",")} - {""}
