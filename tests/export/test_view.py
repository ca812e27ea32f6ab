from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from export.errors import ModelError
from export.view import JITTER_PERIOD, crop_matrix, make_view, resize_matrix


@pytest.mark.parametrize(("size", "out"), [(16, 20), (64, 128), (7, 7), (30, 12), (5, 17)])
def test_resize_is_torch_bilinear(size: int, out: int) -> None:
    image = torch.rand(1, 1, size, size, dtype=torch.float64)
    matrix = resize_matrix(size, out).astype(np.float64)
    ours = matrix @ image[0, 0].numpy() @ matrix.T
    theirs = F.interpolate(image, size=(out, out), mode="bilinear", align_corners=False, antialias=out < size)
    np.testing.assert_allclose(ours, theirs[0, 0].numpy(), atol=1e-6)


def test_a_shift_moves_the_picture() -> None:
    ramp = np.arange(10.0)
    np.testing.assert_allclose((resize_matrix(10, 10, 2) @ ramp)[:8], ramp[2:])
    np.testing.assert_allclose((resize_matrix(10, 10, -2) @ ramp)[2:], ramp[:8])


def test_crop() -> None:
    ramp = np.arange(10.0)
    assert (crop_matrix(10, 6) @ ramp).tolist() == [2, 3, 4, 5, 6, 7]
    assert (crop_matrix(10, 6, 1) @ ramp).tolist() == [3, 4, 5, 6, 7, 8]


def test_the_last_of_every_period_is_steady_and_the_rest_moves() -> None:
    view = make_view(16, 20, 24, fit="resize", jitter_px=3, steps=50)
    steady = view.steady()
    assert steady[JITTER_PERIOD - 1 :: JITTER_PERIOD].all()
    assert steady.sum() < 25
    assert view.rows.shape == (7, 20, 16)
    assert view.columns.shape == (7, 24, 16)
    assert make_view(16, 20, 20, fit="resize", jitter_px=0, steps=9).steady().all()
    few = make_view(16, 20, 20, fit="resize", jitter_px=0, zoom=(1.5, 2), steps=3)
    assert few.steady().tolist() == [False, False, True]


def test_identity() -> None:
    assert make_view(16, 16, 16, fit="resize", jitter_px=0, steps=5).is_identity()
    assert make_view(16, 16, 16, fit="crop", jitter_px=0, steps=5).is_identity()
    assert not make_view(16, 16, 16, fit="crop", jitter_px=1, steps=5).is_identity()


def test_a_crop_that_does_not_fit() -> None:
    with pytest.raises(ModelError, match="cannot be cropped"):
        make_view(64, 128, 128, fit="crop", jitter_px=0, steps=5)
