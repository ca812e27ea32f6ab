"""From a TOML file to a configuration, or to a list of its faults."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from export.errors import ConfigError, suggestion
from pipeline.config.sections import AtlasConfig

ATLASES = Path("deploy") / "atlases"
"""Where a configuration given by its bare name is looked for."""


def load_config(source: str) -> AtlasConfig:
    """Read a configuration.

    Args:
        source: path of a TOML file, or the bare name of one in ``deploy/atlases/``.

    Raises:
        ConfigError: it is missing, is not TOML, or does not fit; every fault is listed, one a line.
    """
    path = find_config(source)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration {path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"configuration {path} is not TOML: {error}") from error
    if "folder" in raw:
        raise ConfigError(f"configuration {path}: folder: unknown key{suggestion('folder', AtlasConfig.model_fields)}")
    return parse_config(raw, str(path), folder=str(path.parent.resolve()))


def parse_config(raw: dict[str, Any], origin: str, folder: str = "") -> AtlasConfig:
    """Check a configuration that has been read; ``origin`` names it in messages.

    Raises:
        ConfigError: it does not fit; every fault is listed, one a line.
    """
    try:
        return AtlasConfig.model_validate({**raw, "folder": folder})
    except ValidationError as error:
        faults = [_fault(fault) for fault in error.errors()]
    if len(faults) == 1:
        raise ConfigError(f"configuration {origin}: {faults[0]}")
    raise ConfigError("\n  ".join([f"configuration {origin} has {len(faults)} faults:", *faults]))


def find_config(source: str) -> Path:
    """The file that ``source`` means.

    Raises:
        ConfigError: there is none; configurations with a similar name are suggested.
    """
    path = Path(source)
    if path.is_file():
        return path
    folders = [ATLASES, Path(__file__).resolve().parents[2] / ATLASES]
    if path.name == source and not source.endswith(".toml"):
        for folder in folders:
            if (folder / f"{source}.toml").is_file():
                return folder / f"{source}.toml"
    known = sorted({file.stem for folder in folders if folder.is_dir() for file in folder.glob("*.toml")})
    raise ConfigError(
        f"configuration not found: {source}{suggestion(path.stem, known)}"
        if known
        else f"configuration not found: {source}; give the path of a TOML file"
    )


def _fault(fault: Any) -> str:
    """One line: the key's full path, what it is and what it should be."""
    where, kind, message, value = fault["loc"], fault["type"], str(fault["msg"]), fault["input"]
    key = _dotted(where)
    if kind == "extra_forbidden":
        known = [name for name in _fields_at(where[:-1]) if name != "folder"]
        return f"{key}: unknown key{suggestion(str(where[-1]), known) or '; known are ' + ', '.join(known)}"
    if kind == "missing":
        return f"{key}: missing; give it a value"
    message = re.sub(r"^(Value error, |Input should be |Input should |String should )", "", message)
    if not key:
        return message
    if key == "name" and kind == "string_pattern_mismatch":
        message = "letters, digits, '.', '_' and '-', since it names a folder"
    wanted = _EXPECTED.get(kind, message)
    if kind == "model_type":
        wanted = f"a table [{key}]"
    return f"{key}: {value!r} is wrong; expected {wanted}"


_EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "a text in quotes",
    "string_too_short": "a text that is not empty",
}


def _dotted(where: Sequence[str | int]) -> str:
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _fields_at(where: Sequence[str | int]) -> list[str]:
    """Keys of the section at this place."""
    model: type[BaseModel] = AtlasConfig
    for part in where:
        if isinstance(part, str) and part in model.model_fields:
            annotation = model.model_fields[part].annotation
            inner = [a for a in (annotation, *get_args(annotation)) if isinstance(a, type)]
            model = next((a for a in inner if issubclass(a, BaseModel)), model)
    return list(model.model_fields)
