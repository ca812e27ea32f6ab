"""What a run shows while it is at work, and that showing it is never what ends it."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.build import build, make_reported, prepare, run_shards
from pipeline.claims import Claims
from pipeline.config import load_config
from pipeline.flows import artifacts, reporter
from pipeline.flows.reporter import RunReporter
from pipeline.plan import make_plan
from pipeline.progress import SilentReporter
from pipeline.report import RunReport
from pipeline.workspace import Workspace, open_workspace


class Server:
    """Takes artifacts as Prefect's functions leave them: (kind, key, content), in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, take: Callable[[], None] = lambda: None) -> None:
        self.left: list[tuple[str, str, Any]] = []

        def taking(kind: str) -> Callable[..., str]:
            def create(content: Any = None, key: str = "", **more: Any) -> str:
                take()
                self.left.append((kind, key, content if content is not None else more.get("image_url")))
                return "an id"

            return create

        monkeypatch.setattr(artifacts, "_failed", [])
        monkeypatch.setattr(reporter, "create_progress_artifact", taking("progress"))
        monkeypatch.setattr(reporter, "update_progress_artifact", lambda id, progress: taking("update")(progress))
        for kind in ("table", "image", "markdown", "link"):
            monkeypatch.setattr(artifacts, f"create_{kind}_artifact", taking(kind))

    def of(self, kind: str) -> list[Any]:
        return [content for found, _, content in self.left if found == kind]


def make_shards(workspace: Workspace, report: RunReport, told: list[str]) -> None:
    with Claims(workspace.store.blobs) as claims:
        plan = prepare(workspace)
        report.plan(plan)
        shown = RunReporter(told.append, "tiny", report)
        run_shards(workspace, plan, claims, report, shown, make_reported, lambda: None)


def test_table_and_preview_come_with_every_layer_that_is_complete(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, workspace = Server(monkeypatch), open_workspace(load_config(str(tiny)), tmp_path / "out")
    make_shards(workspace, RunReport(workspace), [])
    tables = [{row["layer"]: row["made"] for row in table} for table in server.of("table")]
    assert {"relu1": 6, "fc": 0} in tables, "no table between the layers"
    assert tables[-1] == {"relu1": 6, "fc": 10}
    assert {key for kind, key, _ in server.left if kind in ("table", "image")} == {"tiny-layers", "tiny-preview"}
    first = server.of("image")[0]
    with Image.open(io.BytesIO(base64.b64decode(first.partition("base64,")[2]))) as sheet:
        assert sheet.format == "JPEG"
        assert sheet.width >= 3 * 128  # six pictures of relu1, near square
    assert server.of("progress") == [0.0]
    assert server.of("update")[-1] == 100.0


def test_a_layers_row_tells_rate_activation_and_dead_units(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, workspace = Server(monkeypatch), open_workspace(load_config(str(tiny)), tmp_path / "out")
    make_shards(workspace, RunReport(workspace), [])
    row = {row["layer"]: row for row in server.of("table")[-1]}["relu1"]
    assert row["jobs"] == 6
    assert row["dead"] == 1
    (seed,) = make_plan(workspace).layers[0].seeds
    alive = [r.activation for shard in seed.stored for r in workspace.store.read_shard(shard) if r.status == "done"]
    assert row["mean_activation"] == pytest.approx(sum(alive) / 5, rel=1e-5)
    assert row["units_per_s"] > 0


def test_a_server_that_takes_no_artifact_does_not_end_the_run(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    asked: list[None] = []

    def refuse() -> None:
        asked.append(None)
        raise RuntimeError("Failed to reach API")

    Server(monkeypatch, refuse)
    workspace, told = open_workspace(load_config(str(tiny)), tmp_path / "out"), list[str]()
    report = RunReport(workspace)
    make_shards(workspace, report, told)
    assert report.num_made == 16
    assert told[0] == "16 of 16 jobs to run in 9 shards"
    assert "an artifact could not be left with the server: Failed to reach API" in caplog.text
    assert len(asked) == 1, "every attempt holds up the run"


def test_a_failure_is_summed_up_with_its_sentence(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server, workspace = Server(monkeypatch), open_workspace(load_config(str(tiny)), tmp_path / "out")
    report = RunReport(workspace)
    report.plan(prepare(workspace))
    artifacts.leave_failure("tiny", "tiny", [{"layer": "fc"}], report, ValueError("the disk is full: free some space"))
    (text,) = server.of("markdown")
    assert text.startswith("# tiny: failed\n")
    assert "    the disk is full: free some space\n" in text
    assert "0 of 16 jobs were run before it failed" in text
    assert server.of("table") == [[{"layer": "fc"}]]


def test_the_report_counts_shards_of_a_run_that_fails(tiny: Path, tmp_path: Path, monkeypatch) -> None:
    from pipeline import build as building

    original, calls = building.make_shard, list[object]()

    def fail_later(workspace, shard, engines, record):
        calls.append(shard)
        if len(calls) > 2:
            raise ValueError("the third")
        return original(workspace, shard, engines, record)

    monkeypatch.setattr(building, "make_shard", fail_later)
    with pytest.raises(ValueError, match="the third"):
        build(load_config(str(tiny)), tmp_path / "out", SilentReporter())
    written = (tmp_path / "out" / "report.json").read_text()
    assert '"made": 2' in written
    assert "the third" in written
