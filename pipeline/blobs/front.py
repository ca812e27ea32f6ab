"""The front: one object for every place, that waits while the place is away and puts errors in words."""

from __future__ import annotations

import errno
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import urlsplit

import fsspec

from export.errors import StoreError, StoreUnavailableError
from pipeline.blobs.backend import Backend, Entry
from pipeline.blobs.local import LocalBackend
from pipeline.blobs.memory import MemoryBackend
from pipeline.blobs.s3 import S3Backend

log = logging.getLogger(__name__)
T = TypeVar("T")

PATIENCE_S = 600.0
"""How long an operation is tried again while the place is away."""
FIRST_DELAY_S, LONGEST_DELAY_S = 0.5, 15.0
NUM_READERS = 16
"""Files that are read at once from a place far away."""

_AWAY = {
    getattr(errno, name)
    for name in [
        "EIO",
        "ESTALE",
        "ETIMEDOUT",
        "ENOTCONN",
        "EHOSTDOWN",
        "EHOSTUNREACH",
        "ENETUNREACH",
        "ECONNREFUSED",
        "ECONNRESET",
        "ECONNABORTED",
        "EAGAIN",
        "EBUSY",
        "EPIPE",
        "ENETDOWN",
        "ENETRESET",
    ]
    if hasattr(errno, name)
}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_HOPELESS = (
    "NoCredentials",
    "PartialCredentials",
    "ProfileNotFound",
    "ParamValidation",
    "CredentialRetrieval",
    "NoRegion",
)
_RETRIED_CODES = (
    "SlowDown",
    "RequestTimeout",
    "InternalError",
    "ServiceUnavailable",
    "Throttling",
    "503",
    "500",
    "429",
)


