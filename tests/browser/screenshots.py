"""Pictures of a site's pages, light, dark and phone: ``python -m tests.browser.screenshots SITE OUT [PAGE...]``"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.browser.conftest import ARGUMENTS

LOOKS = {
    "light": {"viewport": {"width": 1366, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1366, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light", "device_scale_factor": 2},
}


def main(site: Path, out: Path, pages: list[str]) -> None:
    """Write OUT/PAGE.LOOK.png of every page, three screens high at most."""
    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        for look, options in LOOKS.items():
            page = browser.new_context(**options).new_page()
            for name in pages:
                page.goto("about:blank")
                page.goto(f"{site.resolve().as_uri()}/{name}")
                page.wait_for_timeout(300)
                height = min(3 * options["viewport"]["height"], page.evaluate("document.documentElement.scrollHeight"))
                page.set_viewport_size({"width": options["viewport"]["width"], "height": height})
                page.wait_for_timeout(500)
                label = "".join(c if c.isalnum() else "-" for c in name)
                page.screenshot(path=out / f"{label}.{look}.png")
                page.set_viewport_size(options["viewport"])
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:] or ["index.html"])
