"""Watching processes under test: how they are started, and what they leave."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[3]


def environment(log: Path, step_s: float = 0.01, **more: str) -> dict[str, str]:
    """For processes that have the runtime ``waiting`` and write down what they do in ``log``."""
    return os.environ | {
        "PYTHONPATH": f"{Path(__file__).parent}{os.pathsep}{ROOT}",
        "ATLAS_TEST_LOG": str(log),
        "ATLAS_TEST_STEP_S": str(step_s),
        "OMP_NUM_THREADS": "1",
        **more,
    }


def begun(log: Path) -> Counter[str]:
    """How often each shard was begun, by ``KEY/NAME``."""
    return _events(log, "making")


def stored(log: Path) -> Counter[str]:
    """How often each shard was stored."""
    return _events(log, "stored")


def _events(log: Path, what: str) -> Counter[str]:
    if not log.exists():
        return Counter()
    return Counter(re.findall(rf"^\d+ [\d.]+ {what} .*\(([0-9a-f]{{20}}/[0-9a-f-]+)\)$", log.read_text(), re.MULTILINE))
