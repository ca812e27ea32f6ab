"""``check``: right gradients pass both ways, wrong ones do not."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from export.check_gradient import ALLOWED, GradientReport, check_gradient
from export.errors import AtlasError, InputError
from export.gradient import gradient_model
from export.network import Network, resolve_network
from export.reference import evaluate
from export.sources.torch_export import TorchNetwork, imagenet_input
from export.vjp import registry
from tests.export.pairs import Pair

SOURCE = "python:tests.export.test_check_gradient:inplace_net"
DIFFERENCES = 1e-5
"""Of central differences with a step of 1e-7 in float64."""
AUTOGRAD = 1e-6
"""Constants of the graph are float32."""


class InplaceNet(nn.Module):
    """An in-place activation after a layer, and a module that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.mix = nn.Conv2d(6, 6, 1)
        self.head = nn.Linear(6, 4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.norm(self.conv(image)))
        x = self.mix(torch.sigmoid(self.mix(x)))
        return self.head(x.mean(dim=(2, 3)))


def inplace_net() -> TorchNetwork:
    """Seeded by the reader."""
    return TorchNetwork(InplaceNet(), {"title": "in place", "input": imagenet_input(12)})


def scaled_net() -> TorchNetwork:
    network = inplace_net()
    with torch.no_grad():
        for parameter in network.module.head.parameters():
            parameter.mul_(2)
    return network


class SingleNet(InplaceNet):
    """Computes in float32 whatever it is told."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return super().forward(image.float())


def single_net() -> TorchNetwork:
    return TorchNetwork(SingleNet(), {"title": "single", "input": imagenet_input(12)})


class TokenNet(nn.Module):
    """A transposed read-out after BatchNorm, as before attention."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.tokens = nn.Identity()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.tokens(self.second(self.first(image)).flatten(2).transpose(1, 2))


def token_net() -> TorchNetwork:
    return TorchNetwork(TokenNet(), {"title": "tokens", "input": imagenet_input(16)})


