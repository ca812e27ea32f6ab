"""Two builds side by side, as a user gets them: by the command line, and by the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.conftest import eventually
from tests.pipeline.commands import call
from tests.pipeline.models import write_tiny

if TYPE_CHECKING:
    from tests.browser.conftest import Open

pytestmark = pytest.mark.browser


def test_two_generations_of_a_network_are_compared(
    tmp_path: Path, open_page: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (write_tiny(tmp_path / name, steps=steps) for name, steps in (("a", 10), ("b", 20)))
    options = ("--layers", "fc", "--units", "0:3", "--seeds", "1")
    assert call(capsys, "build", first, *options, "--out", tmp_path / "epoch-1")[0] == 0
    code, out, err = call(
        capsys, "build", second, *options, "--out", tmp_path / "epoch-2", "--compare", tmp_path / "epoch-1"
    )
    assert code == 0, err
    page = open_page((Path(out.split()[-1]).parent / "compare.html").absolute().as_uri() + "#layer/fc")
    page.get_by_role("button", name="Add", exact=True).click()
    page.wait_for_url("**/compare.html#layer/fc,epoch-1!layer/fc")
    page.locator("#lined > li").nth(2).wait_for()
    eventually(page, "[...document.querySelectorAll('#lined img')].every((image) => image.naturalWidth)")
    cells = page.locator("#lined > li").first.locator("a")
    assert [str(link.get_attribute("href")).split("/layer/")[0] for link in cells.all()] == [
        "layer/fc/0.html",
        "../../epoch-1/site",
    ]
    cells.nth(1).click()
    page.wait_for_url("**/epoch-1/site/layer/fc/0.html")
