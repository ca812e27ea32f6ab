"""The kinds of code prior: every module in this folder that defines ``PRIOR``. Adding one is adding a module."""

from __future__ import annotations

from functools import cache

from export.errors import InputError, suggestion
from export.plugins import found_in
from export.prior import CodePrior


@cache
def kinds() -> dict[str, type[CodePrior]]:
    """Every kind by name."""
    return {kind.kind: kind for kind in found_in(__name__, "PRIOR")}


def kind_of(name: str) -> type[CodePrior]:
    """Look a kind up.

    Raises:
        InputError: there is none of that name.
    """
    known = kinds()
    if name not in known:
        raise InputError(f"there is no prior {name!r}{suggestion(name, known)}; known are {', '.join(known)}")
    return known[name]
