"""What every kind of generator source must do, wherever its weights come from."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from export.errors import ModelError
from export.generator import FROM_TORCH, PARAMETRISED, Declared, Generator, resolve_generator
from export.generators import sources
from export.generators.deepsim import MEAN_BGR, randomised
from export.generators.fourier import COLOURS
from export.generators.sources import TorchGenerator, read_torch_generator
from export.lint import lint
from export.models import ASSETS, read_model
from export.step import compile_decode, compile_step
from export.update import Ascent
from export.view import resize_matrix
from tests.export.generators.caffe_files import write_caffemodel
from tests.export.pairs import Pair

BATCH = 2
Tensor = torch.Tensor
Render = Callable[[Tensor], Tensor]
"""code (N, D) -> canonical image (N, 3, S, S), written without our graphs."""


@dataclass(frozen=True)
class Case:
    """How to get a generator of one kind, and what its images must be."""

    kind: str
    make: Callable[[Path, Pair], tuple[str, Path | None, Declared, Render]]


class BigGan(nn.Module):
    """BigGAN's way of using its code: class-conditional normalisation with each block's share of the noise."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8 * 16)
        self.scale = nn.ModuleList(nn.Linear(4 + 6, 8) for _ in range(2))
        self.norm = nn.ModuleList(nn.BatchNorm2d(8, affine=False) for _ in range(2))
        self.conv = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))
        self.rgb = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, noise: Tensor, embedding: Tensor) -> Tensor:
        first, *rest = noise.chunk(3, dim=1)
        x = self.first(first).reshape(-1, 8, 4, 4)
        for z, scale, norm, conv in zip(rest, self.scale, self.norm, self.conv, strict=True):
            gain = 1 + scale(torch.cat([z, embedding], dim=1))
            x = torch.relu(norm(x) * gain[:, :, None, None])
            x = conv(nn.functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return torch.tanh(self.rgb(torch.relu(x)))


def big_gan() -> TorchGenerator:
    torch.manual_seed(2)
    return TorchGenerator(
        BigGan().eval(),
        [(12,), (6,)],
        {"title": "like BigGAN", "output": {"scale": 0.5, "offset": 0.5}},
        ["truncated-normal", {"kind": "box", "low": -1, "high": 1}],
    )


def from_python(folder: Path, pair: Pair) -> tuple[str, Path | None, Declared, Render]:
    module = big_gan().module
    return f"python:{__name__}:big_gan", None, Declared(), lambda h: module(h[:, :12], h[:, 12:]) / 2 + 0.5


def from_onnx(folder: Path, pair: Pair) -> tuple[str, Path | None, Declared, Render]:
    """Without a card: two inputs, one of them a map, BGR, 0 to 255; what the file does not say is declared."""

    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.style, self.up = nn.Linear(5, 4), nn.ConvTranspose2d(4, 3, 4, 2, 1)

        def forward(self, style: Tensor, layout: Tensor) -> Tensor:
            return 255 * torch.sigmoid(self.up(layout * self.style(style)[:, :, None, None]))

    torch.manual_seed(3)
    module = Other().eval()
    path = folder / "other.onnx"
    torch.onnx.export(module, (torch.rand(2, 5), torch.rand(2, 4, 8, 8)), path, dynamo=True, verbose=False)
    declared = Declared(prior="gaussian", range=(0, 255), channels="BGR")
    return str(path), None, declared, lambda h: module(h[:, :5], h[:, 5:].reshape(-1, 4, 8, 8)).flip(1) / 255


def from_bundled(folder: Path, pair: Pair) -> tuple[str, Path | None, Declared, Render]:
    from export.sources.torch_import import run_torch

    model = read_model(ASSETS / "lite0-hybrid.onnx")

    def render(h: Tensor) -> Tensor:
        from export.passes.batch import set_batch

        copy = model.clone()
        set_batch(copy, len(h))
        return run_torch(copy, {str(copy.graph.inputs[0].name): h})[str(copy.graph.outputs[0].name)]

    return "bundled:lite0-hybrid", None, Declared(), render


def from_deepsim(folder: Path, pair: Pair) -> tuple[str, Path | None, Declared, Render]:
    module = randomised(1 / 32, 1, "pool5")
    write_caffemodel(module, folder / "generator.caffemodel")
    mean = torch.tensor(MEAN_BGR).reshape(1, 3, 1, 1)

    def render(h: Tensor) -> Tensor:
        return (module(h.reshape(-1, 256, 6, 6)) + mean).flip(1) / 255

    return "deepsim:pool5", folder / "generator.caffemodel", Declared(), render


def from_diffusers(folder: Path, pair: Pair) -> tuple[str, Path | None, Declared, Render]:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(4)
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=2,
        norm_num_groups=4,
        scaling_factor=0.3,
    ).eval()
    vae.save_pretrained(folder / "vae")
    declared = Declared(folder=folder)
    return "diffusers:vae:16", None, declared, lambda h: vae.decode(h.reshape(-1, 2, 8, 8) / 0.3).sample / 2 + 0.5


