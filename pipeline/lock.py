"""One build at a time in one folder."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path
from typing import IO

from export.errors import AtlasError, StoreError


class BuildLock:
    """An advisory lock on a folder, held by this process and freed by the system however the process ends."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / ".lock"
        self._file: IO[str] | None = None

    def __enter__(self) -> BuildLock:
        """Take the lock.

        Raises:
            AtlasError: another build holds it.
            StoreError: the folder cannot be written.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = self._path.open("a+", encoding="utf-8")
        except OSError as error:
            raise StoreError(
                f"folder {self._path.parent} cannot be written ({error.strerror}); choose another with --out"
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise AtlasError(
                f"{self._path.parent} is being built by {holder}; wait until it has ended or choose another --out"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        self._file = file
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
