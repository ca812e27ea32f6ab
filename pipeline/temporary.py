"""Files that are being written: whole or not at all; their names, and which of them a killed process left behind.

A name tells which process writes it, so that another process can tell a leftover from work in progress.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import socket
from functools import cache
from pathlib import Path

from export.errors import StoreError

SUFFIX = ".tmp"
ABANDONED_S = 24 * 3600.0
"""Age beyond which a temporary file of another machine, or of a living process, counts as a leftover."""

_NAME = re.compile(r"\..+\.([0-9a-f]{8})-(\d+)-[0-9a-f]{8}\.tmp$")


def temporary_name(name: str) -> str:
    """A hidden name for writing ``name``; no other writer has it."""
    return f".{name}.{machine()}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"


def is_leftover(name: str, age_s: float) -> bool:
    """Whether ``name`` is a temporary file that nobody writes any more."""
    match = _NAME.match(name)
    if match is None:
        return False
    if age_s > ABANDONED_S:
        return True
    return match[1] == machine() and not _alive(int(match[2]))


def is_dead_here(machine_name: str, pid: object) -> bool:
    """Whether a process was one of this machine's and has ended; False where that cannot be told."""
    return machine_name == machine() and isinstance(pid, int) and not _alive(pid)


@cache
def machine() -> str:
    """Names where process ids are comparable: host, boot, and process namespace."""
    parts = [socket.gethostname()]
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    except OSError:
        pass
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:8]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def replace_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; one that holds these bytes already is left alone.

    Raises:
        StoreError: it cannot be written.
    """
    part = path.with_name(temporary_name(path.name))
    try:
        if path.is_file() and path.read_bytes() == data:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StoreError(f"{path} cannot be written: {error.strerror}; choose another folder with --out") from error


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left half written by :func:`replace_file`."""
    for path in folder.glob(f".*{SUFFIX}"):
        if is_leftover(path.name, 0.0):
            path.unlink(missing_ok=True)
