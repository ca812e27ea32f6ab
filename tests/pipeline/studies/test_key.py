from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.studies import studies
from pipeline.studies.base.key import FOLDER, code_digest, files_of


def names_of(study: str) -> set[str]:
    return {path.relative_to(FOLDER).as_posix() for path in files_of(FOLDER / f"{study}.py")}


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path / "studies"))


def edit(path: Path) -> None:
    path.write_text(path.read_text() + "\nEDITED = True\n")


def changed_by(copied: Path, file: str) -> set[str]:
    """The studies whose code is another once ``file`` is edited."""
    before = {name: code_digest(copied / f"{name}.py", copied) for name in studies()}
    edit(copied / file)
    return {name for name in studies() if code_digest(copied / f"{name}.py", copied) != before[name]}


def test_a_study_holds_its_own_module_and_what_it_imports_at_any_distance() -> None:
    found = names_of("memorisation")
    assert {"memorisation.py", "base/embeddings.py", "base/study.py", "base/run.py"} <= found
    assert "base/judge.py" in names_of("exemplars")
    assert not {f"{name}.py" for name in studies()} & names_of("tuning") - {"tuning.py"}


def test_an_edit_runs_the_studies_anew_that_it_may_change_and_no_others(copied: Path) -> None:
    assert changed_by(copied, "tuning.py") == {"tuning"}


@pytest.mark.parametrize("file", ["base/run.py", "base/context.py", "base/study.py"])
def test_what_all_share_runs_all_anew(copied: Path, file: str) -> None:
    assert changed_by(copied, file) == set(studies())


def test_what_some_share_runs_those_anew(copied: Path) -> None:
    users = {name for name in studies() if "base/similarity.py" in names_of(name)}
    assert changed_by(copied, "base/similarity.py") == users
    assert 0 < len(users) < len(studies())


def test_the_digest_does_not_depend_on_where_the_code_lies(copied: Path) -> None:
    for name in studies():
        assert code_digest(copied / f"{name}.py", copied) == code_digest(FOLDER / f"{name}.py")
