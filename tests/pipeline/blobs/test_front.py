"""The front of every place: it waits for one that is away, ever longer, and puts what is hopeless in words at once."""

from __future__ import annotations

import errno
import logging
from collections.abc import Sequence

import pytest

from export.errors import StoreError, StoreUnavailableError
from pipeline.blobs.backend import Entry
from pipeline.blobs.front import FIRST_DELAY_S, LONGEST_DELAY_S, Blobs, is_away


class Flaky:
    """A place that fails with ``errors``, one an operation, and then works."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.files = list(errors), dict[str, bytes]()

    def _next(self) -> None:
        if self.errors:
            raise self.errors.pop(0)

    def read(self, path: str) -> bytes | None:
        self._next()
        return self.files.get(path)

    def write(self, path: str, data: bytes) -> None:
        self._next()
        self.files[path] = data

    def create(self, path: str, data: bytes) -> bool:
        self._next()
        return self.files.setdefault(path, data) is data

    def replace(self, path: str, old: bytes, new: bytes) -> bool:
        self._next()
        return self.files.get(path) == old

    def remove(self, path: str) -> None:
        self._next()

    def entries(self, folder: str) -> Sequence[Entry]:
        self._next()
        return []

    def folders(self, folder: str) -> Sequence[str]:
        self._next()
        return []


def away(code: int = errno.ECONNREFUSED) -> OSError:
    return OSError(code, "gone")


def test_what_is_away_is_tried_again_with_growing_pauses(caplog) -> None:
    caplog.set_level(logging.WARNING)
    pauses: list[float] = []
    blobs = Blobs("s3://b/p", Flaky(*[away()] * 9), is_remote=True, patience_s=600, sleep=pauses.append)
    blobs.write("a", b"x")
    assert blobs.read("a") == b"x"
    assert blobs.num_retries == len(pauses) == 9
    for number, pause in enumerate(pauses):
        longest = min(FIRST_DELAY_S * 2**number, LONGEST_DELAY_S)
        assert 0.7 * longest <= pause <= longest
    assert caplog.text.count("is away") == 1  # told once, not nine times


def test_patience_ends_in_one_sentence_that_says_what_to_do() -> None:
    blobs = Blobs("s3://b/p", Flaky(*[away()] * 9), is_remote=True, patience_s=0.6, sleep=lambda s: None)
    with pytest.raises(StoreUnavailableError, match=r"a of the store s3://b/p could not be read for 1 s .*run again"):
        blobs.read("a")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOTDIR])
def test_a_refusal_is_told_at_once(code: int) -> None:
    blobs = Blobs("p", Flaky(away(code)), is_remote=False, sleep=lambda s: pytest.fail("waited"))
    with pytest.raises(StoreError, match="cannot be written: gone"):
        blobs.write("a", b"x")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_place_is_told_at_once_with_what_to_do(code: int) -> None:
    blobs = Blobs("p", Flaky(away(code)), is_remote=False, sleep=lambda s: pytest.fail("waited"))
    with pytest.raises(StoreUnavailableError, match="free some space and run again"):
        blobs.write("a", b"x")


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    blobs = Blobs("p", Flaky(ZeroDivisionError("ours")), is_remote=False, sleep=lambda s: pytest.fail("waited"))
    with pytest.raises(ZeroDivisionError):
        blobs.read("a")


def _answer(status: int, code: str) -> OSError:
    """As s3fs raises it: an OSError caused by botocore's answer."""
    error, cause = OSError(code), Exception(code)
    cause.response = {"ResponseMetadata": {"HTTPStatusCode": status}, "Error": {"Code": code}}  # type: ignore[attr-defined]
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (_answer(503, "SlowDown"), True),
        (_answer(500, "InternalError"), True),
        (_answer(429, "TooManyRequests"), True),
        (_answer(400, "RequestTimeout"), True),
        (_answer(403, "AccessDenied"), False),
        (_answer(404, "NoSuchBucket"), False),
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (away(errno.ESTALE), True),
        (FileNotFoundError(errno.ENOENT, "no"), False),
    ],
    ids=str,
)
def test_what_counts_as_away(error: Exception, expected: bool) -> None:
    assert is_away(error) is expected
