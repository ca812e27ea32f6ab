"""``build`` and ``plan``: outputs that others rely on."""

from __future__ import annotations

import json
from pathlib import Path

from tests.pipeline.commands import call


def test_build_prints_the_page_last_and_a_second_build_has_nothing_to_do(tiny: Path, tmp_path: Path, capsys) -> None:
    out_folder = tmp_path / "out"
    code, out, err = call(
        capsys, "build", tiny, "--out", out_folder, "--layers", "fc", "--units", "0:2", "--seeds", "1"
    )
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == str(out_folder / "site" / "index.html")
    assert out.splitlines()[0] == "2 of 2 jobs to run in 1 shards"
    code, out, err = call(
        capsys, "build", tiny, "--out", out_folder, "--layers", "fc", "--units", "0:2", "--seeds", "1"
    )
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "nothing to do: 2 of 2 jobs are already in the store",
        "the site is up to date",
        str(out_folder / "site" / "index.html"),
    ]


def test_the_default_out_is_build_name(tiny: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = call(capsys, "build", tiny, "--layers", "fc", "--units", "1")
    assert code == 0
    assert out.splitlines()[-1] == "build/tiny/site/index.html"
    assert (tmp_path / "build" / "tiny" / "units.parquet").is_file()


def test_plan_json_is_exactly_the_promised_object(tiny: Path, tmp_path: Path, capsys) -> None:
    code, out, err = call(capsys, "plan", tiny, "--json", "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    prediction = facts.pop("prediction")
    assert set(prediction) == {"duration_s", "memory_bytes", "store_bytes", "site_bytes", "basis"}
    assert prediction["basis"] == "arithmetic"
    assert facts == {
        "jobs": 16,
        "done": 0,
        "todo": 16,
        "layers": {"relu1": {"jobs": 6, "done": 0, "todo": 6}, "fc": {"jobs": 10, "done": 0, "todo": 10}},
    }
    assert call(capsys, "plan", tiny, "--out", tmp_path / "out")[1].splitlines()[-2].split() == [
        "total",
        "16",
        "0",
        "16",
    ]