@pytest.fixture(scope="module")
def inplace(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return resolve_network(SOURCE, cache=tmp_path_factory.mktemp("networks"))


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    find = builtins.__import__

    def refuse(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "export.sources.module_gradient":
            raise ImportError("No module named 'torch'")
        return find(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)


@pytest.mark.parametrize("layer", ["conv", "norm", "relu", "mix", "head"])
def test_against_autograd_on_the_module(inplace: Network, layer: str) -> None:
    report = check_gradient(inplace, layer, 2, source=SOURCE)
    assert report.against == "autograd"
    assert report.notes == ()
    assert report.relative_error < AUTOGRAD
    assert report.nodes_forward > 0
    assert report.nodes_gradient > 0
    assert report.compile_s > 0
    report.demand()


def test_where_pytorch_itself_is_wrong(tmp_path: Path) -> None:
    """PyTorch 2.14's derivative of BatchNorm, on the CPU for one image and a transposed gradient, is not believed."""
    from export.sources.module_gradient import module_gradient

    source = SOURCE.replace("inplace_net", "token_net")
    network = resolve_network(source, cache=tmp_path)
    image, cotangent = (np.random.default_rng(0).normal(size=s) for s in ((1, 3, 16, 16), (1, 49, 8)))
    made = gradient_model(network.model(1))
    ours = evaluate(made, {"image": image, "cotangent": cotangent})
    exact = module_gradient(source, None, "tokens", image, cotangent)
    (gradient,) = [array for name, array in ours.items() if name.startswith("d_")]
    np.testing.assert_allclose(gradient, exact.gradient, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(("layer", "unit"), [("stem.0", 2), ("stem", 4), ("pool", 2), ("body", 0), ("head", 2)])
def test_an_onnx_file_against_differences(pair: Pair, layer: str, unit: int) -> None:
    report = check_gradient(pair.network, layer, unit, source="net.onnx")
    assert (report.against, report.notes) == ("finite-differences", ())
    assert report.relative_error < DIFFERENCES


@pytest.mark.usefixtures("without_torch")
def test_without_torch_against_differences(inplace: Network) -> None:
    report = check_gradient(inplace, "head", 2, source=SOURCE)
    assert report.against == "finite-differences"
    assert report.relative_error < DIFFERENCES
    assert report.notes == ("finite differences instead of autograd: PyTorch is missing (No module named 'torch')",)


@pytest.mark.parametrize(
    ("factory", "note"),
    [("scaled_net", r"differs from the exported network's by 5.0e-01; export it again"), ("single_net", "in float64")],
)
def test_another_module_is_no_reference(inplace: Network, factory: str, note: str) -> None:
    """A factory that was changed after the export, and one that does not run in float64."""
    report = check_gradient(inplace, "head", 2, source=SOURCE.replace("inplace_net", factory))
    assert report.against == "finite-differences"
    assert report.relative_error < DIFFERENCES
    assert note in report.notes[0]


def test_what_has_no_counterpart_in_the_module() -> None:
    from export.sources.module_gradient import NoCounterpart, module_gradient

    image = np.zeros((1, 3, 12, 12))
    with pytest.raises(NoCounterpart, match="has no module 'tail'"):
        module_gradient(SOURCE, None, "tail", image, np.ones((1, 4)))
    with pytest.raises(NoCounterpart, match=r"module 'head' returns \(1, 4\), but the layer is \(1, 5\)"):
        module_gradient(SOURCE, None, "head", image, np.ones((1, 5)))


@pytest.mark.parametrize("source", [SOURCE, ""])
def test_a_wrong_rule_is_found(inplace: Network, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (entry,) = registry._ENTRIES["Conv"]
    rule = entry.rule
    assert rule is not None
    wrong = registry.Entry("Conv", 1, registry.NEWEST, lambda s: {0: s.e.mul(rule(s)[0], 1.001)}, "")
    monkeypatch.setitem(registry._ENTRIES, "Conv", [wrong])
    report = check_gradient(inplace, "head", 2, source=source)
    np.testing.assert_allclose(report.relative_error, 1.001**3 - 1, rtol=1e-3)  # three convolutions
    with pytest.raises(AtlasError, match=r"off by 3.0e-03 against .*, where 1e-04 is allowed; please report") as caught:
        report.demand()
    assert caught.value.exit_code == 1


def test_a_silent_unit_is_noted(inplace: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    (entry,) = registry._ENTRIES["Conv"]
    zero = registry.Entry("Conv", 1, registry.NEWEST, lambda s: {0: s.e.zeros_like(s.x)}, "")
    monkeypatch.setitem(registry._ENTRIES, "Conv", [zero])
    report = check_gradient(inplace, "head", 2)
    assert report.notes == ("the gradient is zero for 3 images of noise, so this says little",)
    np.testing.assert_allclose(report.relative_error, 1.0)  # which here is wrong
    assert entry.rule is not None


@pytest.mark.parametrize("unit", [-1, 4])
def test_a_unit_out_of_range(inplace: Network, unit: int) -> None:
    with pytest.raises(InputError, match=f"layer 'head' has units 0 to 3; there is no unit {unit}"):
        check_gradient(inplace, "head", unit)


def test_the_json_object_has_no_notes() -> None:
    report = GradientReport(0.5, "autograd", 1, 2, 0.25, ("a note",))
    assert report.to_dict() == {
        "relative_error": 0.5,
        "against": "autograd",
        "nodes_forward": 1,
        "nodes_gradient": 2,
        "compile_s": 0.25,
    }


@pytest.mark.parametrize(("error", "wrong"), [(float("nan"), True), (1.1 * ALLOWED, True), (0.9 * ALLOWED, False)])
def test_what_is_demanded(error: float, wrong: bool) -> None:
    report = GradientReport(error, "autograd", 1, 1, 0.0)
    if wrong:
        with pytest.raises(AtlasError):
            report.demand()
    else:
        report.demand()
