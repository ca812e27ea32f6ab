"""A configuration's generator section, from the file to a build."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from export.declared_prior import make_prior
from export.errors import InputError
from export.generator import FROM_TORCH, PARAMETRISED
from export.priors import kinds
from pipeline.build import build
from pipeline.cli import cli
from pipeline.config import parse_config
from pipeline.progress import LineReporter
from pipeline.workspace import open_workspace
from tests.pipeline.models import write_generator, write_network

PRIORS: list[Any] = [
    None,
    "gaussian",
    {"kind": "truncated-normal", "bound": 1.0},
    {"kind": "box", "low": 0, "high": "bounds.txt"},
    [{"kind": "sphere", "size": 5}, {"kind": "none", "size": 3}],
]


def config_of(folder: Path, **generator: Any) -> Any:
    write_network(folder / "network.onnx")
    write_generator(folder / "generator.onnx")
    (folder / "bounds.txt").write_text("1 2 3 4 5 6 7 8")
    raw = {
        "name": "priors",
        "network": {"source": "network.onnx"},
        "generator": {"source": "generator.onnx"} | {k: v for k, v in generator.items() if v is not None},
        "ascent": {"steps": 5, "start_scale": 1.0},
        "run": {"runtime": "onnxruntime", "batch": 2, "threads": 1},
        "layers": [{"name": "relu1", "units": [0, 1]}],
    }
    return parse_config(raw, "test", folder=str(folder))


def test_every_declared_prior_is_a_recipe_of_its_own(tmp_path: Path) -> None:
    workspaces = [open_workspace(config_of(tmp_path, prior=prior), tmp_path) for prior in PRIORS]
    layer = workspaces[0].network.layer("relu1")
    assert len({w.recipe(layer, 0).key for w in workspaces}) == len(PRIORS)
    assert [w.generator.prior.kind for w in workspaces] == ["box", "gaussian", "truncated-normal", "box", "joint"]
    assert list(workspaces[3].generator.prior.high) == [1, 2, 3, 4, 5, 6, 7, 8]  # type: ignore[attr-defined]


def test_an_atlas_is_built_through_pixels_on_a_sphere(tmp_path: Path) -> None:
    config = config_of(tmp_path, source="pixels:16", prior="sphere")
    build(config, tmp_path / "out", LineReporter([].append))
    rows = pq.read_table(tmp_path / "out" / "units.parquet").to_pylist()
    assert [row["unit"] for row in rows] == [0, 1]
    assert all(row["status"] in ("done", "dead") for row in rows)


def test_a_prior_of_another_length_is_refused_before_any_work(tmp_path: Path) -> None:
    config = config_of(tmp_path, prior={"kind": "box", "high": "bounds.txt"})
    (tmp_path / "bounds.txt").write_text("1 2")
    with pytest.raises(InputError, match="prior box: high holds 2 numbers, but the generator's code has 8"):
        open_workspace(config, tmp_path)


PAGE = (Path(__file__).parents[2] / "docs" / "generators.md").read_text()


@pytest.mark.parametrize("block", re.findall(r"```toml\n(.*?)```", PAGE, re.S))
def test_the_pages_configurations_are_valid(block: str) -> None:
    raw = tomllib.loads(block)
    config = parse_config({"name": "page", "network": {"source": "x.onnx"}, "layers": [{"name": "a"}]} | raw, "page")
    kinds_of_prior = config.generator.prior
    if kinds_of_prior is not None and not (isinstance(kinds_of_prior, dict) and "high" in kinds_of_prior):
        assert make_prior(kinds_of_prior, (4,)).code_dim == 4


def test_the_page_names_every_source_and_prior() -> None:
    sources = set(re.findall(r"`(\w+):[\w.]", PAGE.split("## What the file")[0]))
    assert sources == {"bundled", *FROM_TORCH, *PARAMETRISED}
    table = PAGE.split("## Code priors")[1].split("All take")[0]
    assert set(re.findall(r"^\| `([\w-]+)` \|", table, re.M)) - {"prior"} == set(kinds()) - {"joint"}


def test_the_pages_commands_exist() -> None:
    commands = re.findall(r"neuron-atlas ([\w-]+)((?:[^\n`]|\\\n)*)", PAGE)
    assert {name for name, _ in commands} >= {"train-generator", "encode"}
    for name, arguments in commands:
        known = {option for parameter in cli.commands[name].params for option in parameter.opts}
        assert set(re.findall(r"(?<=\s)--[\w-]+", arguments)) <= known, name
