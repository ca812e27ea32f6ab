"""A dozen small images, one of them damaged, and trainings that measure their statistics on few batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.generators import candidates, train


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(12):
        picture = Image.fromarray(rng.integers(0, 255, (5, 7, 3), dtype=np.uint8)).resize((30, 24))
        picture.save(folder / f"{i:02d}.png")
    (folder / "broken.jpg").write_bytes(b"nothing")
    return folder


@pytest.fixture
def short_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "STATISTICS_BATCHES", 4)
    monkeypatch.setattr(candidates, "NUM_IMAGES", 48)
    monkeypatch.setattr(candidates, "NUM_CANDIDATES", 6)
