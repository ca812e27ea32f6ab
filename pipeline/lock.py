"""Locks on files of this machine, freed by the system however their holder ends."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from export.errors import StoreError

LOOK_S = 0.5


class FileLock:
    """An exclusive advisory lock; entering waits for it. Use as a context manager.

    ``kill -9`` of the holder frees it at once: the kernel does.
    """

    def __init__(self, path: Path, on_wait: Callable[[str], None] = lambda holder: None) -> None:
        """``on_wait`` is told once who holds the lock, if somebody does."""
        self.path = path
        self._on_wait = on_wait
        self._file: IO[str] | None = None

    def __enter__(self) -> FileLock:
        """Raises StoreError if the file cannot be made."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("a+", encoding="utf-8")
        except OSError as error:
            raise StoreError(
                f"folder {self.path.parent} cannot be written ({error.strerror}); choose another"
            ) from error
        try:
            self._wait(file)
        except BaseException:
            file.close()
            raise
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        self._file = file
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _wait(self, file: IO[str]) -> None:
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if not told:
                    file.seek(0)
                    self._on_wait(file.read().strip() or "another process")
                    told = True
                time.sleep(LOOK_S)
