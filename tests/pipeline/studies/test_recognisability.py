"""Recognisability: a judge that knows half of the classes; correlations built in; random pictures as chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from export.errors import InputError
from pipeline.site.panels import Table
from pipeline.studies.base.classes import Classes
from pipeline.studies.base.context import Context, pixels
from pipeline.studies.base.judge import Verdict, open_judge
from pipeline.studies.base.study import TooFew
from pipeline.studies.recognisability import STUDY
from tests.pipeline.studies.changed import change_records, png
from tests.pipeline.studies.study_cases import COLOURS, LABELS, Folders


def table(output, heading: str) -> Table:  # type: ignore[no-untyped-def]
    finding = next(f for f in output.findings if heading in f.heading)
    return finding.blocks[0]


def test_the_known_half_of_the_classes_is_recognised(colours: Folders, context_of: Callable[..., Context]) -> None:
    """The judge's second six classes answer half as strongly, so that it never names them first."""
    output = STUDY.run(context_of(colours))
    ranks = [output.rows["fc", unit, None]["judge_rank"] for unit in range(12)]
    assert ranks[:6] == [1] * 6
    assert all(rank > 1 for rank in ranks[6:])
    rows = table(output, "how often the judge names").rows
    assert rows[0][0] == "synthetic"
    assert rows[0][1].startswith("50% [25%, 75%], n = 12")
    real = {row[0]: row[1] for row in rows}
    assert real["real pictures"].startswith("100%")
    assert real["real pictures at 16 px"].startswith("100%")


