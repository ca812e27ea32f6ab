"""Matching: the mismatched generator reaches a known part of the matched one's colours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from export.models import digest_of
from pipeline.site.panels import Pictures, Table
from pipeline.studies.base.context import Context
from pipeline.studies.base.study import TooFew
from pipeline.studies.matching import STUDY
from tests.pipeline.studies.study_cases import Folders
from tests.pipeline.studies.test_priors import weak_atlas


def of(colours: Folders) -> str:
    """Digest of the network of the atlas of colours."""
    return digest_of(colours.config.parent / "network.onnx")


@pytest.fixture(scope="module")
def two(colours: Folders, tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple[Path, Path], ...]:
    """A matched atlas, and a mismatched one whose codes end at 0.5."""
    folder = tmp_path_factory.mktemp("two")
    return (
        weak_atlas(folder / "matched", bound=4.0, encoder=of(colours)),
        weak_atlas(folder / "mismatched", encoder="another"),
    )


def test_the_mismatched_one_is_weaker_by_what_is_known(
    colours: Folders, context_of: Callable[..., Context], two
) -> None:
    """(sigmoid(0.5) - 0.5) / (sigmoid(4) - 0.5) = 0.254 of the activation."""
    output = STUDY.run(context_of(colours, compare=two))
    table = output.findings[1].blocks[0]
    assert isinstance(table, Table)
    layers = {row[0]: row for row in table.rows}
    assert set(layers) == {"map", "Classes"}
    classes = layers["Classes"]
    assert float(classes[1].split()[0]) == pytest.approx(0.254, abs=0.03)
    assert classes[2].startswith("100% [")
    assert float(classes[3].removeprefix("< ")) < 0.01
    assert classes[4:7] == ("named among the first 5", "1.00", "1.00")
    assert classes[7].startswith("0.00 [0.00, 0.00]"), "flat colours are the same colours, only paler"
    assert layers["map"][4].startswith("not reported: no dataset pass")
    assert "16 px, 1,000 images" in output.findings[1].text
    strip = output.blocks["fc", 0][0]
    assert isinstance(strip, Pictures)
    assert [picture.caption.split(":")[0] for picture in strip.pictures] == ["matched", "mismatched"]


def test_hidden_units_are_compared_with_exemplars_where_there_was_a_dataset_pass(
    colours: Folders, context_of: Callable[..., Context], two
) -> None:
    import shutil

    from pipeline.studies.base.context import DATASET

    shutil.copytree(colours.out / DATASET, two[1][1] / DATASET)
    try:
        table = STUDY.run(context_of(colours, compare=two)).findings[1].blocks[0]
    finally:
        shutil.rmtree(two[1][1] / DATASET)
    assert isinstance(table, Table)
    row = next(row for row in table.rows if row[0] == "map")
    assert row[4] == "likeness to exemplars"
    assert float(row[5]) > 0.7, "a flat colour is like the pictures of that colour"


def test_generators_of_other_budgets_and_of_unknown_training_are_too_few(
    colours: Folders, context_of: Callable[..., Context], two, tmp_path: Path
) -> None:
    richer = weak_atlas(tmp_path / "richer", encoder="another", images_seen=2000)
    silent = weak_atlas(tmp_path / "silent")
    with pytest.raises(TooFew, match="of 4 atlases 2 are through generators that say what they invert"):
        STUDY.run(context_of(colours, compare=(two[0], richer, silent)))


def test_too_few_units_in_common_are_refused(
    colours: Folders, context_of: Callable[..., Context], two, tmp_path: Path
) -> None:

    few = weak_atlas(tmp_path / "few", units="0:3", encoder="another")
    output = STUDY.run(context_of(colours, compare=(two[0], few)))
    assert "Classes: 3 units are alive in both; it takes 6." in output.findings[1].text
    assert [row[0] for row in output.findings[1].blocks[0].rows] == ["map"]  # type: ignore[union-attr]
