"""The flows on a real Prefect server with real workers, deployed as ``deploy/prefect.yaml`` says."""

from __future__ import annotations

import json
import urllib.error
from pathlib import Path

import pytest
import yaml

from tests.pipeline import commands
from tests.pipeline.instrument import begun
from tests.pipeline.prefect_site import ENDED, ROOT, Site
from tests.pipeline.test_build import shards_of


def test_a_run_makes_the_same_files_as_the_command_and_leaves_artifacts(site: Site, tmp_path: Path) -> None:
    done = site.prefect("deployment", "run", "atlas/tiny", "--watch", "--param", 'fan_out={"helpers": 0}')
    assert done.returncode == 0, done.stdout + done.stderr
    out = site.project / "build" / "tiny"
    assert (out / "site" / "index.html").is_file()
    config = site.project / "deploy" / "atlases" / "tiny.toml"
    command = commands.run("build", config, "--out", tmp_path / "out", env=site.env)
    assert command.returncode == 0, command.stderr
    assert shards_of(out) == shards_of(tmp_path / "out")
    assert (out / "units.parquet").read_bytes() == (tmp_path / "out" / "units.parquet").read_bytes()

    artifacts = {artifact["key"]: artifact for artifact in site.post("artifacts/filter")}
    kinds = ("summary", "layers", "shards", "site", "preview", "progress")
    assert set(artifacts) == {f"tiny-{kind}" for kind in kinds}
    assert "16 of 16 jobs to run in 9 shards" in artifacts["tiny-summary"]["data"]
    assert sum(row["jobs"] for row in json.loads(artifacts["tiny-shards"]["data"])) == 16
    assert [row["layer"] for row in json.loads(artifacts["tiny-layers"]["data"])] == ["relu1", "fc"]
    assert float(artifacts["tiny-progress"]["data"]) == 100.0
    assert artifacts["tiny-preview"]["data"].startswith("data:image/jpeg;base64,")
    assert (out / "site" / "index.html").resolve().as_uri() in artifacts["tiny-site"]["data"]
    (first,) = site.post("flow_runs/filter", flow_runs={"state": {"type": {"any_": ["COMPLETED"]}}})
    assert sorted(site.tasks(first)) == sorted(["plan", *["relu1"] * 3, *["fc"] * 6, "publish"])

    again = site.run()
    assert again["state_type"] == "COMPLETED"
    assert sorted(site.tasks(again)) == ["plan", "publish"]
    summaries = [a["data"] for a in site.post("artifacts/filter", sort="CREATED_DESC") if a["key"] == "tiny-summary"]
    assert "nothing to do: 16 of 16 jobs are already in the store" in summaries[0]


def test_a_helper_on_another_worker_takes_shards_and_no_shard_is_made_twice(site: Site, tmp_path: Path) -> None:
    """Steps that wait for a second process: while one is in its first shard, the helper starts and takes others."""
    log = site.project / "made.log"
    earlier = begun(log)
    run = site.run(
        out=str(tmp_path / "out"), layers=["fc"], fan_out={"helpers": 1, "shards_each": 1}, runtime="meeting"
    )
    assert run["state_type"] == "COMPLETED", run["state"]["message"]
    made = begun(log) - earlier
    assert len(made) == 6
    assert set(made.values()) == {1}
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["jobs"]["made"] + report["jobs"]["found"] == 10
    assert report["jobs"]["found"] > 0, "the helper did nothing"
    (helper,) = [run for run in site.post("flow_runs/filter") if run["name"] == "tiny helper 1"]
    assert helper["state_type"] in (*ENDED, "RUNNING")


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"layers": ["reelu1"]}, "has no layer 'reelu1'; did you mean relu1"),
        ({"credentials": "nosuch"}, "there is no Secret block 'nosuch'"),
    ],
)
def test_wrong_input_fails_the_run_with_the_sentence(site: Site, parameters: dict, sentence: str) -> None:
    run = site.run(**parameters)
    assert run["state_type"] == "FAILED"
    assert sentence in run["state"]["message"]


def test_a_run_that_fails_leaves_a_summary_with_the_sentence(site: Site, tmp_path: Path) -> None:
    """Layers are checked in the task ``plan``, inside what is reported."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "store").write_text("a file where a folder should be")
    run = site.run(out=str(tmp_path / "store"))
    assert run["state_type"] == "FAILED"
    artifacts = site.post("artifacts/filter", sort="CREATED_DESC")
    summaries = [artifact["data"] for artifact in artifacts if artifact["key"] == "tiny-summary"]
    assert summaries[0].startswith("# tiny: failed")
    assert "cannot be written" in summaries[0]
    assert "choose another folder with --out" in summaries[0]


@pytest.mark.parametrize(
    ("name", "value"), [("seeds", 0), ("layers", "fc"), ("out", 3), ("fan_out", {"helpers": -1}), ("config", "")]
)
def test_parameters_of_the_wrong_type_are_refused_when_asked_for(site: Site, name: str, value: object) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        site.run(**{name: value})
    with refused.value as answer:
        assert 400 <= answer.code < 500
        assert name in answer.read().decode()


def test_every_atlas_has_a_deployment_that_is_nightly_tagged_described_and_one_at_a_time() -> None:
    raw = yaml.safe_load((ROOT / "deploy" / "prefect.yaml").read_text())
    atlases = {path.stem for path in (ROOT / "deploy" / "atlases").glob("*.toml")} - {"judge"}  # of `make judge`
    deployments = {deployment["name"]: deployment for deployment in raw["deployments"]}
    assert (
        set(deployments) - {"helper"} == atlases >= {"lite0", "resnet50", "alexnet", "googlenet", "vgg16", "vit_b_16"}
    )
    for name in atlases:
        deployment = deployments[name]
        assert deployment["parameters"] == {"config": name}
        assert {"atlas", name, "nightly"} == set(deployment["tags"])
        assert deployment["description"]
        assert deployment["version"]
        assert deployment["concurrency_limit"]["limit"] == 1
        (schedule,) = deployment["schedules"]
        assert schedule["active"]
        assert schedule["timezone"]
    crons = [deployments[name]["schedules"][0]["cron"] for name in atlases]
    assert len(set(crons)) == len(crons), "two atlases begin at the same minute"


def test_the_form_explains_every_parameter(site: Site) -> None:
    schema = site.deployment("tiny")["parameter_openapi_schema"]
    for name, parameter in schema["properties"].items():
        assert parameter["description"], name
    fan_out = schema["definitions"]["FanOut"]["properties"]
    assert all(field["description"] for field in fan_out.values())
    assert fan_out["helpers"]["minimum"] == 0
