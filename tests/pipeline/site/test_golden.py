"""Golden pages: what the templates make of the sample atlas, to the byte.

After a change that is meant, write them anew and look at the difference:
``UPDATE_GOLDEN=1 python -m pytest tests/pipeline/site/test_golden.py``
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.site.publish import publish
from tests.pipeline.site.samples import full_atlas

GOLDEN = Path(__file__).parent / "golden"
PAGES = {
    "home.html": "index.html",
    "findings.html": "findings.html",
    "compare.html": "compare.html",
    "layer.html": "layer/fc/index.html",
    "unit.html": "layer/fc/1.html",
    "unit-dead.html": "layer/fc/2.html",
    "unit-crop.html": "layer/stem/0.html",
    "layer-data.js": "layer/fc/data.js",
    "unit.json": "layer/fc/1.json",
    "search.js": "search.js",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    return publish(full_atlas(folder / "study"), folder / "site").parent


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_as_it_was(site: Path, name: str) -> None:
    made, golden = (site / PAGES[name]).read_text(encoding="utf-8"), GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(made, encoding="utf-8")
    assert golden.is_file(), "no golden page; see the first lines of this file"
    assert made == golden.read_text(encoding="utf-8"), "the page changed; see the first lines of this file"


def test_no_golden_page_is_left_over() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(PAGES)
