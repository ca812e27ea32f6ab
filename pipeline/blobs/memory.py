"""Any other fsspec file system, guarded within this process only: ``memory://`` in tests."""

from __future__ import annotations

import posixpath
import threading
from collections.abc import Sequence
from typing import Any

from pipeline.blobs.backend import Entry

_guard = threading.RLock()


class MemoryBackend:
    """Conditional writes hold among the threads of one process, so only ``memory://`` is opened this way."""

    def __init__(self, fs: Any, root: str) -> None:
        self._fs, self._root = fs, root

    def read(self, path: str) -> bytes | None:
        try:
            data: bytes = self._fs.cat_file(self._path(path))
        except FileNotFoundError:
            return None
        return data

    def write(self, path: str, data: bytes) -> None:
        self._fs.makedirs(posixpath.dirname(self._path(path)), exist_ok=True)
        self._fs.pipe_file(self._path(path), data)

    def create(self, path: str, data: bytes) -> bool:
        with _guard:
            if self._fs.exists(self._path(path)):
                return False
            self.write(path, data)
        return True

    def replace(self, path: str, old: bytes, new: bytes) -> bool:
        with _guard:
            if self.read(path) != old:
                return False
            self.write(path, new)
        return True

    def remove(self, path: str) -> None:
        if self._fs.exists(self._path(path)):
            self._fs.rm_file(self._path(path))

    def entries(self, folder: str) -> Sequence[Entry]:
        return [Entry(_name(item), int(item["size"]), None, 0.0) for item in self._list(folder, "file")]

    def folders(self, folder: str) -> Sequence[str]:
        return [_name(item) for item in self._list(folder, "directory")]

    def _list(self, folder: str, kind: str) -> list[dict[str, Any]]:
        try:
            return [item for item in self._fs.ls(self._path(folder), detail=True) if item["type"] == kind]
        except FileNotFoundError:
            return []

    def _path(self, path: str) -> str:
        return posixpath.join(self._root, path) if path else self._root


def _name(item: dict[str, Any]) -> str:
    return posixpath.basename(str(item["name"]).rstrip("/"))
