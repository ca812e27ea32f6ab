"""Small JSON files of what was found out once on this machine; without one it is found out again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from export.errors import StoreError
from pipeline.temporary import replace_file


def read_facts(path: Path) -> dict[str, Any]:
    """What is kept; empty if there is nothing or it cannot be read."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_facts(path: Path, facts: Mapping[str, Any]) -> None:
    """Keep something; in a read-only folder it is found out again next time."""
    with suppress(OSError, StoreError):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, (json.dumps(facts, indent=1, sort_keys=True) + "\n").encode())
