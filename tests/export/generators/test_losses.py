"""Losses that need no network, and images brought to the detail they were stored at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from export.generators.images import Sampler, Source, enlarged, load
from export.generators.losses import agreement, commonness, normalised, seen_at, seen_from


def test_images_of_less_detail_are_compared_at_their_own(images: Path, tmp_path: Path) -> None:
    sources = [Source(images, 1, 8), Source(images, 1, 18)]
    batch = Sampler(sources, tmp_path, 16, 0).batch(0, 16)
    assert set(batch.native_px) == {8, 16}
    low = torch.from_numpy(batch.native_px) == 8
    known = load(sources[0], tmp_path)
    enlargements = {enlarged(way, 16).tobytes() for image in known for way in (image, image[:, ::-1].copy())}
    for image in batch.images[low.numpy()]:
        assert np.rint(image.transpose(1, 2, 0) * 255).astype(np.uint8).tobytes() in enlargements
    fine = torch.rand(16, 3, 16, 16)
    seen = seen_at(fine, torch.from_numpy(batch.native_px))
    assert torch.equal(seen[~low], fine[~low])
    torch.testing.assert_close(
        seen_at(F.interpolate(F.avg_pool2d(fine, 2), scale_factor=2.0), torch.full((16,), 8))[low], seen[low]
    )


def test_a_size_that_does_not_divide_is_averaged_by_area(images: Path, tmp_path: Path) -> None:
    batch = Sampler([Source(images, 1, 8)], tmp_path, 12, 0).batch(0, 4)
    assert batch.images.shape == (4, 3, 12, 12)
    assert (batch.native_px == 8).all()
    ramp = torch.linspace(0, 1, 12).expand(1, 3, 12, 12)
    seen = seen_at(ramp, torch.tensor([8]))
    assert (seen.diff(dim=3) >= 0).all()
    assert float(seen.mean()) == pytest.approx(0.5, abs=1e-6)
    assert not torch.equal(seen, ramp)


def test_what_stands_at_one_place_in_every_image_is_told() -> None:
    """Cosines between pairs, counted one by one; 0 for noise, whatever its colours; 1 for one image many times."""
    torch.manual_seed(0)
    noise = torch.rand(6, 3, 16, 16) + torch.rand(6, 3, 1, 1)
    pattern = torch.rand(1, 3, 16, 16)
    assert abs(float(commonness(noise))) < 0.02
    assert 0.2 < float(commonness(noise + pattern)) < 0.8
    assert float(commonness(pattern.expand(6, -1, -1, -1))) == pytest.approx(1, abs=1e-5)
    around = torch.nn.functional.avg_pool2d(noise, 3, stride=1, padding=1, count_include_pad=False)
    flat = torch.nn.functional.normalize((noise - around).flatten(1), dim=1)
    pairs = [float(flat[i] @ flat[j]) for i in range(6) for j in range(6) if i != j]
    assert float(commonness(noise)) == pytest.approx(float(np.mean(pairs)), abs=1e-5)


def test_who_sees_the_same_classes_agrees() -> None:
    """The mean divergence row by row; the encoder's opinion is not moved."""
    torch.manual_seed(0)
    seen, witnessed = torch.randn(5, 7, requires_grad=True), torch.randn(5, 7, requires_grad=True)
    wanted, got = seen.detach().softmax(1), witnessed.detach().softmax(1)
    value = agreement(seen, witnessed)
    assert float(value.detach()) == pytest.approx(float((wanted * (wanted / got).log()).sum(1).mean()), rel=1e-5)
    assert float(agreement(seen, seen + 3).detach()) == pytest.approx(0, abs=1e-6)
    value.backward()
    assert seen.grad is None
    torch.testing.assert_close(witnessed.grad, (got - wanted) / 5)


def test_maps_are_brought_to_the_same_size() -> None:
    maps = torch.randn(4, 3, 8, 8) * torch.tensor([0.1, 1, 10])[:, None, None]
    scale = maps.square().mean(dim=(0, 2, 3)).sqrt()
    (brought,) = normalised([maps], [scale])
    torch.testing.assert_close(brought.square().mean(dim=(0, 2, 3)), torch.ones(3))


def test_every_image_is_seen_from_its_own_distance_and_place() -> None:
    """Ramps tell both: the slope of what is seen is the magnification, and nothing is from beyond the edge."""
    ramp = (torch.arange(32) + 0.5) / 32
    images = torch.stack([ramp.expand(32, 32), ramp[:, None].expand(32, 32), torch.ones(32, 32)]).repeat(64, 1, 1, 1)
    assert seen_from(images, 1.0, torch.Generator()) is images
    seen = seen_from(images, 2.0, torch.Generator().manual_seed(0))
    across, down = seen[:, 0, 1:-1, 1:-1].diff(dim=2) * 32, seen[:, 1, 1:-1, 1:-1].diff(dim=1) * 32
    share = across.mean(dim=(1, 2))
    torch.testing.assert_close(across, share[:, None, None].expand_as(across), rtol=0.01, atol=0.01)
    torch.testing.assert_close(down.mean(dim=(1, 2)), share, rtol=0.01, atol=0.01)
    assert 0.5 <= float(share.min()) < 0.55
    assert 0.95 < float(share.max()) <= 1
    places = seen[:, 0].mean(dim=(1, 2))
    free = (1 - share) / 2
    assert ((places - 0.5).abs() <= free + 0.01).all()
    assert float((places - 0.5).std()) > 0.04
    torch.testing.assert_close(seen[:, 2], torch.ones(64, 32, 32))
