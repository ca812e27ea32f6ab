"""Where things lie in a site. Paths are permalinks: a layer's name and a unit's number decide them, nothing else."""

from __future__ import annotations

import hashlib
import re

MAX_LENGTH = 120
"""Characters of a folder name up to which a layer's name is spelled out."""

_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)")


def safe_name(layer: str) -> str:
    """The folder of a layer: one path component, safe on every file system and in a URL without quoting.

    Lower-case ASCII letters, digits, ``-``, ``_`` and inner dots stay. An upper-case letter becomes ``~`` and its
    lower-case form; any other byte of the UTF-8 text becomes ``~`` and three decimal digits; so does a first or last
    dot, and the first letter where the system reserves the name (``aux``, ``con``, ...). Nothing else begins with
    ``~``, so the map is injective, also where the file system ignores case. A name that grows longer than
    :data:`MAX_LENGTH` is cut and ends in ``~-`` and its SHA-256. The empty name is ``~``.
    """
    escaped = "".join(_escape(character) for character in layer)
    if escaped.startswith(".") or _RESERVED.match(escaped):
        escaped = _byte(ord(escaped[0])) + escaped[1:]
    if escaped.endswith("."):
        escaped = escaped[:-1] + _byte(ord("."))
    if len(escaped) > MAX_LENGTH:
        digest = hashlib.sha256(layer.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{escaped[: MAX_LENGTH - 72].rstrip('~.')}~-{digest}"
    return escaped or "~"


def layer_folder(layer: str) -> str:
    """Folder of a layer, relative to the site."""
    return f"layer/{safe_name(layer)}"


def image_name(unit: int, seed: int, *, crop: bool = False) -> str:
    """An image, relative to its layer's folder; ``crop``: what the unit sees of it."""
    return f"img/{unit}-s{seed}{'-rf' if crop else ''}.webp"


def negative_name(unit: int, *, crop: bool = False) -> str:
    """The picture that lowers a unit most, relative to its layer's folder."""
    return f"img/{unit}-low{'-rf' if crop else ''}.webp"


def film_name(unit: int, seed: int) -> str:
    """A film, relative to its layer's folder."""
    return f"img/{unit}-s{seed}-film.webp"


def _escape(character: str) -> str:
    if character in "abcdefghijklmnopqrstuvwxyz0123456789-_.":
        return character
    if character in "ABCDEFGHIJKLMNOPQRSTUVWXYZ":
        return "~" + character.lower()
    return "".join(_byte(byte) for byte in character.encode("utf-8", "surrogatepass"))


def _byte(value: int) -> str:
    return f"~{value:03d}"
