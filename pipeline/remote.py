"""A site on S3, or in another folder: versions side by side, and one small file that switches between them.

::

    URL/ID/...           a version of the site, never changed
    URL/index.html       leads to the version that is shown; written last, in one piece
    URL/current.json     {"version": ID, "number": N, "digest": ...}

Whoever is reading last night's version goes on reading it until it is no longer kept.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.blobs import Blobs, open_blobs
from pipeline.registry import Version

POINTER, PAGE = "current.json", "index.html"


def open_site(url: str, options: Mapping[str, Any] | None, patience_s: float) -> Blobs:
    """The place a site is published to.

    Raises:
        StoreError: no installed file system reads such a URL.
    """
    return open_blobs(url, options, patience_s)


def shown(site: Blobs) -> Mapping[str, Any]:
    """What the pointer says; empty if nothing is shown."""
    try:
        found = json.loads(site.read(POINTER) or b"null")
    except ValueError:
        return {}
    return found if isinstance(found, dict) and site.read(PAGE) is not None else {}


def upload(
    site: Blobs, version: Version, folder: Path, adapted: Mapping[str, Callable[[bytes], bytes]] | None = None
) -> int:
    """Copy a version's site; nothing leads to it yet.

    Args:
        site: where to.
        version: that is copied.
        folder: its site.
        adapted: what becomes of a file that must be another there, by its name in the site.

    Returns:
        The number of files.
    """
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    change = adapted or {}
    site.write_many([(f"{version.name}/{name}", _reader(path, change.get(name))) for name, path in files.items()])
    return len(files)


def show(site: Blobs, version: Version, title: str) -> None:
    """Switch to a version that has been uploaded."""
    site.write(PAGE, _page(version, title))
    pointer = {"version": version.name, "number": version.number, "digest": version.digest}
    site.write(POINTER, (json.dumps(pointer, sort_keys=True) + "\n").encode())


def remove_others(site: Blobs, keep: Iterable[str]) -> list[str]:
    """Remove every version but those named and the one that is shown; a listing."""
    wanted = {*keep, str(shown(site).get("version"))}
    gone = [name for name in site.folders("") if name not in wanted and _is_version(name)]
    for name in gone:
        _remove_tree(site, name)
    return gone


def _remove_tree(site: Blobs, folder: str) -> None:
    for name in site.folders(folder):
        _remove_tree(site, f"{folder}/{name}")
    for entry in site.entries(folder):
        site.remove(f"{folder}/{entry.name}")


def _is_version(name: str) -> bool:
    number, _, digest = name.partition("-")
    return number.isdigit() and len(number) >= 5 and len(digest) == 8


def _reader(path: Path, change: Callable[[bytes], bytes] | None) -> Callable[[], bytes]:
    return path.read_bytes if change is None else lambda: change(path.read_bytes())


def _page(version: Version, title: str) -> bytes:
    """A page that goes on to a version and keeps what follows ``#``."""
    target, name = f"{version.name}/index.html", html.escape(title)
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{name}</title>
<script>location.replace("{target}" + location.hash);</script>
<noscript><meta http-equiv="refresh" content="0; url={target}"></noscript>
<a href="{target}">{name}</a>
</html>
""".encode()
