"""axe-core on every kind of page, in both colour schemes."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.conftest import url_of

if TYPE_CHECKING:
    from tests.browser.conftest import Open

pytestmark = pytest.mark.browser

pytest.importorskip("axe_playwright_python", reason="axe-playwright-python, which brings axe-core, is not installed")

PAGES = ["index.html", "layer/fc/index.html", "layer/fc/1.html", "layer/fc/2.html", "layer/stem/0.html"]
PAGES += ["layer/empty/index.html", "findings.html", "compare.html#layer/fc/1,layer/stem/0,layer/fc/99"]
PAGES += ["compare.html#layer/fc,layer/stem"]
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(site: Path, open_page: Open, scheme: str) -> None:
    axe = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
    page = open_page("index.html", color_scheme=scheme)
    for name in PAGES:
        page.goto("about:blank")
        page.goto(url_of(site, name))
        page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
        if name == "index.html":
            page.get_by_label("Find a unit").fill("classes")
            page.locator("#hits a").first.wait_for()
        page.evaluate(axe)
        found = page.evaluate(
            "(values) => axe.run({ preload: false, runOnly: { type: 'tag', values } })", RULES
        )["violations"]  # fmt: skip
        told = [f"{v['id']}: {v['help']} {[node['html'][:150] for node in v['nodes'][:3]]}" for v in found]
        assert told == [], name


def test_axe_itself_would_find_something(open_page: Open) -> None:
    axe = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
    page = open_page("layer/fc/1.html")
    page.evaluate("document.querySelector('main img').removeAttribute('alt')")
    page.evaluate(axe)
    assert "image-alt" in [v["id"] for v in page.evaluate("axe.run({ preload: false })")["violations"]]
