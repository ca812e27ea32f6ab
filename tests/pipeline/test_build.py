"""Builds: resumed after any end, the same bytes as if never interrupted, nothing computed twice."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from export.errors import AtlasError
from pipeline import build as building
from pipeline import temporary
from pipeline.build import BuildReport, build
from pipeline.config import Overrides, load_config
from pipeline.lock import BuildLock
from pipeline.plan import make_plan
from pipeline.progress import LineReporter
from pipeline.workspace import open_workspace
from tests.pipeline.commands import files_below, run, start
from tests.pipeline.models import write_tiny

NUM_JOBS = 16
KILLS = 3


def build_here(config: Path, out: Path, lines: list[str] | None = None, **overrides: object) -> BuildReport:
    settings = Overrides(**overrides).apply(load_config(str(config)))  # type: ignore[arg-type]
    return build(settings, out, LineReporter((lines if lines is not None else []).append))


def num_todo(config: Path, out: Path) -> int:
    return make_plan(open_workspace(load_config(str(config)), out)).num_todo


def results_of(out: Path) -> dict[str, bytes]:
    """The store and the table, which must not depend on how they came to be."""
    return files_below(out / "store") | {"units.parquet": (out / "units.parquet").read_bytes()}


def test_a_build_leaves_store_table_and_site(tiny: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    report = build_here(tiny, tmp_path / "out", lines)
    assert (report.num_jobs, report.num_made, report.published) == (NUM_JOBS, NUM_JOBS, True)
    assert report.index == tmp_path / "out" / "site" / "index.html"
    assert report.index.is_file()
    rows = pq.read_table(tmp_path / "out" / "units.parquet").to_pylist()
    places = [(row["layer"], row["unit"], row["seed"]) for row in rows]
    assert places == [("relu1", u, 0) for u in range(6)] + [("fc", u, s) for u in range(5) for s in range(2)]
    assert {row["status"] for row in rows} == {"done", "dead"}
    assert all((tmp_path / "out" / "store" / row["recipe"] / "recipe.json").is_file() for row in rows)
    assert lines[0] == "16 of 16 jobs to run in 9 shards"


def test_a_second_build_computes_nothing_and_leaves_every_file_alone(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, lines = tmp_path / "out", list[str]()
    build_here(tiny, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != ".lock"}

    def refuse(*arguments: object) -> None:
        raise AssertionError("computed")

    monkeypatch.setattr(building, "make_shard", refuse)
    report = build_here(tiny, out, lines)
    assert lines == ["nothing to do: 16 of 16 jobs are already in the store"]
    assert (report.num_made, report.published) == (0, False)
    assert before == {
        path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != ".lock"
    }


@pytest.mark.parametrize("lost", ["site/index.html", "units.parquet", "published.json"])
def test_what_was_published_and_lost_is_published_again(tiny: Path, tmp_path: Path, lost: str) -> None:
    out = tmp_path / "out"
    build_here(tiny, out, layers=("fc",))
    before = files_below(out)
    (out / lost).unlink()
    report = build_here(tiny, out, layers=("fc",))
    assert (report.num_made, report.published) == (0, True)
    after = files_below(out)
    assert set(after) == set(before)
    assert after["units.parquet"] == before["units.parquet"]


def test_a_changed_title_is_published_without_computing(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_here(tiny, out)
    tiny.write_text(tiny.read_text().replace("A tiny network", "Another title"))
    report = build_here(tiny, out)
    assert (report.num_made, report.published) == (0, True)
    assert "Another title" in report.index.read_text()


def test_a_changed_network_is_computed_anew_beside_the_old(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_here(tiny, out, layers=("fc",))
    old = files_below(out / "store")
    text = tiny.read_text().replace("lr = 0.3", "lr = 0.2")
    tiny.write_text(text)
    assert build_here(tiny, out, layers=("fc",)).num_made == 10
    assert old.items() < files_below(out / "store").items()


def test_more_units_and_seeds_add_to_what_is_there(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert build_here(tiny, out, layers=("fc",), units="0:3", seeds=1).num_made == 3
    assert build_here(tiny, out, layers=("fc",), units="2:4", seeds=2).num_made == 3
    assert build_here(tiny, out).num_made == 10
    whole = tmp_path / "whole"
    build_here(tiny, whole)
    assert (out / "units.parquet").read_bytes() == (whole / "units.parquet").read_bytes()


def test_a_damaged_shard_is_made_again_as_it_was(tiny: Path, tmp_path: Path, caplog) -> None:
    out = tmp_path / "out"
    build_here(tiny, out)
    before = results_of(out)
    parquet, manifest = (
        sorted((out / "store").rglob(pattern))[index] for pattern, index in (("0*.parquet", 0), ("0*.json", 4))
    )
    parquet.write_bytes(parquet.read_bytes()[:100])
    manifest.write_text("{")
    assert 0 < build_here(tiny, out).num_made < NUM_JOBS
    assert results_of(out) == before
    assert caplog.text.count("made again") == 2


def test_two_builds_do_not_share_a_folder(tiny: Path, tmp_path: Path) -> None:
    with BuildLock(tmp_path / "out"), pytest.raises(AtlasError, match="is being built by process"):
        build_here(tiny, tmp_path / "out")
    assert build_here(tiny, tmp_path / "out", layers=("fc",)).num_made == 10


class Killed(BaseException):
    """Ends a build where it stands, as SIGKILL does."""


def test_a_build_that_dies_at_any_file_operation_is_resumed_to_the_same_bytes(
    tiny: Path, tmp_path: Path, dead_pid: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, object] = {"layers": ("fc",), "units": "0:3", "seeds": 1}
    build_here(tiny, tmp_path / "whole", **asked)
    expected = results_of(tmp_path / "whole")
    for operation, last in (("pipe_file", 6), ("mv", 5)):  # a probe; a recipe, two parquet files, two manifests
        for count in range(1, last + 1):
            out = tmp_path / f"{operation}{count}"
            with monkeypatch.context() as patch:
                _die_at(patch, operation, count, dead_pid)
                with pytest.raises(Killed):
                    build_here(tiny, out, **asked)
            todo = 3 - sum(len(pq.read_table(path.with_suffix(".parquet"))) for path in _manifests(out))
            assert build_here(tiny, out, **asked).num_made == todo
            assert results_of(out) == expected, (operation, count)


def test_builds_killed_at_random_moments_are_resumed_to_the_same_bytes(tmp_path: Path) -> None:
    """Real processes, SIGKILL; only the rest is computed, and nothing of the killed runs is left."""
    config = write_tiny(tmp_path / "models", steps=400, shard_size=1)
    whole = run("build", config, "--out", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    expected = results_of(tmp_path / "whole")
    rng = random.Random(7)
    num_cut = 0
    for attempt, moment in enumerate(sorted(rng.sample(range(NUM_JOBS), KILLS))):
        out = tmp_path / f"killed{attempt}"
        _kill_build(config, out, after=moment, wait_s=rng.uniform(0.0, 0.25))
        todo = num_todo(config, out)
        done = {path: path.stat().st_mtime_ns for path in _manifests(out)}
        num_cut += 0 < todo < NUM_JOBS
        resumed = run("build", config, "--out", out)
        assert resumed.returncode == 0, resumed.stderr
        assert resumed.stdout.splitlines()[-1] == str(out / "site" / "index.html")
        assert f"\n{todo} of {NUM_JOBS} jobs run in" in resumed.stdout or todo == 0
        assert results_of(out) == expected
        assert all(path.stat().st_mtime_ns == written for path, written in done.items())
        assert [name for name in files_below(out) if name.endswith(".tmp")] == []
    assert num_cut >= 1


def _kill_build(config: Path, out: Path, after: int, wait_s: float) -> None:
    """Start a build and SIGKILL it ``wait_s`` after it has finished ``after`` shards."""
    with start("build", config, "--out", out) as process:
        deadline = time.monotonic() + 60
        while len(_manifests(out)) < after or not (out / "store").is_dir():
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()
            time.sleep(0.005)
        time.sleep(wait_s)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert process.returncode in (-signal.SIGKILL, 0)


def _manifests(out: Path) -> list[Path]:
    return [path for path in (out / "store").glob("*/0*.json") if not path.name.startswith(".")]


def _die_at(patch: pytest.MonkeyPatch, operation: str, count: int, pid: int) -> None:
    """Make the ``count``-th call of a file-system operation end the build, seemingly in another process."""
    from fsspec.implementations.local import LocalFileSystem

    original = getattr(LocalFileSystem, operation)
    calls: Iterator[int] = iter(range(1, 10**6))

    def mortal(self: object, *arguments: object, **options: object) -> object:
        if next(calls) == count:
            if operation == "pipe_file":
                Path(str(arguments[0])).write_bytes(bytes(arguments[1])[:7])  # type: ignore[arg-type]
            raise Killed
        return original(self, *arguments, **options)

    patch.setattr(LocalFileSystem, operation, mortal)
    patch.setattr(temporary.os, "getpid", lambda: pid)
