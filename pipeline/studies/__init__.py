"""The studies: every module in this folder that defines ``STUDY``.

Adding a study is adding one module, and a class in ``tests/pipeline/studies`` that passes the conformance tests.
"""

from __future__ import annotations

from export.errors import InputError, suggestion
from export.plugins import found_in
from pipeline.studies.base.study import Study


def studies() -> dict[str, Study]:
    """Every study by name, in alphabetical order."""
    return {study.name: study for study in found_in(__name__, "STUDY")}


def get_study(name: str) -> Study:
    """The study called ``name``.

    Raises:
        InputError: there is none.
    """
    known = studies()
    if name not in known:
        raise InputError(f"there is no study {name!r}{suggestion(name, known)}; studies are {', '.join(known)}")
    return known[name]
