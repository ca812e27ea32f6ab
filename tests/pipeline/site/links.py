"""Pages as tests see them, and the link check over a whole site."""

from __future__ import annotations

from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

VOID = {"meta", "link", "img", "br", "input"}


class Page(HTMLParser):
    """Links, ids, tags and texts of a page; fails on tags that do not nest."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert not self._open, f"{path}: {self._open} left open"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"{self.path}: an attribute twice in {tag}"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"{self.path}: </{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, name: str) -> list[str]:
        return [value for _, attrs in self.tags for key, value in attrs.items() if key == name and value is not None]

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def targets(page: Page) -> list[str]:
    """Addresses that a page names, those of pictures inside SVG included."""
    return [*page.values("href"), *page.values("src")]


def check_links(
    site: Path, parsed: Mapping[str, Page], outside: tuple[str, ...] = ("https://example.org/net",)
) -> None:
    """Every address leads to a file of the site, and its fragment to an id there; ``outside`` may be named too."""
    for name, page in parsed.items():
        for link in targets(page):
            if link in outside:
                continue
            address, _, fragment = link.partition("#")
            path = unquote(address.partition("?")[0])
            target = ((site / name).parent / path).resolve() if path else (site / name).resolve()
            assert target.is_file(), f"{name}: {link}"
            assert target.is_relative_to(site.resolve()), f"{name}: {link}"
            if fragment and target.name != "compare.html":
                assert fragment in parsed[str(target.relative_to(site.resolve()))].values("id"), f"{name}: {link}"


def check_reached(site: Path, parsed: Mapping[str, Page]) -> None:
    """Every file is named by a page that can be reached from the first one; ``search.js`` is loaded by a script."""
    root = site.resolve()
    reached, todo = {"search.js"}, ["index.html"]
    while todo:
        name = todo.pop()
        if name in reached:
            continue
        reached.add(name)
        if name in parsed:
            links = [unquote(link.partition("#")[0].partition("?")[0]) for link in targets(parsed[name])]
            todo += [
                str(((root / name).parent / link).resolve().relative_to(root))
                for link in links
                if link and not link.startswith("https:")
            ]
    assert {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()} - reached == set()
