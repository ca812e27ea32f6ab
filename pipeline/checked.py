"""Files of a store that were read and found whole on this machine, and in which state they were.

To read every file of a large store takes minutes on a disk. A file whose state, as a listing tells it
(:class:`pipeline.blobs.backend.Entry`), is that in which it was found whole is not read again to plan. A disk that
loses bits by itself changes no state: such a file is found out when it is read to be shown, and is made again then.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.blobs import Entry
from pipeline.facts import read_facts, write_facts
from pipeline.recipe import short_digest

CACHE = Path("build") / "stores"
"""One file per store and folder of it: file name -> [state, SHA-256]."""


class Checked:
    """What is known of one folder of a store."""

    def __init__(self, url: str, folder: str) -> None:
        where = url if "://" in url else str(Path(url).absolute())
        self._path = CACHE / f"{short_digest({'store': where, 'folder': folder})}.json"
        self._known = read_facts(self._path)
        self._seen: dict[str, list[str]] = {}

    def knows(self, file: Entry, sha256: str) -> bool:
        """Whether the file was found to have this digest and has not been touched since."""
        if file.state is None or self._known.get(file.name) != [file.state, sha256]:
            return False
        self._seen[file.name] = [file.state, sha256]
        return True

    def note(self, file: Entry, sha256: str) -> None:
        """The file was read after it was listed, and has this digest."""
        if file.state is not None:
            self._seen[file.name] = [file.state, sha256]

    def keep(self) -> None:
        """Keep what is known of the files that there still are."""
        if self._seen != self._known:
            write_facts(self._path, self._seen)
