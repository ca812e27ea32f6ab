"""The studies: every module in this folder that defines ``STUDY``.

Adding a study is adding one module, and a class in ``tests/pipeline/studies`` that passes the conformance tests.
"""

from __future__ import annotations

import importlib
import pkgutil

from export.errors import InputError, suggestion
from pipeline.studies.base.study import Study


def studies() -> dict[str, Study]:
    """Every study by name, in alphabetical order."""
    found: dict[str, Study] = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        if not module.ispkg:
            study: Study | None = getattr(importlib.import_module(f"{__name__}.{module.name}"), "STUDY", None)
            if study is not None:
                found[study.name] = study
    return found


def get_study(name: str) -> Study:
    """The study called ``name``.

    Raises:
        InputError: there is none.
    """
    known = studies()
    if name not in known:
        raise InputError(f"there is no study {name!r}{suggestion(name, known)}; studies are {', '.join(known)}")
    return known[name]