def from_pixels(folder: Path, pair: Pair) -> tuple[str, Path | None, Declared, Render]:
    return "pixels:16", None, Declared(), lambda h: torch.sigmoid(h.reshape(-1, 3, 16, 16))


def from_fourier(folder: Path, pair: Pair) -> tuple[str, Path | None, Declared, Render]:
    """By the fast Fourier transform: our real coefficients put into a complex spectrum."""
    size = 15  # odd: every real pair is one complex coefficient
    k = torch.arange(1, size // 2 + 1)

    def analysed(c: Tensor) -> Tensor:
        """Real coefficients (..., size) -> samples, along the last axis."""
        real, imaginary = c[..., 1::2], c[..., 2::2]
        spectrum = torch.zeros(*c.shape[:-1], size // 2 + 1, dtype=torch.complex64)
        spectrum[..., 0] = c[..., 0] * size**0.5
        spectrum[..., k] = torch.complex(real, -imaginary) * (size / 2) ** 0.5
        return torch.fft.irfft(spectrum, n=size)

    def render(h: Tensor) -> Tensor:
        f = torch.fft.rfftfreq(size).repeat_interleave(2)[1:]
        scale = 0.25 / torch.hypot(f[:, None], f[None]).clamp_min(1 / size)
        plain = analysed(analysed((h.reshape(-1, 3, size, size) * scale).mT).mT)
        mixing = torch.tensor(COLOURS / np.linalg.norm(COLOURS, axis=0).max(), dtype=torch.float32)
        return torch.sigmoid(torch.einsum("ij,njhw->nihw", mixing, plain))

    return f"fourier:{size}", None, Declared(), render


CASES = [
    Case("bundled", from_bundled),
    Case("onnx", from_onnx),
    Case("python", from_python),
    Case("deepsim", from_deepsim),
    Case("diffusers", from_diffusers),
    Case("pixels", from_pixels),
    Case("fourier", from_fourier),
]


def test_every_kind_has_a_case() -> None:
    assert {case.kind for case in CASES} == {"bundled", "onnx", *FROM_TORCH, *PARAMETRISED}


@dataclass(frozen=True)
class Opened:
    generator: Generator
    render: Render
    arguments: dict[str, Any]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.kind)
def opened(request: pytest.FixtureRequest, pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    folder = tmp_path_factory.mktemp(request.param.kind)
    source, weights, declared, render = request.param.make(folder, pair)
    arguments = {"source": source, "weights": weights, "declared": declared, "cache": folder / "cache"}
    return Opened(resolve_generator(**arguments), render, arguments)


def codes(generator: Generator) -> np.ndarray:
    noise = np.random.default_rng(7).normal(size=(BATCH, generator.code_dim))
    prior = generator.prior
    return prior.constrain((prior.mean + prior.std * noise).astype(np.float32))


class TestGeneratorSource:
    def test_its_images_are_right(self, opened: Opened) -> None:
        code = codes(opened.generator)
        session = onnxruntime.InferenceSession(
            compile_decode(opened.generator, BATCH), providers=["CPUExecutionProvider"]
        )
        (image,) = session.run(None, {"code": code})
        side = opened.generator.image_px
        assert image.shape == (BATCH, 3, side, side)
        assert image.std() > 0.005
        with torch.no_grad():
            expected = opened.render(torch.from_numpy(code)).clamp(0, 1).numpy()
        np.testing.assert_allclose(image, expected, atol=2e-4)

    def test_it_can_be_climbed(self, opened: Opened, pair: Pair) -> None:
        """The step graph's gradient is autograd's, and TensorRT would build it."""
        ascent = Ascent(kind="normalized", steps=5, lr=0.5, lr_end=0.5)
        graph = compile_step(pair.network, opened.generator, "head", batch=BATCH, ascent=ascent)
        assert not [r for r in lint(read_bytes(graph.step)) if r.op != "Loop"]
        units, code = [1, 4], codes(opened.generator)
        feeds: dict[str, Any] = {"unit": np.asarray(units, np.int64)}
        for field in graph.manifest.state:
            feeds[field.name] = np.full((BATCH, *field.shape), field.initial or 0, field.dtype)
        session = onnxruntime.InferenceSession(graph.step, providers=["CPUExecutionProvider"])
        names = ["activation", "gradient"]
        activation, gradient = session.run(names, feeds | {"code": code})
        x = torch.from_numpy(code).requires_grad_()
        matrix = torch.from_numpy(resize_matrix(opened.generator.image_px, 20))
        mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3)))
        logits = pair.module((matrix @ opened.render(x) @ matrix.T - mean) / std)
        wanted = logits[torch.arange(BATCH), units]
        (by_torch,) = torch.autograd.grad(wanted.sum(), x)
        np.testing.assert_allclose(activation, wanted.detach().numpy(), rtol=2e-3, atol=2e-4)
        np.testing.assert_allclose(gradient, by_torch.abs().mean(dim=1).numpy(), rtol=5e-3)

    def test_opening_again_changes_nothing(self, opened: Opened) -> None:
        again = resolve_generator(**opened.arguments)
        assert again.digest == opened.generator.digest
        assert again.prior.digest() == opened.generator.prior.digest()

    def test_another_prior_can_be_declared(self, opened: Opened) -> None:
        declared = opened.arguments["declared"]
        other = Declared("sphere", declared.range, declared.channels, declared.folder)
        generator = resolve_generator(**opened.arguments | {"declared": other})
        assert generator.prior.kind == "sphere"
        assert generator.digest != opened.generator.digest
        assert generator.code_dim == opened.generator.code_dim

    def test_it_says_what_it_is(self, opened: Opened) -> None:
        assert opened.generator.card.title
        if opened.generator.path.suffix == ".onnx" and opened.arguments["source"] != str(opened.generator.path):
            assert json.loads(read_model(opened.generator.path).metadata_props["neuron_atlas"])["title"]


