"""What every study must hold, and that every study has tests: the conformance class, applied to all that are found."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pipeline.studies as package
from export.errors import InputError
from export.models import digest_of
from pipeline.site.studies import read_study
from pipeline.studies import get_study, studies
from pipeline.studies.base.context import STUDIES, Context
from pipeline.studies.base.run import run_studies
from pipeline.studies.base.study import MissingInput, TooFew
from tests.pipeline.studies.study_cases import Folders, write_network, write_textures
from tests.pipeline.studies.test_priors import weak_atlas

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def enough(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Training and held-out pictures, other atlases and checkpoints, enough for every study."""
    folder = tmp_path_factory.mktemp("sets")
    checkpoints = [folder / f"epoch{k}.onnx" for k in range(3)]
    for path, turned in zip(checkpoints, ({0: "blue"}, {0: "blue"}, {}), strict=True):
        write_network(path, turned=turned)
    network = digest_of(checkpoints[-1])
    return {
        "training": (write_textures(folder / "training", 240, seed=1),),
        "held_out": (write_textures(folder / "held_out", 312, seed=2),),
        "compare": (
            weak_atlas(folder / "weak"),
            weak_atlas(folder / "matched", bound=4.0, encoder=network),
            weak_atlas(folder / "mismatched", encoder="another"),
        ),
        "checkpoints": tuple(checkpoints),
    }


@pytest.mark.parametrize("name", studies())
class TestStudy:
    """Subclassed by nothing: every study that is found runs through it."""

    def test_runs_and_the_site_can_read_what_it_writes(
        self, name: str, copied: Folders, context_of: Callable[..., Context], enough
    ) -> None:
        outcomes: list[tuple[str, str]] = []
        context = context_of(copied, **enough)
        run_studies(context, [get_study(name)], lambda study, outcome, text: outcomes.append((outcome, text)))
        assert outcomes[0][0] == "done", outcomes
        result = read_study(copied.out / STUDIES / name)
        assert result.title
        assert any(c.isdigit() for c in result.summary), "a summary states how much was measured"
        assert result.findings
        seen = 0
        for layer, panels in result.panels.items():
            assert layer in context.names
            known = context.layer(layer).records
            assert set(panels) <= set(known)
            for panel in panels.values():
                seen += len(panel.values) + len(panel.blocks) + len(panel.by_seed)
                for block in panel.blocks:
                    for picture in getattr(block, "pictures", ()):
                        assert (copied.out / STUDIES / name / picture.file).is_file()
        assert seen or not result.columns
        for finding in result.findings:
            if finding.figure is not None:
                assert (copied.out / STUDIES / name / finding.figure.file).is_file()

    def test_a_second_run_keeps_and_a_run_elsewhere_is_equal_to_the_byte(
        self, name: str, copied: Folders, context_of: Callable[..., Context], enough
    ) -> None:
        study, outcomes = get_study(name), list[str]()

        def note(study: object, outcome: str, text: str) -> None:
            outcomes.append(outcome)

        folder = copied.out / STUDIES / name
        run_studies(context_of(copied, **enough), [study], note)
        before = {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        run_studies(context_of(copied, **enough), [study], note)
        assert outcomes == ["done", "kept"]
        (folder / "study.json").unlink()
        run_studies(context_of(copied, **enough), [study], note)
        assert {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before

    def test_refuses_without_what_it_needs_and_leaves_no_numbers(
        self, name: str, copied: Folders, context_of: Callable[..., Context], enough
    ) -> None:
        study = get_study(name)
        if not study.needs:
            pytest.skip("it needs nothing but the atlas")
        context = context_of(copied, images=None, judge=None)
        with pytest.raises(MissingInput, match="give"):
            study.run(context)
        outcomes: list[str] = []

        def note(study: object, outcome: str, text: str) -> None:
            outcomes.append(outcome)

        folder = copied.out / STUDIES / name
        run_studies(context, [study], note)
        raw = json.loads((folder / "findings.json").read_text())
        assert raw["summary"].startswith("Not reported: ")
        assert not raw["columns"]
        assert not (folder / "units.parquet").exists()
        run_studies(context_of(copied, **enough), [study], note)
        before = (folder / "findings.json").read_bytes()
        run_studies(context, [study], note)
        assert outcomes == ["refused", "done", "refused"]
        assert (folder / "findings.json").read_bytes() == before, "a former result is not lost for want of an input"

    def test_has_a_test_file_with_a_known_answer_and_a_refusal(self, name: str) -> None:
        module = type(get_study(name)).__module__.rpartition(".")[2]
        path = HERE / f"test_{module}.py"
        assert path.is_file(), f"write {path.name}: a case with a known answer, and one with too few data"
        names = [node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
        assert any("known" in n for n in names), f"{path.name} needs a test whose name says what is known"
        assert any("few" in n for n in names), f"{path.name} needs a test that too few data are refused"

    def test_is_one_file_named_like_the_study(self, name: str) -> None:
        module = type(get_study(name)).__module__.rpartition(".")[2]
        assert module.replace("_", "-") == name
        assert (Path(package.__file__).parent / f"{module}.py").is_file()


def test_an_unknown_study_is_named_with_those_there_are() -> None:
    with pytest.raises(InputError, match="did you mean tuning"):
        get_study("tunning")


def test_one_refusal_does_not_stop_the_others(copied: Folders, context_of: Callable[..., Context]) -> None:
    class Refuses:
        name, title, needs, revision = "refuses", "Refuses", (), 1

        def run(self, context: Context) -> None:
            raise TooFew("3 are too few")

    outcomes = run_studies(context_of(copied), [Refuses(), get_study("tuning")], lambda *a: None)  # type: ignore[list-item]
    assert outcomes == {"refuses": "refused", "tuning": "done"}
    assert math.isfinite(
        next(iter(read_study(copied.out / STUDIES / "tuning").panels["fc"].values())).values["percentile"]
    )
