"""The configurations of deploy/studies, which the Makefile's further studies build."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.config import load_config

ROOT = Path(__file__).parents[3]
CONFIGS = sorted((ROOT / "deploy" / "studies").glob("*.toml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_can_be_read_and_is_built_by_the_makefile(path: Path) -> None:
    assert load_config(str(path)).name == path.stem, "the folder of the build is the configuration's name"
    kind, _, rest = path.stem.partition("-")
    named = re.findall(r"^(?:PRIORS|PAIRS) *= (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert kind == "evolution" or rest in " ".join(named).split()


def test_priors_are_compared_on_units_that_the_demo_has() -> None:
    demo = {layer.name: layer.selection for layer in load_config("deploy/atlases/lite0.toml").layers}
    priors = [load_config(str(path)) for path in CONFIGS if path.stem.startswith("priors-")]
    assert len(priors) == 6
    assert len({tuple((layer.name, str(layer.selection)) for layer in config.layers) for config in priors}) == 1
    classes = next(layer.selection for layer in priors[0].layers if layer.name == "_fc")
    assert set(classes) <= set(demo["_fc"])
