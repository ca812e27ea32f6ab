"""Claims: who is making what, told through the store, so that no shard is made twice.

A claim is a small file beside the shard, created on the condition that there is none. Its holder changes it every
``BEAT_S``. Whoever finds a claim that has not changed for ``LEASE_S`` *by his own monotonic clock* takes it over, on
the condition that it is still the same; no two machines' clocks are compared, so wrong or changing clocks do no harm.
A claim of a dead process of the same machine is taken over at once.

Claims save work, they do not guard results: should two make one shard after all (a holder that was stopped for longer
than the lease), both write the same bytes.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from export.errors import AtlasError, StoreUnavailableError
from pipeline.blobs import Blobs
from pipeline.temporary import is_dead_here, machine

log = logging.getLogger(__name__)

LEASE_S = 60.0
"""Time without a sign of life after which a claim of another machine is taken over."""
BEAT_S = 10.0
"""Time between two signs of life."""
LOOK_S = 1.0
"""Time between two looks at a claim that is waited for."""


class Claim:
    """A claim that this process holds. Use as a context manager; leaving it gives the claim back."""

    def __init__(self, owner: Claims, path: str, content: bytes) -> None:
        self._owner = owner
        self.path = path
        self.content = content

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *exc: object) -> None:
        self._owner.release(self)


class Claims:
    """The claims of one process in one store. Use as a context manager; leaving it gives back what it holds."""

    def __init__(
        self,
        blobs: Blobs,
        *,
        lease_s: float = LEASE_S,
        beat_s: float = BEAT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._blobs = blobs
        self._lease_s, self._beat_s, self._clock = lease_s, beat_s, clock
        self._owner = f"{machine()}-{os.getpid()}-{secrets.token_hex(6)}"
        self._held: dict[str, Claim] = {}
        self._seen: dict[str, tuple[bytes, float]] = {}
        self._beat = 0
        self._guard = threading.RLock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Claims:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(self._beat_s)
            self._thread = None
        if kind is None or not issubclass(kind, StoreUnavailableError):
            for claim in list(self._held.values()):
                self.release(claim)

    def take(self, path: str) -> Claim | None:
        """Claim something, or take over what its holder has left; None while somebody is at it.

        Args:
            path: of the claim's file.

        Raises:
            StoreError, StoreUnavailableError: the store cannot be read or written.
        """
        content = self._content()
        if self._blobs.create(path, content):
            return self._hold(path, content)
        found = self._blobs.read(path)
        if found is None:
            return None  # given back between two looks; the caller looks again
        if not self._is_left(path, found):
            return None
        if not self._blobs.replace(path, found, content):
            return None
        log.warning("took over %s from %s", path, holder_of(found))
        return self._hold(path, content)

    @contextmanager
    def waiting_for(self, path: str) -> Iterator[Claim]:
        """Hold a claim within the block; whoever holds it is waited for, or buried."""
        told = False
        while (claim := self.take(path)) is None:
            if not told:
                log.info("%s is held by %s; waiting", path, self.holder(path))
                told = True
            time.sleep(LOOK_S)
        with claim:
            yield claim

    def holder(self, path: str) -> str:
        """Who holds a claim, in words."""
        return holder_of(self._blobs.read(path) or b"")

    def release(self, claim: Claim) -> None:
        """Give a claim back; nothing happens if another has taken it over."""
        with self._guard:
            self._held.pop(claim.path, None)
            content = claim.content
        try:
            if self._blobs.read(claim.path) == content:
                self._blobs.remove(claim.path)
        except AtlasError as error:
            log.warning("claim %s could not be given back and will expire: %s", claim.path, error)

    def _hold(self, path: str, content: bytes) -> Claim:
        with self._guard:
            self._seen.pop(path, None)
            claim = self._held[path] = Claim(self, path, content)
            if self._thread is None:
                self._thread = threading.Thread(target=self._live, name="claims", daemon=True)
                self._thread.start()
        return claim

    def _is_left(self, path: str, found: bytes) -> bool:
        """Whether the holder of a claim has died."""
        holder = _parse(found)
        if holder is not None and is_dead_here(str(holder.get("machine")), holder.get("pid")):
            return True
        now = self._clock()
        content, since = self._seen.get(path, (b"", now))
        if content != found:
            content, since = found, now
        self._seen[path] = content, since
        return now - since >= self._lease_s

    def _live(self) -> None:
        """Show signs of life until the end."""
        while not self._ended.wait(self._beat_s):
            for claim in list(self._held.values()):
                try:
                    self._renew(claim)
                except AtlasError as error:
                    log.warning("claim %s could not be renewed: %s", claim.path, error)

    def _renew(self, claim: Claim) -> None:
        content = self._content()
        with self._guard:
            if self._held.get(claim.path) is not claim:
                return
            if self._blobs.replace(claim.path, claim.content, content):
                claim.content = content
                return
            del self._held[claim.path]
        log.warning("claim %s was taken over by another; the work on it goes on and will give the same", claim.path)

    def _content(self) -> bytes:
        with self._guard:
            self._beat += 1
            value = {
                "owner": self._owner,
                "host": socket.gethostname(),
                "machine": machine(),
                "pid": os.getpid(),
                "beat": self._beat,
            }
        return (json.dumps(value, sort_keys=True) + "\n").encode()


def holder_of(content: bytes) -> str:
    """The holder of a claim in words."""
    holder = _parse(content)
    if holder is None:
        return "another process"
    return f"process {holder.get('pid')} on {holder.get('host')}"


def _parse(content: bytes) -> dict[str, object] | None:
    try:
        value = json.loads(content)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
