"""The page of what studies found."""

from __future__ import annotations

from typing import Any

from pipeline.site.model import Atlas
from pipeline.site.pages.shared import Shell
from pipeline.site.panel_views import Known, finding_views


def findings(atlas: Atlas, known: Known) -> dict[str, Any]:
    """Context of ``findings.html``."""
    return {
        "root": "",
        "shell": Shell.of(atlas),
        "studies": [(study, finding_views(study, known)) for study in atlas.studies if study.findings],
    }
