"""What a place for small files must offer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Entry:
    """A file of a listing.

    Attributes:
        name: without its folder.
        num_bytes: its size.
        md5: hexadecimal, where the listing tells it; None where only reading would.
        age_s: seconds since it was written, by the clock of the place; 0 where the place does not tell.
        state: another whenever the file's content is; None where the place does not tell, or not yet.
    """

    name: str
    num_bytes: int
    md5: str | None
    age_s: float
    state: str | None = None


class Backend(Protocol):
    """Paths are relative to the place and use ``/``. Errors are those of the library underneath."""

    def read(self, path: str) -> bytes | None:
        """The whole file; None if there is none."""
        ...

    def write(self, path: str, data: bytes) -> None:
        """Write or replace a file; a reader sees the old one or the new one, never a part."""
        ...

    def create(self, path: str, data: bytes) -> bool:
        """Write a file that is not there yet; False, changing nothing, if it is."""
        ...

    def replace(self, path: str, old: bytes, new: bytes) -> bool:
        """Write ``new`` where the file holds exactly ``old``; False, changing nothing, otherwise."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file; nothing happens if there is none."""
        ...

    def entries(self, folder: str) -> Sequence[Entry]:
        """The files of a folder, not of folders in it; none if there is no such folder."""
        ...

    def folders(self, folder: str) -> Sequence[str]:
        """Names of the folders of a folder."""
        ...
