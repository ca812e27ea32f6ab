"""Candidates for start codes: centres of groups that are there, and of no single image."""

from __future__ import annotations

import pytest
import torch

from export.generators import candidates
from export.generators.candidates import code_candidates


def grouped(sizes: list[int], dim: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes around as many directions as there are sizes, and these directions."""
    torch.manual_seed(0)
    directions = torch.eye(dim)[: len(sizes)] * 5
    rows = torch.cat([directions[i] + 0.1 * torch.randn(n, dim) for i, n in enumerate(sizes)])
    return rows, directions


def test_centres_are_those_of_the_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "NUM_CANDIDATES", 24)
    codes, directions = grouped([40, 30, 20])
    found = code_candidates(codes, 12, seed=0)
    assert 3 <= len(found) <= 24
    nearest = torch.cdist(found, directions).min(dim=1)
    assert float(nearest.values.max()) < 0.5
    assert set(nearest.indices.tolist()) == {0, 1, 2}
    assert torch.equal(found, code_candidates(codes, 12, seed=0))
    assert not any((found == code).all(dim=1).any() for code in codes)


def test_what_is_there_decides_and_where_it_is_goes_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "NUM_CANDIDATES", 2)
    codes, _ = grouped([20, 20])
    codes = torch.cat([codes, torch.arange(40.0)[:, None].repeat(1, 3)], dim=1)
    found = code_candidates(codes, 12, seed=1)
    assert found.shape == (2, 15)
    assert sorted(found[:, 12].round().tolist()) == [10, 30]  # means of 0 to 19 and of 20 to 39


def test_a_group_of_few_images_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "NUM_CANDIDATES", 43)
    codes, directions = grouped([40, 3])
    found = code_candidates(codes, 0, seed=0)
    assert float(torch.cdist(found, directions[1:2]).min()) > 3
    alone = code_candidates(codes[:3], 0, seed=0)
    torch.testing.assert_close(alone, codes[:3].mean(dim=0, keepdim=True))
