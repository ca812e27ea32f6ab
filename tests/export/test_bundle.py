"""What is bundled is described, small enough, and the description is true."""

from __future__ import annotations

from export.bundle import card_page
from export.generator import resolve_generator
from export.models import ASSETS


def test_the_card_page_is_current() -> None:
    assert (ASSETS / "README.md").read_text() == card_page()


def test_bundled_files_are_small() -> None:
    assert sum(p.stat().st_size for p in ASSETS.iterdir()) <= 34 * 2**20


def test_the_generator_says_what_it_was_trained_on() -> None:
    card = resolve_generator("bundled:lite0-hybrid").card.model_dump()
    assert len(card["trained_on"]) > 50
    assert card["training_steps"] > 0