def read_bytes(model: bytes) -> Any:
    import onnx
    import onnx_ir as ir

    return ir.from_proto(onnx.load_from_string(model))


def test_the_decoder_of_a_tiny_autoencoder(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(6)
    vae = diffusers.AutoencoderTiny(
        encoder_block_out_channels=(4, 4),
        decoder_block_out_channels=(4, 4),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
        latent_channels=2,
    ).eval()
    vae.save_pretrained(tmp_path / "taesd")
    made = read_torch_generator("diffusers:taesd:12", None, tmp_path)
    assert made.code == [(2, 6, 6)]
    latents = torch.randn(2, 2, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(made.module(latents), vae.decode(latents).sample)
    with pytest.raises(ModelError, match="sides that are multiples of 2"):
        read_torch_generator("diffusers:taesd:13", None, tmp_path)


def test_the_same_weights_are_exported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_caffemodel(randomised(1 / 32, 1), tmp_path / "a.caffemodel")
    write_caffemodel(randomised(1 / 32, 2), tmp_path / "b.caffemodel")
    written: list[Path] = []

    def write(generator: TorchGenerator, out: Path, origin: str) -> None:
        written.append(out)
        out.touch()
        out.with_suffix(".codes.npz").touch()

    monkeypatch.setattr(sources, "write_generator", write)
    for name in ("a", "a", "b"):
        sources.export_generator("deepsim:fc6", tmp_path / f"{name}.caffemodel", tmp_path / "cache")
    assert len(written) == len(set(written)) == 2
    for _ in range(2):  # code can change at any time
        sources.export_generator(f"python:{__name__}:big_gan", None, tmp_path / "cache")
    assert len(written) == 4