@pytest.mark.parametrize(("sign", "expected"), [(1, 1.0), (-1, -1.0)])
def test_a_known_correlation_is_reported(
    colours: Folders, context_of: Callable[..., Context], sign: int, expected: float
) -> None:
    """Pictures fade from full colour to grey and activations are set to follow, or to run against."""
    context = context_of(colours)

    def fade(layer, place, record):  # type: ignore[no-untyped-def]
        if layer.name != "fc":
            return record
        level = 1 - (place % 6) / 6.5 - (place // 6) / 26
        grey = 127.5 + (pixels(record) - 127.5) * level
        return replace(record, image=png(grey.astype(np.uint8)), activation=sign * level * (0.5 if place > 5 else 1))

    output = STUDY.run(change_records(context, fade))
    row = next(r for r in table(output, "Does activation tell").rows if r[:2] == ("Classes", "activation"))
    probabilities = [output.rows["fc", unit, None]["judge_probability"] for unit in range(12)]
    assert len(set(probabilities)) == 12
    assert float(row[3].split()[0]) == pytest.approx(expected, abs=0.35)
    assert ("-" in row[3].split("[")[1]) == (sign < 0), "the interval lies on one side of 0"
    assert float(row[4].removeprefix("< ")) < 0.05


def test_pictures_swapped_at_random_are_known_to_be_no_better_than_chance(
    colours: Folders, context_of: Callable[..., Context]
) -> None:
    context = context_of(colours)
    images = [png(context.images.pictures([i], 16, 16)[0]) for i in context.dataset.statistics.sample_image[:24]]

    def swap(layer, place, record):  # type: ignore[no-untyped-def]
        return replace(record, image=images[place + 12 * (layer.name == "fc")])

    found = STUDY.run(change_records(context, swap))
    honest = STUDY.run(context_of(colours))
    swapped = np.mean([found.rows["map", u, None]["likeness"] for u in range(12)])
    real = np.mean([honest.rows["map", u, None]["likeness"] for u in range(12)])
    assert real > 0.9
    assert 0.25 < swapped < 0.75


def test_too_few_units_are_refused(colours: Folders, context_of: Callable[..., Context]) -> None:
    from pipeline.config import load_config, read_overrides

    config = read_overrides(None, "0:4", None, None).apply(load_config(str(colours.config)))
    with pytest.raises(TooFew, match="no unit could be judged"):
        STUDY.run(context_of(colours, config))


def test_nine_units_are_judged_but_not_correlated(colours: Folders, context_of: Callable[..., Context]) -> None:
    from pipeline.config import load_config, read_overrides

    config = read_overrides(None, "0:9", None, None).apply(load_config(str(colours.config)))
    rows = table(STUDY.run(context_of(colours, config)), "Does activation tell").rows
    assert {row[3] for row in rows} == {"not reported: 9 units are too few to report; it takes 10"}


def test_ties_count_against_the_class() -> None:
    verdict = Verdict(np.zeros((2, 1), np.float32), np.asarray([[1, 1, 0], [3, 2, 1]], np.float32))
    assert verdict.ranks(np.asarray([0, 1])).tolist() == [1, 1]
    assert verdict.probabilities(np.asarray([0, 0])) == pytest.approx(
        [np.e / (2 * np.e + 1), np.e**2 / (np.e**2 + np.e + 1)]
    )


def test_folders_name_classes_by_identifier_or_by_name(tmp_path: Path) -> None:
    labels = ("tench, Tinca tinca", "crane", "bell pepper", "crane")
    (tmp_path / "ids.txt").write_text("n1 tench, Tinca tinca\nn2 crane\nn3 bell pepper\nn4 crane\n")
    classes = Classes(labels, tmp_path / "ids.txt")
    assert [classes.index(f) for f in ("n1", "n4", "Bell_Pepper", "tinca-tinca", "n9")] == [0, 3, 2, 0, None]
    (tmp_path / "other.txt").write_text("n1 house\n")
    with pytest.raises(InputError, match="none of its 1 lines"):
        Classes(labels, tmp_path / "other.txt")


def test_identifiers_with_other_names_of_the_classes_are_matched(tmp_path: Path) -> None:
    """The network says "tench", the file "tench, Tinca tinca"; a name that two classes have decides nothing."""
    labels = ("tench", "crane (bird)", *(f"class {i}" for i in range(38)))
    lines = ["n0 tench, Tinca tinca", "n1 crane", *(f"m{i} class {i}, also {i}" for i in range(38))]
    (tmp_path / "all.txt").write_text("\n".join(lines))
    classes = Classes(labels, tmp_path / "all.txt")
    assert [classes.index(f) for f in ("n0", "n1", "m37")] == [0, 1, 39], "in order, since all but one line fit"
    (tmp_path / "part.txt").write_text("\n".join(["m5 class 5, also 5", "n1 crane", "n0 tench, Tinca tinca"]))
    classes = Classes(labels, tmp_path / "part.txt")
    assert [classes.index(f) for f in ("m5", "n1", "n0")] == [7, None, 0]
    twice = Classes(("crane, Grus", "crane, derrick", "kite"))
    assert [twice.index(f) for f in ("crane", "derrick", "kite")] == [None, 1, 2]


def test_squeezenet_is_built_as_its_layout_says(tmp_path: Path) -> None:
    """Against PyTorch's own SqueezeNet with the same random weights."""
    torch = pytest.importorskip("torch")
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    net = torchvision.models.squeezenet1_0(weights=None).eval()
    names = {"features.0": "conv1", "classifier.1": "conv_final"}
    names |= {f"features.{i}": f"fire{n}" for n, i in zip(range(2, 10), (3, 4, 5, 7, 8, 9, 10, 12), strict=True)}
    arrays = {}
    for key, value in net.state_dict().items():
        stem = next(n for n in sorted(names, key=len, reverse=True) if key.startswith(n + "."))
        arrays[names[stem] + key[len(stem) :]] = value.numpy()
    np.savez(tmp_path / "judge.npz", **arrays)
    judge = open_judge(tmp_path / "judge.npz", None, tmp_path)
    picture = np.random.default_rng(0).integers(0, 256, (227, 227, 3), dtype=np.uint8)
    found = judge.see([picture])
    bgr = picture[:, :, ::-1].astype(np.float32) - np.asarray([104, 117, 123], np.float32)
    session = onnxruntime.InferenceSession(str(judge.network.path), providers=["CPUExecutionProvider"])
    raw = session.run(["scores"], {"image": bgr.transpose(2, 0, 1)[None]})[0]
    np.testing.assert_allclose(found.logits, raw, rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        # its classifier has no padding where the Caffe release pads by one
        net.classifier[1].padding = (1, 1)
        theirs = net(torch.from_numpy(np.ascontiguousarray(bgr.transpose(2, 0, 1))[None])).numpy()
    np.testing.assert_allclose(raw, theirs, rtol=1e-3, atol=1e-3)


def test_a_judge_without_its_arrays_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "judge.npz", **{"conv1.weight": np.zeros((96, 3, 7, 7))})
    with pytest.raises(InputError, match=r"lacks conv1\.bias"):
        open_judge(tmp_path / "judge.npz", None, tmp_path)


def test_the_cases_are_what_they_say() -> None:
    assert len(LABELS) == 2 * len(COLOURS)
