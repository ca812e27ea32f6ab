"""An S3 bucket, or what speaks its protocol, through s3fs.

Conditional writes are ``If-None-Match: *`` and ``If-Match``. A PUT is atomic and a GET after it sees it (S3 has been
strongly consistent since 2020), so nothing is listed to find a file: only :meth:`S3Backend.entries` and
:meth:`S3Backend.folders` list.
"""

from __future__ import annotations

import datetime
import mimetypes
import re
from collections.abc import Sequence
from typing import Any

from pipeline.blobs.backend import Entry

_MD5 = re.compile(r'"?([0-9a-f]{32})"?$')


class S3Backend:
    """Files under ``BUCKET/PREFIX``. The bucket must exist."""

    def __init__(self, fs: Any, root: str) -> None:
        self._fs = fs
        self._fs.retries = 1  # the front tries again, and says so
        self._bucket, _, prefix = root.strip("/").partition("/")
        self._prefix = prefix.strip("/")

    def read(self, path: str) -> bytes | None:
        found = self._get(path)
        return None if found is None else found[0]

    def write(self, path: str, data: bytes) -> None:
        self._put(path, data)

    def create(self, path: str, data: bytes) -> bool:
        try:
            self._put(path, data, IfNoneMatch="*")
        except OSError as error:
            if not _refused(error):
                raise
            return self.read(path) == data  # a lost answer makes the library ask twice
        return True

    def replace(self, path: str, old: bytes, new: bytes) -> bool:
        found = self._get(path)
        if found is None or found[0] != old:
            return found is not None and found[0] == new
        try:
            self._put(path, new, IfMatch=found[1])
        except OSError as error:
            if not _refused(error) and not isinstance(error, FileNotFoundError):
                raise
            return self.read(path) == new
        return True

    def remove(self, path: str) -> None:
        self._call("delete_object", Key=self._key(path))

    def entries(self, folder: str) -> Sequence[Entry]:
        now = datetime.datetime.now(datetime.UTC)
        found = []
        for page in self._pages(folder):
            for item in page.get("Contents", []):
                name = str(item["Key"]).rpartition("/")[2]
                if name:
                    md5 = _MD5.match(str(item.get("ETag", "")))
                    age_s = max(0.0, (now - item["LastModified"]).total_seconds())
                    found.append(Entry(name, int(item["Size"]), md5[1] if md5 else None, age_s))
        return found

    def folders(self, folder: str) -> Sequence[str]:
        prefixes = [part["Prefix"] for page in self._pages(folder) for part in page.get("CommonPrefixes", [])]
        return [str(prefix).rstrip("/").rpartition("/")[2] for prefix in prefixes]

    def _pages(self, folder: str) -> Sequence[dict[str, Any]]:
        prefix = self._key(folder)
        arguments: dict[str, Any] = {"Prefix": f"{prefix}/" if prefix else "", "Delimiter": "/"}
        pages = [self._call("list_objects_v2", **arguments)]
        while pages[-1].get("IsTruncated"):
            token = pages[-1]["NextContinuationToken"]
            pages.append(self._call("list_objects_v2", ContinuationToken=token, **arguments))
        return pages

    def _get(self, path: str) -> tuple[bytes, str] | None:
        try:
            return self._sync(self._fetch, self._key(path))
        except FileNotFoundError as error:
            if _code(error) == "NoSuchBucket":
                raise PermissionError(f"there is no bucket {self._bucket}; make it first") from error
            return None

    async def _fetch(self, key: str) -> tuple[bytes, str]:
        answer = await self._fs._call_s3("get_object", Bucket=self._bucket, Key=key)
        try:
            return await answer["Body"].read(), str(answer["ETag"])
        finally:
            answer["Body"].close()

    def _put(self, path: str, data: bytes, **conditions: str) -> None:
        try:
            kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
            self._call("put_object", Key=self._key(path), Body=data, ContentType=kind, **conditions)
        except FileNotFoundError as error:
            if _code(error) == "NoSuchBucket":
                raise PermissionError(f"there is no bucket {self._bucket}; make it first") from error
            raise

    def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._fs.call_s3(method, Bucket=self._bucket, **arguments)
        return answer

    def _sync(self, function: Any, *arguments: Any) -> tuple[bytes, str]:
        from fsspec.asyn import sync

        answer: tuple[bytes, str] = sync(self._fs.loop, function, *arguments)
        return answer

    def _key(self, path: str) -> str:
        return "/".join(part for part in (self._prefix, path) if part)


def _refused(error: OSError) -> bool:
    """Whether a condition did not hold, or another conditional write was faster."""
    return _code(error) in ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")


def _code(error: OSError) -> str:
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
