"""Limits: no space, no right to write, a hundred thousand shards, and what a plan foretells."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import subprocess
import sys
import time
import tracemalloc
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from engine.footprint import OVERHEAD_BYTES, engine_bytes
from engine.tuning import Setting
from export.errors import StoreError
from pipeline import build as building
from pipeline import predict as predicting
from pipeline import versions
from pipeline.build import build
from pipeline.check import check_plan
from pipeline.config import Overrides, load_config
from pipeline.plan import make_plan
from pipeline.predict import Prediction, check_room, predict
from pipeline.progress import SilentReporter
from pipeline.tuning import compiled
from pipeline.workspace import Workspace, open_workspace
from tests.pipeline import commands
from tests.pipeline.test_build import results_of

Usage = namedtuple("Usage", "total used free")


def test_a_full_disk_stops_the_run_in_one_sentence_and_the_rest_is_made_later(tiny: Path, tmp_path: Path) -> None:
    """A limit on the size of files fails a write in the middle, as a full disk does."""
    out, whole = tmp_path / "out", tmp_path / "whole"
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "build", str(tiny), "--out", str(out)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "what is done is kept: free some space and run again" in done.stderr
    assert "layer relu1, seed 0, units 0 to 1" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path for path in out.rglob("*.tmp") if path.is_file()] == []
    assert list(out.rglob("*.claim")) == []
    for folder in (out, whole):
        assert commands.run("build", tiny, "--out", folder).returncode == 0
    assert results_of(out) == results_of(whole)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 kB, where this may be mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("file systems cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full(tiny: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (small_disk / "ballast").write_bytes(b"x" * 200_000)
    monkeypatch.setattr(predicting.shutil, "disk_usage", lambda path: Usage(10**12, 0, 10**12))
    config = load_config(str(tiny))
    with pytest.raises(Exception, match="free some space and run again"):
        build(config, small_disk / "out", SilentReporter())
    assert json.loads((small_disk / "out" / "report.json").read_text())["outcome"] == "failed"
    made = len(list((small_disk / "out" / "store").glob("*/0*.json")))
    (small_disk / "ballast").unlink()
    report = build(Overrides(layers=("fc",), units="0:1", seeds=1).apply(config), small_disk / "out", SilentReporter())
    assert report.index.is_file()
    assert made == len(list((small_disk / "out" / "store").glob("*/0*.json"))) - report.num_made


def test_a_folder_that_cannot_be_written_is_refused_before_work(tiny: Path) -> None:
    done = commands.run("build", tiny, "--out", "/proc/atlas")
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert "choose another with --out" in done.stderr


def without_privileges() -> None:
    """In a child of root: from the next program on, permissions of files count for it as for anybody."""
    drop_from_bounding_set = 24
    for capability in range(64):
        ctypes.CDLL(None).prctl(drop_from_bounding_set, capability, 0, 0, 0)


def test_a_folder_that_became_read_only_is_refused_and_last_nights_site_stays(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build(Overrides(layers=("fc",), units="0:2").apply(load_config(str(tiny))), out, SilentReporter())
    before = commands.files_below(out / "site")
    folders = [path for path in (out, *out.rglob("*")) if path.is_dir() and not path.is_symlink()]
    for path in folders:
        path.chmod(0o555)
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "build", str(tiny), "--out", str(out)],
        preexec_fn=without_privileges if os.getuid() == 0 else None,
        capture_output=True,
        text=True,
        check=False,
    )
    for path in folders:
        path.chmod(0o755)
    assert done.returncode == 2, done.stderr
    assert "cannot be written (Permission denied); choose another with --out" in done.stderr
    assert "Traceback" not in done.stderr
    assert commands.files_below(out / "site") == before


@pytest.mark.parametrize("years", [-40, 40])
def test_a_clock_that_jumps_in_mid_run_changes_no_byte_and_loses_nothing(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, years: int
) -> None:
    """The wall clock jumps after every shard: what is claimed, stored, numbered and published does not hang on it."""
    whole, out, real, jumps = tmp_path / "whole", tmp_path / "out", time.time, list[float]()
    build(load_config(str(tiny)), whole, SilentReporter())
    original = building.make_shard

    def jump(*arguments, **options):
        jumps.append(years * 365 * 86400.0)
        return original(*arguments, **options)

    monkeypatch.setattr(time, "time", lambda: real() + sum(jumps[-1:]))
    monkeypatch.setattr(building, "make_shard", jump)
    config = load_config(str(tiny))
    build(Overrides(layers=("fc",), units="0:2").apply(config), out, SilentReporter())
    assert len(jumps) == 2
    assert build(config, out, SilentReporter()).num_made == 12
    assert len(jumps) == 9
    assert results_of(out) == results_of(whole)
    assert [version.number for version, _ in versions.kept(out)] == [1, 2]
    assert build(config, out, SilentReporter()).num_made == 0


def predicted(workspace: Workspace) -> Prediction:
    plan = make_plan(workspace)
    return predict(workspace, plan, check_plan(workspace, plan))


def test_too_little_room_is_told_before_the_night_starts(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predicting.shutil, "disk_usage", lambda path: Usage(10**6, 10**6 - 5000, 5000))
    with pytest.raises(StoreError, match=r"needs about .* on the disk of .*, where 5 kB are free; free some") as caught:
        build(load_config(str(tiny)), tmp_path / "out", SilentReporter())
    assert caught.value.exit_code == 2
    assert list(tmp_path.rglob("*.parquet")) == []


def test_too_little_memory_is_a_warning(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = open_workspace(load_config(str(tiny)), tmp_path / "out")
    prediction = predicted(workspace)
    monkeypatch.setattr(predicting, "available_memory", lambda: prediction.memory_bytes + 1)
    assert check_room(workspace, prediction) == []
    monkeypatch.setattr(predicting, "available_memory", lambda: prediction.memory_bytes - 1)
    (warning,) = check_room(workspace, prediction)
    assert "a smaller run.batch needs less" in warning


def test_predictions_come_from_the_last_run_where_there_was_one(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    workspace = open_workspace(load_config(str(tiny)), out)
    first = predicted(workspace)
    assert first.basis == "arithmetic"
    assert first.store_bytes > 0
    assert first.site_bytes > 0
    manifest = compiled(workspace, "fc", 3).manifest
    needed = engine_bytes(manifest, Setting(3, 1)) - OVERHEAD_BYTES
    assert first.memory_bytes - OVERHEAD_BYTES == pytest.approx(needed, rel=0.02)
    build(Overrides(layers=("fc",), units="0:4").apply(load_config(str(tiny))), out, SilentReporter())
    rate = json.loads((out / "report.json").read_text())["layers"]["fc"]["units_per_s"]
    workspace = open_workspace(Overrides(layers=("fc",)).apply(load_config(str(tiny))), out)
    second = predicted(workspace)
    assert second.basis == "last run"
    assert second.duration_s == pytest.approx(2 / rate, abs=0.06)
    build(load_config(str(tiny)), out, SilentReporter())
    assert predicted(workspace).basis == "nothing to do"


def test_a_hundred_thousand_shards_are_planned_in_seconds_and_little_memory(tiny: Path, tmp_path: Path) -> None:
    path = tiny.parent / "network.onnx"
    model = onnx.load(path)
    rng = np.random.default_rng(0)
    wide = {"w3": rng.normal(size=(100_000, 7)), "b3": np.zeros(100_000)}
    for tensor in model.graph.initializer:
        if tensor.name in wide:
            tensor.CopyFrom(numpy_helper.from_array(wide[tensor.name].astype(np.float32), tensor.name))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 100_000
    card = json.loads(model.metadata_props[0].value)
    del card["labels"]
    model.metadata_props[0].value = json.dumps(card)
    onnx.save(model, path)
    tiny.write_text(tiny.read_text().replace("shard_size = 2", "shard_size = 1"))
    workspace = open_workspace(Overrides(layers=("fc",), seeds=1).apply(load_config(str(tiny))), tmp_path / "out")
    start = time.process_time()
    plan = make_plan(workspace)
    took_s = time.process_time() - start
    assert len(plan.shards) == 100_000
    assert took_s < 20
    assert predict(workspace, plan, []).duration_s > 0
    tracemalloc.start()
    again = make_plan(workspace)
    held_bytes, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(again.shards) == 100_000
    assert peak_bytes < 200e6
    print(f"planned in {took_s:.1f} s; the plan holds {held_bytes / 1e6:.0f} MB, {peak_bytes / 1e6:.0f} MB at its peak")


def test_the_report_tells_what_was_done_and_is_written_when_a_run_fails(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build(load_config(str(tiny)), out, SilentReporter())
    report = json.loads((out / "report.json").read_text())
    assert (report["outcome"], report["error"], report["atlas"]) == ("published", None, "tiny")
    assert report["jobs"] == {"asked": 16, "made": 16, "found": 0, "dead": 1}
    assert report["shards"] == {"made": 9, "found": 0, "damaged": 0}
    assert report["layers"]["relu1"]["dead"] == 1
    assert report["layers"]["fc"]["units_per_s"] > 0
    assert report["layers"]["fc"]["image_steps_per_s"] == pytest.approx(
        10 * report["layers"]["fc"]["units_per_s"], rel=0.01
    )
    assert report["peak_memory_bytes"] > 10**7
    assert report["version"] == (out / "current").resolve().name
    shutil.rmtree(out / "versions")
    with pytest.raises(Exception, match="has no layer 'nosuch'"):
        build(Overrides(layers=("nosuch",)).apply(load_config(str(tiny))), out, SilentReporter())
    report = json.loads((out / "report.json").read_text())
    assert report["outcome"] == "failed"
    assert "nosuch" in report["error"]
