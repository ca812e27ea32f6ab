"""Packages to which something is added by adding a module: runtimes, kinds of prior, studies."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any


def found_in(package: str, attribute: str) -> list[Any]:
    """``attribute`` of every module of a package that defines it, by the modules' names; sub-packages are left out.

    Args:
        package: its dotted name; its modules are imported.
        attribute: such as ``BUILDER``.
    """
    path = importlib.import_module(package).__path__
    modules = sorted((m for m in pkgutil.iter_modules(path) if not m.ispkg), key=lambda m: m.name)
    found = (getattr(importlib.import_module(f"{package}.{m.name}"), attribute, None) for m in modules)
    return [one for one in found if one is not None]
