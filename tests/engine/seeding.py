"""Seeded faults: a module with one text replaced, to see whether the checks that pass on the code see it."""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

Fault = tuple[str, str, str]
"""Which module, a text that occurs once in it, and what stands there instead."""


def loaded(modules: Mapping[str, str], fault: Fault | None = None) -> dict[str, types.ModuleType]:
    """Modules loaded afresh, those of the process left alone.

    Args:
        modules: their full names by what a fault calls them; each after those that it imports.
        fault: what is replaced.
    """
    kept = {full: sys.modules.pop(full) for full in modules.values() if full in sys.modules}
    made = {}
    try:
        for name, full in modules.items():
            spec = importlib.util.find_spec(full)
            assert spec is not None
            assert spec.origin is not None
            text = Path(spec.origin).read_text(encoding="utf-8")
            if fault is not None and fault[0] == name:
                assert text.count(fault[1]) == 1, f"{fault[1]!r} must occur once in {name}"
                text = text.replace(fault[1], fault[2])
            made[name] = sys.modules[full] = types.ModuleType(full)
            exec(compile(text, spec.origin, "exec"), made[name].__dict__)
    finally:
        for full in modules.values():
            sys.modules.pop(full, None)
        sys.modules.update(kept)
    return made


def assert_caught(battery: Iterable[Callable[[Any], None]], faulty: Any) -> None:
    """One of the checks fails."""
    for check in battery:
        try:
            check(faulty)
        except (Exception, pytest.fail.Exception):
            return
    raise AssertionError("no check of the battery sees it")
