"""SSIM against its closed forms and scikit-image."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.studies.base.similarity import ms_ssim, ssim_terms


@pytest.fixture
def picture() -> np.ndarray:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:64, 0:64]
    waves = 128 + 60 * np.sin(x / 5) + 40 * np.cos(y / 7)
    return np.clip(waves[..., None] + rng.normal(0, 12, (64, 64, 3)), 0, 255).astype(np.uint8)


def test_equal_pictures_score_one_and_noise_less(picture: np.ndarray) -> None:
    assert ms_ssim(picture, picture) == pytest.approx(1.0)
    noise = np.random.default_rng(1)
    scores = [
        ms_ssim(picture, np.clip(picture + noise.normal(0, s, picture.shape), 0, 255).astype(np.uint8))
        for s in (5, 20, 60)
    ]
    assert 1 > scores[0] > scores[1] > scores[2] > 0
    assert ms_ssim(picture, 255 - picture) == 0


def test_one_scale_is_scikit_images_ssim(picture: np.ndarray) -> None:
    """Its mean of a product against our product of means: they differ by the covariance, which is small here."""
    metrics = pytest.importorskip("skimage.metrics")
    other = np.clip(picture.astype(float) * 0.8 + 20, 0, 255)
    _, whole = metrics.structural_similarity(
        picture.astype(float),
        other,
        channel_axis=2,
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    luminance, structure = ssim_terms(picture.astype(float), other)
    theirs = whole[5:-5, 5:-5].mean(axis=(0, 1))
    np.testing.assert_allclose(luminance * structure, theirs, rtol=5e-3)


def test_a_flat_pair_has_luminance_alone() -> None:
    a, b = np.full((16, 16, 3), 100.0), np.full((16, 16, 3), 140.0)
    luminance, structure = ssim_terms(a, b)
    c1 = (0.01 * 255) ** 2
    np.testing.assert_allclose(luminance, (2 * 100 * 140 + c1) / (100**2 + 140**2 + c1))
    np.testing.assert_allclose(structure, 1.0)
