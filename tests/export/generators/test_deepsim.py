"""The published generators from Caffe's files, against OpenCV's own reader and executor of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from export.errors import ModelError
from export.generator import resolve_generator
from export.generators.caffe import read_caffemodel
from export.generators.deepsim import CODES, DeepSim, randomised
from export.generators.sources import read_torch_generator
from tests.export.generators.caffe_files import layers_of, write_caffemodel, write_prototxt

WIDTH = 1 / 32


def codes(module: DeepSim) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.rand(2, *module.code_shape)


@pytest.mark.parametrize("code", CODES)
def test_the_caffemodel_gives_what_opencv_gives(code: str, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    made = randomised(WIDTH, 3, code)
    write_caffemodel(made, tmp_path / "generator.caffemodel")
    write_prototxt(made, tmp_path / "generator.prototxt")
    net = cv2.dnn.readNetFromCaffe(str(tmp_path / "generator.prototxt"), str(tmp_path / "generator.caffemodel"))
    feat = codes(made)
    theirs = []
    for row in feat:
        net.setInput(row[None].numpy(), "feat")
        theirs.append(net.forward("deconv0")[0])
    read = read_torch_generator(f"deepsim:{code}", tmp_path / "generator.caffemodel")
    with torch.no_grad():
        ours = read.module(feat).numpy()
    assert ours.shape == (2, 3, 256, 256)
    assert np.std(ours) > 1
    np.testing.assert_allclose(ours, np.stack(theirs), rtol=1e-3, atol=1e-3 * np.abs(ours).max())


def test_the_published_sizes() -> None:
    module = DeepSim()
    assert sum(p.numel() for p in module.parameters()) == pytest.approx(56e6, rel=0.02)
    shapes = {name: tuple(layer.weight.shape) for name, layer in layers_of(module).items()}
    assert shapes["deconv5"] == (256, 256, 4, 4)
    assert shapes["conv5_1"] == (256, 512, 3, 3)
    assert shapes["deconv3"] == (256, 128, 4, 4)
    assert shapes["deconv0"] == (32, 3, 4, 4)
    pool5 = {name: tuple(layer.weight.shape) for name, layer in layers_of(DeepSim(code="pool5")).items()}
    assert pool5["Rconv6"] == (512, 256, 3, 3)
    assert pool5["deconv5"] == (512, 256, 4, 4)


@pytest.mark.parametrize("form", ["v1", "renamed", "state dict", "prefixed", "nested", "safetensors"])
def test_every_form_of_the_weights_is_the_same(form: str, tmp_path: Path) -> None:
    made = randomised(WIDTH, 4)
    state = {
        f"{name}.{k}": v.contiguous() for name, layer in layers_of(made).items() for k, v in layer.state_dict().items()
    }
    path = tmp_path / "weights.pt"
    if form in ("v1", "renamed"):
        path = tmp_path / "generator.caffemodel"
        write_caffemodel(made, path, v1=form == "v1", rename="x_" if form == "renamed" else "")
    elif form == "safetensors":
        from safetensors.torch import save_file

        path = tmp_path / "weights.safetensors"
        save_file(state, path)
        # the format sorts names; they are the published ones, so order does not matter
    elif form == "prefixed":
        torch.save({f"G.{name}": tensor for name, tensor in state.items()}, path)
    else:
        torch.save({"state_dict": state} if form == "nested" else state, path)
    read = read_torch_generator("deepsim:fc6", path).module
    for name, tensor in made.state_dict().items():
        assert torch.equal(read.state_dict()[name], tensor), name


def test_it_opens_with_the_published_conventions(tmp_path: Path) -> None:
    made = randomised(WIDTH, 5)
    write_caffemodel(made, tmp_path / "generator.caffemodel")
    generator = resolve_generator("deepsim:fc6", weights=tmp_path / "generator.caffemodel", cache=tmp_path)
    assert (generator.code_dim, generator.image_px) == (4096, 256)
    assert generator.card.output.channels == "BGR"
    assert generator.card.output.offset == pytest.approx((104 / 255, 117 / 255, 123 / 255))
    high = generator.prior.constrain(np.full(4096, 99, np.float32))
    assert high.min() == high.max() == 12
    again = resolve_generator("deepsim:fc6", weights=tmp_path / "generator.caffemodel", cache=tmp_path)
    assert again.digest == generator.digest


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("fc8", "generator.caffemodel", "there is no generator deepsim:fc8; did you mean fc"),
        ("fc6", None, "deepsim:fc6 needs weights"),
        ("fc6", "generator.prototxt", "give the .caffemodel beside it"),
        ("fc6", "none.caffemodel", "cannot be read"),
        ("fc6", "empty.caffemodel", "holds no layer with weights"),
        ("fc6", "text.caffemodel", "is not a .caffemodel"),
        ("pool5", "generator.caffemodel", "layer Rconv6 has weights of shape .* but deepsim:pool5 takes"),
        ("fc6", "short.pt", r"holds 1 layers with weights \(defc7\); deepsim:fc6 has 12"),
        ("fc6", "nan.pt", "holds NaN or infinite values"),
    ],
)
def test_wrong_weights(name: str, weights: str | None, message: str, tmp_path: Path) -> None:
    made = randomised(WIDTH, 6)
    write_caffemodel(made, tmp_path / "generator.caffemodel")
    write_prototxt(made, tmp_path / "generator.prototxt")
    (tmp_path / "empty.caffemodel").write_bytes(b"")
    (tmp_path / "text.caffemodel").write_text("layer { }")
    state = {f"{name}.{k}": v for name, layer in layers_of(made).items() for k, v in layer.state_dict().items()}
    torch.save({k: v for k, v in state.items() if k.startswith("defc7")}, tmp_path / "short.pt")
    state["conv4_1.bias"] = torch.full_like(state["conv4_1.bias"], float("nan"))
    torch.save(state, tmp_path / "nan.pt")
    with pytest.raises(ModelError, match=message):
        resolve_generator(f"deepsim:{name}", weights=tmp_path / weights if weights else None, cache=tmp_path)


def test_a_truncated_caffemodel_is_refused(tmp_path: Path) -> None:
    write_caffemodel(randomised(WIDTH, 7), tmp_path / "generator.caffemodel")
    whole = (tmp_path / "generator.caffemodel").read_bytes()
    (tmp_path / "generator.caffemodel").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"is not a \.caffemodel"):
        read_caffemodel(tmp_path / "generator.caffemodel")
