"""Structural likeness of two pictures: SSIM and multi-scale SSIM."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW_PX = 11
SIGMA = 1.5
Floats = npt.NDArray[np.float64]


def ms_ssim(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> float:
    """Multi-scale SSIM (Wang, Simoncelli and Bovik 2003) of two pictures of one size, mean of the channels.

    Luminance counts at the last scale, contrast and structure at every scale. As many scales as leave a side of 11
    pixels, with the published weights of the first of them scaled to a sum of 1; negative terms count as 0.

    Args:
        a: (H, W, 3), at least 11 pixels high and wide.
        b: likewise.

    Returns:
        0 to 1; 1 for equal pictures.
    """
    one, other = (np.asarray(p, np.float64) for p in (a, b))
    scales = 1
    while scales < len(WEIGHTS) and min(one.shape[:2]) // 2**scales >= WINDOW_PX:
        scales += 1
    weights = np.asarray(WEIGHTS[:scales]) / sum(WEIGHTS[:scales])
    found = np.ones(one.shape[2])
    for scale, weight in enumerate(weights):
        luminance, structure = ssim_terms(one, other)
        term = structure * luminance if scale == scales - 1 else structure
        found *= np.maximum(term, 0.0) ** weight
        one, other = (_halved(p) for p in (one, other))
    return float(found.mean())


def ssim_terms(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """(luminance, contrast x structure) per channel, each the mean over where the window lies inside."""
    edge = WINDOW_PX // 2

    def smooth(values: Floats) -> Floats:
        blurred = ndimage.gaussian_filter(values, (SIGMA, SIGMA, 0), truncate=edge / SIGMA, mode="reflect")
        return np.asarray(blurred[edge:-edge, edge:-edge])

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_a, mean_b = smooth(a), smooth(b)
    var_a, var_b = smooth(a * a) - mean_a**2, smooth(b * b) - mean_b**2
    covariance = smooth(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (var_a + var_b + c2)
    return luminance.mean(axis=(0, 1)), structure.mean(axis=(0, 1))


def _halved(picture: Floats) -> Floats:
    height, width = (side // 2 * 2 for side in picture.shape[:2])
    even = picture[:height, :width]
    return np.asarray((even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4)
