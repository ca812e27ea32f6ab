"""The coverage page: totals, verdicts, and a small network measured for real."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from export.coverage import measure as measuring
from export.coverage.__main__ import FAMILIES, sources
from export.coverage.measure import Result, measure
from export.coverage.report import page, totals
from export.sources.torch_export import TorchNetwork, imagenet_input

DOCS = Path(__file__).parents[2] / "docs" / "gradient-coverage.md"


class Tiny(nn.Module):
    """Two convolutions with BatchNorm, a transposed read-out as in attention, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.head = nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.second(self.first(image)).flatten(2).transpose(1, 2)
        return self.head(F.gelu(x)).mean(dim=1)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(source: str, weights: Path | None) -> TorchNetwork:
        torch.manual_seed(0)
        return TorchNetwork(Tiny().eval(), {"input": imagenet_input(16)})

    monkeypatch.setattr(measuring, "read_torch_network", read)


@pytest.mark.usefixtures("tiny")
def test_a_network_is_measured() -> None:
    """Also where PyTorch's BatchNorm is wrong: one image, a transposed gradient."""
    result = measure("timm:tiny")
    assert (result.status, result.reason) == ("exact", "")
    assert result.error_64 is not None
    assert result.error_64 < 1e-12
    assert result.error_32 is not None
    assert result.error_32 < 1e-4
    assert result.operators["Conv"] == 2
    assert result.num_gradient > 0
    assert result.refusals == []


@pytest.mark.usefixtures("tiny")
def test_a_wrong_gradient_is_called_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    right = measuring.append_gradient

    def wrong(graph, of, wrt, cotangent):  # type: ignore[no-untyped-def]
        from export.vjp.emit import Emitter

        return [Emitter(graph, "wrong").mul(g, 1.0001) for g in right(graph, of, wrt, cotangent)]

    monkeypatch.setattr(measuring, "append_gradient", wrong)
    result = measure("timm:tiny")
    assert (result.status, result.reason) == ("wrong", "in float64 it is off by 1.0e-04")


def test_a_failure_is_a_result() -> None:
    result = measure("timm:there_is_no_such_network")
    assert result.status == "failed"
    assert "no network" in result.reason


def test_the_page() -> None:
    good = Result(
        "timm:a", "exact", error_64=1e-15, module_64=1e-9, error_32=1e-6, torch_32=2e-6, operators={"Conv": 3}
    )
    bad = Result("torchvision:b", "failed", "no vjp rule for Foo")
    assert totals([good, bad]) == ["torchvision: 0 of 1", "timm: 1 of 1"]
    text = page([good, bad], "torch 9")
    assert "| a | 0.0 | 0 | 0 + 0 | 1e-15 (1e-09) | 1e-06 (2e-06) | 0.0 s | - | Conv·3 |" in text
    assert "- `torchvision:b` (failed): no vjp rule for Foo" in text


def test_the_lists() -> None:
    rows = [line.split() for line in FAMILIES.read_text().splitlines() if not line.startswith("#")]
    assert len({family for family, _ in rows}) == len(rows) >= 80
    names = sources()
    assert len(names) == len(set(names))
    text = DOCS.read_text()
    listed = [f"timm:{name}" for _, name in rows]  # torchvision's list is its own, and may grow
    unlisted = [n for n in listed if f"| {n.partition(':')[2]} |" not in text and f"`{n}`" not in text]
    assert not unlisted, "run make coverage"