class Blobs:
    """Small files under one URL.

    Every method raises :class:`StoreError` when the place refuses (no right to write, no bucket, no such machine), and
    :class:`StoreUnavailableError` when it is full, or has been away for longer than the patience.

    Attributes:
        url: of the place; it never holds credentials.
        num_retries: operations that had to be tried again so far.
    """

    def __init__(
        self,
        url: str,
        backend: Backend,
        *,
        is_remote: bool,
        patience_s: float = PATIENCE_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = url
        self.is_remote = is_remote
        self.num_retries = 0
        self._backend = backend
        self._patience_s = patience_s
        self._sleep = sleep

    def read(self, path: str) -> bytes | None:
        """The whole file; None if there is none."""
        return self._patiently("read", path, lambda: self._backend.read(path))

    def read_many(self, paths: Sequence[str]) -> list[bytes | None]:
        """The files in order; from a place far away many at a time."""
        if not self.is_remote or len(paths) < 2:
            return [self.read(path) for path in paths]
        with ThreadPoolExecutor(NUM_READERS, thread_name_prefix="read") as pool:
            return list(pool.map(self.read, paths))

    def write(self, path: str, data: bytes) -> None:
        """Write or replace a file; a reader sees the old one or the new one, never a part."""
        self._patiently("written", path, lambda: self._backend.write(path, data))

    def write_many(self, files: Sequence[tuple[str, Callable[[], bytes]]]) -> None:
        """Write files, many at a time to a place far away; each content is asked for when its turn comes."""
        if not self.is_remote or len(files) < 2:
            for path, content in files:
                self.write(path, content())
            return
        with ThreadPoolExecutor(NUM_READERS, thread_name_prefix="write") as pool:
            for written in [pool.submit(self._write_content, path, content) for path, content in files]:
                written.result()

    def _write_content(self, path: str, content: Callable[[], bytes]) -> None:
        self.write(path, content())

    def create(self, path: str, data: bytes) -> bool:
        """Write a file that is not there yet; False if it is."""
        return self._patiently("written", path, lambda: self._backend.create(path, data))

    def replace(self, path: str, old: bytes, new: bytes) -> bool:
        """Write ``new`` where the file holds exactly ``old``; False otherwise."""
        return self._patiently("written", path, lambda: self._backend.replace(path, old, new))

    def remove(self, path: str) -> None:
        """Remove a file, if there is one."""
        self._patiently("removed", path, lambda: self._backend.remove(path))

    def entries(self, folder: str) -> list[Entry]:
        """The files of a folder by name. On an object store this is a listing: never on the way of a shard."""
        found = self._patiently("listed", folder or ".", lambda: self._backend.entries(folder))
        return sorted(found, key=lambda entry: entry.name)

    def folders(self, folder: str) -> list[str]:
        """Names of the folders of a folder, in order; a listing."""
        return sorted(self._patiently("listed", folder or ".", lambda: self._backend.folders(folder)))

    def _patiently(self, what: str, path: str, operation: Callable[[], T]) -> T:
        deadline: float | None = None
        delay_s = FIRST_DELAY_S
        while True:
            try:
                return operation()
            except Exception as error:
                if not isinstance(error, OSError) and not _is_of_s3(error):
                    raise
                if not is_away(error):
                    raise self._refusal(what, path, error) from error
                now = time.monotonic()
                if deadline is None:
                    deadline = now + self._patience_s
                    log.warning(
                        "the store %s is away (%s); trying again for up to %.0f s",
                        self.url,
                        reason(error),
                        self._patience_s,
                    )
                if now + delay_s > deadline:
                    raise StoreUnavailableError(
                        f"{path} of the store {self.url} could not be {what} for {self._patience_s:.0f} s "
                        f"({reason(error)}); what is done is kept: run again when the store is back"
                    ) from error
            self.num_retries += 1
            self._sleep(delay_s * random.uniform(0.7, 1.0))
            delay_s = min(2 * delay_s, LONGEST_DELAY_S)

    def _refusal(self, what: str, path: str, error: Exception) -> Exception:
        if is_full(error):
            return StoreUnavailableError(
                f"{path} of the store {self.url} cannot be {what}: {reason(error)}; what is done is kept: free some "
                "space and run again"
            )
        return StoreError(f"{path} of the store {self.url} cannot be {what}: {reason(error)}")


def open_blobs(url: str, options: Mapping[str, Any] | None = None, patience_s: float = PATIENCE_S) -> Blobs:
    """The small files under a URL: a folder, ``s3://BUCKET/PREFIX``, ``memory://``. Touches nothing.

    Args:
        url: without credentials.
        options: for the file system: ``endpoint_url``, ``key``, ``secret``, ...; by default it looks at the
            environment (``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``, ...).
        patience_s: how long an operation is tried again while the place is away.

    Raises:
        StoreError: no installed file system reads such a URL, or it holds credentials.
    """
    protocol = url.partition("://")[0] if "://" in url else "file"
    if protocol == "file":
        return Blobs(url, LocalBackend(url.removeprefix("file://")), is_remote=False, patience_s=patience_s)
    if urlsplit(url).password or "@" in urlsplit(url).netloc:
        raise StoreError(
            "the store's URL holds credentials, which would end up in logs; give them by the environment or a Secret "
            "block of Prefect"
        )
    try:
        if protocol in ("s3", "s3a"):
            settings = {"use_listings_cache": False, "skip_instance_cache": True, "config_kwargs": _S3_CONFIG}
            fs, root = fsspec.core.url_to_fs(url, **(settings | dict(options or {})))
            return Blobs(url, S3Backend(fs, root), is_remote=True, patience_s=patience_s)
        if protocol == "memory":
            fs, root = fsspec.core.url_to_fs(url)
            return Blobs(url, MemoryBackend(fs, root), is_remote=False, patience_s=patience_s)
    except (ValueError, ImportError, OSError) as error:
        hint = "; run: pip install 'neuron-atlas[s3]'" if protocol in ("s3", "s3a") else ""
        raise StoreError(f"the store {url} cannot be opened: {error}{hint}") from error
    raise StoreError(f"the store {url} cannot be opened: give a folder or s3://BUCKET/PREFIX, not {protocol}://")


_S3_CONFIG = {"connect_timeout": 5, "read_timeout": 60, "retries": {"max_attempts": 1}, "max_pool_connections": 32}


def is_away(error: Exception) -> bool:
    """Whether an error is of a place that may be back soon."""
    if _is_of_s3(error):
        return not type(error).__name__.startswith(_HOPELESS)
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    cause = error.__cause__
    response = getattr(cause, "response", None)
    if isinstance(response, dict):
        status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        return status >= 500 or status == 429 or str(response.get("Error", {}).get("Code", "")) in _RETRIED_CODES
    return getattr(error, "errno", None) in _AWAY


def is_full(error: Exception) -> bool:
    """Whether there was no space left."""
    return getattr(error, "errno", None) in _FULL


def reason(error: Exception) -> str:
    """An error in a few words."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _is_of_s3(error: Exception) -> bool:
    return type(error).__module__.partition(".")[0] in ("botocore", "aiobotocore", "aiohttp")
