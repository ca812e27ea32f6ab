"""Builds: resumed after any end, the same bytes as if never interrupted, nothing computed twice."""

from __future__ import annotations

import random
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline import build as building
from pipeline import temporary
from pipeline.blobs.local import LocalBackend
from pipeline.build import BuildReport, build
from pipeline.config import Overrides, load_config
from pipeline.plan import make_plan
from pipeline.progress import LineReporter
from pipeline.workspace import open_workspace
from tests.pipeline.commands import files_below, run, start
from tests.pipeline.models import write_tiny

NUM_JOBS = 16
KILLS = 3
NUM_WRITES = 12
"""To the store: a probe; a recipe; claim, parquet file and manifest of two shards; claim and three files to publish."""


def build_here(config: Path, out: Path, lines: list[str] | None = None, **overrides: object) -> BuildReport:
    settings = Overrides(**overrides).apply(load_config(str(config)))  # type: ignore[arg-type]
    return build(settings, out, LineReporter((lines if lines is not None else []).append))


def num_todo(config: Path, out: Path) -> int:
    return make_plan(open_workspace(load_config(str(config)), out)).num_todo


def results_of(out: Path) -> dict[str, bytes]:
    """The shards and the table, which must not depend on how they came to be; records of versions hold their date."""
    return shards_of(out) | {"units.parquet": (out / "units.parquet").read_bytes()}


def shards_of(out: Path) -> dict[str, bytes]:
    files = files_below(out / "store")
    return {name: data for name, data in files.items() if re.match(r"[0-9a-f]{20}/", name)}


def times(out: Path) -> dict[Path, int]:
    """When each file was written, but those that every run writes."""
    own = (".lock", "report.json")
    return {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name not in own}


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
    before = times(out)

    def refuse(*arguments: object) -> None:
        raise AssertionError("computed")

    monkeypatch.setattr(building, "make_shard", refuse)
    report = build_here(tiny, out, lines)
    assert lines == ["nothing to do: 16 of 16 jobs are already in the store"]
    assert (report.num_made, report.published) == (0, False)
    assert before == times(out)


@pytest.mark.parametrize("lost", ["site/index.html", "units.parquet", "current/version.json", "current", "site"])
def test_what_was_published_and_lost_is_published_again(tiny: Path, tmp_path: Path, lost: str) -> None:
    out = tmp_path / "out"
    build_here(tiny, out, layers=("fc",))
    before, table = files_below((out / "site").resolve()), (out / "units.parquet").read_bytes()
    (out / lost).unlink()
    report = build_here(tiny, out, layers=("fc",))
    assert (report.num_made, report.published) == (0, True)
    assert files_below((out / "site").resolve()).keys() - {"changes.json"} == before.keys()
    assert (out / "units.parquet").read_bytes() == table


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
    old = shards_of(out)
    text = tiny.read_text().replace("lr = 0.3", "lr = 0.2")
    tiny.write_text(text)
    assert build_here(tiny, out, layers=("fc",)).num_made == 10
    assert old.items() < shards_of(out).items()


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


class Killed(BaseException):
    """Ends a build where it stands, as SIGKILL does."""


@pytest.mark.parametrize("moment", ["half written", "after the rename"])
def test_a_build_that_dies_at_any_write_to_the_store_is_resumed_to_the_same_bytes(
    tiny: Path, tmp_path: Path, dead_pid: int, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    asked: dict[str, object] = {"layers": ("fc",), "units": "0:3", "seeds": 1}
    build_here(tiny, tmp_path / "whole", **asked)
    expected = results_of(tmp_path / "whole")
    for count in range(1, NUM_WRITES + 2):
        out = tmp_path / str(count)
        with monkeypatch.context() as patch:
            _die_at(patch, moment, count, dead_pid)
            if count > NUM_WRITES:
                build_here(tiny, out, **asked)
                break
            with pytest.raises(Killed):
                build_here(tiny, out, **asked)
        todo = 3 - sum(len(pq.read_table(path.with_suffix(".parquet"))) for path in _manifests(out))
        assert build_here(tiny, out, **asked).num_made == todo
        assert results_of(out) == expected, count


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


def _die_at(patch: pytest.MonkeyPatch, moment: str, count: int, pid: int) -> None:
    """Make the ``count``-th write to the store end the build, seemingly in another process that does nothing more."""
    original, calls, dead = LocalBackend._part, iter(range(1, 10**6)), list[bool]()

    @contextmanager
    def mortal(self: LocalBackend, path: str, data: bytes) -> Iterator[Path]:
        if dead:
            raise Killed
        if next(calls) != count:
            with original(self, path, data) as part:
                yield part
            return
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(temporary.temporary_name(target.name))
        part.write_bytes(data[:7] if moment == "half written" else data)
        if moment == "after the rename":
            yield part
        dead.append(True)
        raise Killed

    def refuse(self: LocalBackend, path: str) -> None:
        if dead:
            raise Killed
        (self.root / path).unlink(missing_ok=True)

    patch.setattr(LocalBackend, "_part", mortal)
    patch.setattr(LocalBackend, "remove", refuse)
    patch.setattr(temporary.os, "getpid", lambda: pid)
