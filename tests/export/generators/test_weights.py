"""Weights of another generator, fitted to this one."""

from __future__ import annotations

from dataclasses import replace

import torch

from export.generators.weights import fitted_layout
from tests.export.generators.test_training import SHAPE


def test_a_start_by_place_becomes_start_and_layout() -> None:
    """What is the same everywhere and what is not are kept apart; what is in every image alike is dropped."""
    old = {"start.weight": torch.randn(8 * 16, 8), "start.bias": torch.randn(8 * 16)}
    z, usual = torch.randn(3, 8), torch.randn(8)
    linear = torch.nn.functional.linear
    whole = linear(z, old["start.weight"]).reshape(3, 8, 16)
    same = fitted_layout(old, replace(SHAPE, layout=True), None)
    split = linear(z, same["start.weight"])[:, :, None] + linear(z, same["layout.weight"]).reshape(3, 8, 16)
    torch.testing.assert_close(split, whole)
    torch.testing.assert_close(same["start.bias"], old["start.bias"].reshape(8, 16).mean(dim=1))
    freed = fitted_layout(old, replace(SHAPE, layout=True), usual)
    assert float(linear(usual[None], freed["layout.weight"]).abs().max()) < 1e-5
    across = z - (z @ usual)[:, None] * usual / usual.square().sum()  # other styles are answered as before
    torch.testing.assert_close(linear(across, freed["layout.weight"]), linear(across, same["layout.weight"]))
    larger = fitted_layout(old, replace(SHAPE, base=6, layout=True), usual)
    assert larger["layout.weight"].shape == (8 * 36, 8)
    untouched = {"start.weight": torch.randn(8, 8), "start.bias": torch.randn(8)}
    assert fitted_layout(untouched, replace(SHAPE, layout=True), usual) is untouched
    assert fitted_layout(old, SHAPE, usual) is old
