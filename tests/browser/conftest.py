"""Chromium, and pages that fail a test when the browser has anything to complain about."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.site.publish import publish
from tests.pipeline.site.samples import full_atlas

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Dialog, Page, Request

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

Open = Callable[..., "Page"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Of a module, not of the session: while it lives, no other test could run an event loop."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed; apt-get install chromium")
    with sync_api.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    return publish(full_atlas(folder / "judge"), folder / "a folder #1" / "site").parent


@pytest.fixture
def open_page(browser: Browser, site: Path) -> Iterator[Open]:
    """``open_page("index.html", **options of the context)``; afterwards nothing may have been complained of."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def opened(name: str, **options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("requestfailed", lambda request: complaints.extend(_failures(request)))
        page.on("request", lambda request: complaints.extend(_elsewhere(request)))
        page.on("dialog", dismiss)
        page.goto(url_of(site, name) if "://" not in name else name)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def url_of(site: Path, name: str) -> str:
    """Address of a page; what comes after its file name (``?``, ``#``) stays as it is."""
    path, rest = re.fullmatch(r"([^?#]*)(.*)", name).groups()  # type: ignore[union-attr]
    return (site / path).as_uri() + rest


def _failures(request: Request) -> list[str]:
    """What is wrong with a request; none if the test left the page while it was under way."""
    return [] if request.failure == "net::ERR_ABORTED" else [f"{request.failure}: {request.url}"]


def _elsewhere(request: Request) -> list[str]:
    return [] if request.url.startswith("file://") else [f"left the folder: {request.url}"]


def eventually(page: Page, expression: str, timeout_s: float = 10.0) -> None:
    """Wait until a JavaScript expression is true. Playwright's own waiting is an eval in the page, which our pages'
    content security policy forbids from the second try on."""
    end = time.monotonic() + timeout_s
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"never true: {expression}"
        time.sleep(0.05)
