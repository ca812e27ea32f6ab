"""What determines a study's files; while that is the same they are kept."""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from export.models import digest_of
from pipeline.dataset.images import open_images
from pipeline.dataset.passes import read_facts
from pipeline.recipe import canonical_json
from pipeline.studies.base.context import DATASET, Context
from pipeline.studies.base.study import Study

FOLDER = Path(__file__).parent.parent
PACKAGE = "pipeline.studies"
WRITER = "base/run.py"
"""Of every study's files."""


def study_key(study: Study, context: Context) -> str:
    """What determines a study's files: its revision and code, the stored results and its inputs.

    Raises:
        InputError: an input cannot be read.
    """
    inputs = context.inputs
    value: dict[str, Any] = {
        "study": [study.name, study.revision],
        "code": code_digest(Path(inspect.getfile(type(study)))),
        "title": context.title,
        "shards": _shards(context),
    }
    if "compare" in study.needs:
        value["compare"] = [[other.title, _shards(other)] for other in context.compared]
    if "dataset" in study.needs:
        value["dataset"] = [(read_facts(context.workspace.out / DATASET) or {}).get("key"), inputs.publish]
    if inputs.classes is not None and "judge" in study.needs:
        value["classes"] = digest_of(inputs.classes)
    if inputs.judge is not None and {"judge", "compare", "checkpoints"} & set(study.needs):
        value["judge"] = [digest_of(inputs.judge), inputs.judge_layer]
    if "checkpoints" in study.needs:
        value["checkpoints"] = [[path.stem, digest_of(path)] for path in inputs.checkpoints]
    for need, sources in (("training", inputs.training), ("held_out", inputs.held_out)):
        if need in study.needs:
            value[need] = [open_images(source).digest for source in sources]
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def _shards(context: Context) -> list[Any]:
    """What identifies an atlas's results."""
    return [
        [layer.info.name, layer.units, [[s.recipe.key, [x.sha256 for x in s.stored]] for s in layer.seeds]]
        for layer in context.plan.layers
    ]


def code_digest(module: Path, folder: Path = FOLDER) -> str:
    """SHA-256 of a study's module and of all that it imports of the studies, directly or not; and of what writes files.

    What lies outside of them has keys of its own, in the recipes and in the dataset pass; a study whose results change
    through anything else raises its revision.

    Args:
        module: the study's file.
        folder: of the package of studies.
    """
    digest = hashlib.sha256()
    for file in sorted(files_of(module, folder)):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def files_of(module: Path, folder: Path = FOLDER) -> set[Path]:
    """The files whose content :func:`code_digest` takes."""
    found: set[Path] = set()
    left = [module, folder / WRITER]
    while left:
        file = left.pop()
        if file not in found:
            found.add(file)
            left += _imported(file, folder)
    return found


def _imported(file: Path, folder: Path) -> Iterator[Path]:
    """The files of the package that a file imports, wherever in it."""
    for name in _names(file.read_bytes()):
        path = folder.joinpath(*name.removeprefix(f"{PACKAGE}.").split(".")).with_suffix(".py")
        if name.startswith(f"{PACKAGE}.") and path.is_file():
            yield path


@cache
def _names(source: bytes) -> frozenset[str]:
    """What a source imports: modules, and names of modules that may be modules too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)
