"""A folder of a file system that this machine has mounted."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.blobs.backend import Entry
from pipeline.temporary import temporary_name

NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)
"""Errors of file systems without hard links."""

SETTLED_S = 2.0
"""Age from which the next change of a file is sure to be told by its times; the clocks of file systems are coarse."""


class LocalBackend:
    """Files are written under a temporary name, flushed to the disk, and renamed or linked into place."""

    def __init__(self, root: str) -> None:
        self.root = Path(root)

    def read(self, path: str) -> bytes | None:
        try:
            return (self.root / path).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, path: str, data: bytes) -> None:
        with self._part(path, data) as part:
            part.replace(self.root / path)

    def create(self, path: str, data: bytes) -> bool:
        with self._part(path, data) as part:
            try:
                os.link(part, self.root / path)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                return self._create_without_links(path, data)
        return True

    def _create_without_links(self, path: str, data: bytes) -> bool:
        """Exclusive as well, but a reader may see the file while it is being written."""
        try:
            with (self.root / path).open("xb") as file:
                file.write(data)
        except FileExistsError:
            return False
        return True

    def replace(self, path: str, old: bytes, new: bytes) -> bool:
        try:
            guard = os.open((self.root / path).parent, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(guard, fcntl.LOCK_EX)
            if self.read(path) != old:
                return False
            self.write(path, new)
        finally:
            os.close(guard)
        return True

    def remove(self, path: str) -> None:
        (self.root / path).unlink(missing_ok=True)

    def entries(self, folder: str) -> Sequence[Entry]:
        now, found = time.time(), []
        try:
            with os.scandir(self.root / folder) as scan:
                for item in scan:
                    if item.is_file():
                        state = item.stat()
                        age_s = max(0.0, now - state.st_mtime)
                        found.append(Entry(item.name, state.st_size, None, age_s, _state(state, now)))
        except FileNotFoundError:
            return []
        return found

    def folders(self, folder: str) -> Sequence[str]:
        try:
            with os.scandir(self.root / folder) as scan:
                return [item.name for item in scan if item.is_dir()]
        except FileNotFoundError:
            return []

    @contextmanager
    def _part(self, path: str, data: bytes) -> Iterator[Path]:
        """A temporary file beside ``path`` that holds ``data``; it is gone afterwards, unless the process is killed."""
        target = self.root / path
        part = target.with_name(temporary_name(target.name))
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield part
        finally:
            part.unlink(missing_ok=True)


def _state(found: os.stat_result, now: float) -> str | None:
    """Number, size and times: the last is set by the system at every change, and by nobody else.

    None of a file that has just been changed: another change might not show.
    """
    if now - found.st_ctime < SETTLED_S:
        return None
    return f"{found.st_ino}-{found.st_size}-{found.st_mtime_ns}-{found.st_ctime_ns}"
