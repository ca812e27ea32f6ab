"""Small data sets of pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def write_pictures(folder: Path, count: int, side: int = 24, seed: int = 0, suffix: str = "png") -> Path:
    """``count`` pictures of noise and colour in two class folders; no two alike."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        base = rng.integers(0, 256, 3)
        noise = rng.integers(-60, 60, (side, side, 3))
        path = folder / ("ant", "bee")[index % 2] / f"{index:04d}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(base + noise, 0, 255).astype(np.uint8)).save(path)
    return folder
