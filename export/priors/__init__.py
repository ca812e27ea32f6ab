"""The kinds of code prior: every module in this folder that defines ``PRIOR``. Adding one is adding a module."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from export.errors import InputError, suggestion
from export.prior import CodePrior


@cache
def kinds() -> dict[str, type[CodePrior]]:
    """Every kind by name."""
    found: dict[str, type[CodePrior]] = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        kind: type[CodePrior] = importlib.import_module(f"{__name__}.{module.name}").PRIOR
        found[kind.kind] = kind
    return found


def kind_of(name: str) -> type[CodePrior]:
    """Look a kind up.

    Raises:
        InputError: there is none of that name.
    """
    known = kinds()
    if name not in known:
        raise InputError(f"there is no prior {name!r}{suggestion(name, known)}; known are {', '.join(known)}")
    return known[name]
