"""A recipe's key: stable, and different whenever anything that matters is."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from export.priors.box import BoxPrior
from pipeline.recipe import KEY_LENGTH, Recipe, prior_digest
from tests.pipeline.recipes import make_recipe

CHANGES: dict[str, object] = {
    "network": "d" * 64,
    "generator": "d" * 64,
    "prior": "d" * 64,
    "layer": "conv2",
    "target": "conv1/pre",
    "fallback": "conv1/pre",
    "ascent": {"kind": "adam", "steps": 20, "lr": 0.2, "lr_end": 0.0},
    "stop": {"max_steps": 20, "tolerance": 0.01},
    "poll_every": 4,
    "start_scale": 0.2,
    "runtime": "openvino",
    "runtime_version": "1.2.4",
    "precision": "bf16",
    "batch": 5,
    "candidates": 7,
    "attempts": {"count": 4, "trial_steps": 15},
    "start": "d" * 20,
    "film": {"steps": [0, 5], "px": 64},
    "seed": 1,
    "graph_revision": 10**6,
}


def test_the_key_of_a_known_recipe_never_changes() -> None:
    assert make_recipe(graph_revision=1).key == "fbd18d254eff46c27742"


def test_the_key_is_the_same_in_another_process() -> None:
    code = "from tests.pipeline.recipes import make_recipe; print(make_recipe().key)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == make_recipe().key


def test_every_field_has_a_change_to_test() -> None:
    assert set(CHANGES) == {field.name for field in dataclasses.fields(Recipe)}


@pytest.mark.parametrize("name", CHANGES)
def test_each_field_changes_the_key(name: str) -> None:
    assert make_recipe(**{name: CHANGES[name]}).key != make_recipe().key


def test_keys_are_hexadecimal_and_long_enough() -> None:
    assert KEY_LENGTH >= 16
    assert len(make_recipe().key) == KEY_LENGTH
    int(make_recipe().key, 16)


def test_the_json_is_canonical() -> None:
    shuffled = make_recipe(ascent={"lr_end": 0.0, "lr": 0.1, "steps": 20, "kind": "adam"})
    assert shuffled.to_json() == make_recipe().to_json()
    assert list(json.loads(shuffled.to_json())) == sorted(json.loads(shuffled.to_json()))


def test_a_recipe_with_a_value_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        make_recipe(start_scale=float("inf")).to_json()


@pytest.mark.parametrize("name", ["mean", "std", "low", "high", "decay"])
def test_every_array_of_the_prior_and_the_decay_change_its_digest(name: str) -> None:
    rng = np.random.default_rng(0)
    arrays = {key: rng.random(5, np.float32) for key in ("mean", "std", "low", "high", "decay")}
    changed = arrays | {name: arrays[name] + np.float32(1e-6)}
    assert prior_digest(BoxPrior(**arrays), None) != prior_digest(BoxPrior(**changed), None)
    assert prior_digest(BoxPrior(**arrays), None) != prior_digest(BoxPrior(**arrays), 0.5)
    assert prior_digest(BoxPrior(**arrays), 0.5) == prior_digest(BoxPrior(**arrays), 0.5)
