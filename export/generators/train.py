"""Train the bundled generator: invert a frozen encoder's features with pixel, feature and adversarial losses.

After Dosovitskiy & Brox (NeurIPS 2016), with the discriminator on frozen encoder features. Every step is a pure
function of ``(seed, step, state)``: an interrupted training that resumes equals one that was never interrupted.

    python -m export.generators.train --images DIR:weight:px [--images ...] --out RUN --steps N

writes ``RUN/checkpoint.pt`` (resumed from when it exists), ``RUN/samples/*.png`` and ``RUN/log.jsonl``.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from export.generators.architecture import FeatureDiscriminator, GeneratorConfig, HybridGenerator
from export.generators.encoder import CodeStatistics, Encoder, encode, measure_statistics
from export.generators.images import Sampler, Source
from export.models import read_model
from export.passes.half import HALF

STATISTICS_BATCHES = 40


@dataclass(frozen=True)
class TrainConfig:
    """The recipe.

    What was learned: weights that equalise the losses' gradients *in the image* let the pixel loss win, whose gradient
    is coherent over a batch where the others' are not (twelve times theirs in parameter space): after 1,100 steps the
    images were blurs and consistency had not moved. The weights below leave the encoder's losses the upper hand.

    Attributes:
        steps: length of the run; the learning rate falls to zero over the last ``decay_share`` of it.
        batch: images per step, of which ``mixed`` are decoded from blends of two images' codes and judged
            only by consistency and the discriminator.
        pixel: weight of L1 on pixels plus L1 on 8x8 means.
        feature: weight of the sum of L1 on five stages of normalised encoder features.
        consistency: weight of the cosine between the code given and the code of the image made.
        adversarial: weight of the mean over the discriminator's five heads.
        global_noise: standard deviation of the multiplicative noise on the global code.
        spatial_noise: standard deviation of the additive noise on the spatial code.
        spatial_drop: probability that an image's whole spatial code is dropped.
        adversarial_from: step at which the adversarial loss starts its ramp of ``adversarial_ramp`` steps.
    """

    steps: int = 6000
    batch: int = 32
    mixed: int = 8
    seed: int = 0
    lr: float = 5e-4
    decay_share: float = 0.25
    pixel: float = 2.0
    feature: float = 0.25
    consistency: float = 1.0
    adversarial: float = 0.15
    adversarial_from: int = 150
    adversarial_ramp: int = 600
    global_noise: float = 0.15
    spatial_noise: float = 0.3
    spatial_drop: float = 0.1
    ema: float = 0.997

    def lr_at(self, step: int) -> float:
        start = self.steps * (1 - self.decay_share)
        return self.lr * (1.0 if step < start else max(0.02, (self.steps - step) / max(1.0, self.steps - start)))


class Trainer:
    """Holds the state of a run; :meth:`step` advances it by one."""

    def __init__(self, config: TrainConfig, shape: GeneratorConfig, sampler: Sampler) -> None:
        torch.manual_seed(config.seed)
        self.config, self.shape, self.sampler = config, shape, sampler
        self.encoder = Encoder(max(shape.image_px, min(128, 2 * shape.image_px))).to(memory_format=torch.channels_last)
        statistics_batches = [self._images(10**9 + i)[0] for i in range(STATISTICS_BATCHES)]
        self.statistics = measure_statistics(self.encoder, statistics_batches, shape.spatial_dim)
        self.scales = self._tap_scales(statistics_batches[:8])
        self.generator = HybridGenerator(shape).to(memory_format=torch.channels_last)
        self.average = HybridGenerator(shape).to(memory_format=torch.channels_last).requires_grad_(False)
        self.average.load_state_dict(self.generator.state_dict())
        self.judge = FeatureDiscriminator([len(s) for s in self.scales]).to(memory_format=torch.channels_last)
        self.opt_g = torch.optim.Adam(self.generator.parameters(), lr=config.lr, betas=(0.5, 0.99))
        self.opt_d = torch.optim.Adam(self.judge.parameters(), lr=config.lr, betas=(0.5, 0.99))
        self.done = 0

    def _images(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and the side that each was stored at."""
        batch = self.sampler.batch(step, self.config.batch)
        native = torch.from_numpy(batch.native_px)
        images = torch.from_numpy(batch.images).contiguous(memory_format=torch.channels_last)
        return seen_at(images, native), native

    def start_from(self, weights: dict[str, torch.Tensor]) -> list[str]:
        """Take over the weights of another generator whose name and shape fit; return the names of those taken."""
        own = self.generator.state_dict()
        taken = {name: w.float() for name, w in weights.items() if name in own and own[name].shape == w.shape}
        self.generator.load_state_dict(own | taken)
        self.average.load_state_dict(self.generator.state_dict())
        return sorted(taken)

    @torch.no_grad()
    def _tap_scales(self, batches: list[torch.Tensor]) -> list[torch.Tensor]:
        sums = [torch.zeros(()) for _ in range(5)]
        for images in batches:
            taps, _, _ = self.encoder(images)
            sums = [s + t.square().mean(dim=(0, 2, 3)) for s, t in zip(sums, taps, strict=True)]
        return [(s / len(batches)).sqrt().clamp_min(1e-2) for s in sums]

    def _normalised(self, taps: list[torch.Tensor]) -> list[torch.Tensor]:
        return [t / s[:, None, None] for t, s in zip(taps, self.scales, strict=True)]

    def _disturbed(self, code: torch.Tensor, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (code, what the generator is given): the last ``mixed`` rows blended, then noise and dropping."""
        c, split = self.config, self.shape.global_dim
        keep = len(code) - c.mixed
        weight = torch.rand(c.mixed, 1, generator=rng)
        partner = code[: c.mixed]
        tail = code[keep:]
        spatial_weight = (torch.rand(c.mixed, 1, generator=rng) > 0.5).to(code.dtype)  # one layout or the other
        blend = torch.cat(
            [
                weight * tail[:, :split] + (1 - weight) * partner[:, :split],
                spatial_weight * tail[:, split:] + (1 - spatial_weight) * partner[:, split:],
            ],
            dim=1,
        )
        target = torch.cat([code[:keep], blend])
        vector, spatial = target[:, :split], target[:, split:]
        vector = vector * (1 + c.global_noise * torch.randn(vector.shape, generator=rng)).clamp_min(0)
        spatial = spatial + c.spatial_noise * torch.randn(spatial.shape, generator=rng)
        kept = (torch.rand(len(code), 1, generator=rng) >= c.spatial_drop).to(code.dtype)
        return target, torch.cat([vector, spatial * kept], dim=1)

    def step(self) -> dict[str, float]:
        c, step = self.config, self.done
        rng = torch.Generator().manual_seed(c.seed * 1_000_003 + step)
        images, native = self._images(step)
        with torch.no_grad():
            taps, pooled, tap = self.encoder(images)
            real = self._normalised(taps)
            code = encode(self.statistics, pooled, tap)
            target, given = self._disturbed(code, rng)
        fake = seen_at(self.generator(given), native)
        fake_taps, fake_pooled, _ = self.encoder(fake)
        made = self._normalised(fake_taps)

        judged_real = self.judge(real)
        judged_fake = self.judge([f.detach() for f in made])
        hinge = sum(
            (F.relu(1 - r).mean() + F.relu(1 + f).mean() for r, f in zip(judged_real, judged_fake, strict=True)),
            torch.zeros(()),
        )
        for group in self.opt_d.param_groups:
            group["lr"] = c.lr_at(step)
        self.opt_d.zero_grad(set_to_none=True)
        torch.autograd.backward(hinge / len(real))
        self.opt_d.step()

        self.judge.requires_grad_(False)
        losses = self._losses(fake, made, fake_pooled, images, real, target)
        self.judge.requires_grad_(True)
        ramp = min(1.0, max(0.0, (step - c.adversarial_from) / c.adversarial_ramp))
        scale = {name: getattr(c, name) for name in losses} | {"adversarial": c.adversarial * ramp}
        loss = torch.stack([scale[name] * value for name, value in losses.items()]).sum()
        for group in self.opt_g.param_groups:
            group["lr"] = c.lr_at(step)
        self.opt_g.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.generator.parameters(), 5.0)
        self.opt_g.step()
        with torch.no_grad():
            rate = min(c.ema, (1 + step) / (10 + step))
            for a, p in zip(self.average.parameters(), self.generator.parameters(), strict=True):
                a.lerp_(p, 1 - rate)
        self.done += 1
        values = {name: float(value.detach()) for name, value in losses.items()}
        return {"step": self.done, **values, "hinge": float(hinge.detach()) / len(real)}

    def _losses(
        self,
        fake: torch.Tensor,
        made: list[torch.Tensor],
        pooled: torch.Tensor,
        images: torch.Tensor,
        real: list[torch.Tensor],
        target: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Every loss by name. Blended rows have no pixels to compare with."""
        keep = len(images) - self.config.mixed
        x, y = fake[:keep], images[:keep]
        pixel = F.l1_loss(x, y) + F.l1_loss(F.avg_pool2d(x, 8), F.avg_pool2d(y, 8))
        feature = torch.stack([F.l1_loss(f[:keep], r[:keep]) for f, r in zip(made, real, strict=True)]).sum()
        mean = self.statistics.global_mean
        wanted = target[:, : self.shape.global_dim] - mean
        consistency = 1 - F.cosine_similarity(pooled / self.statistics.global_std - mean, wanted, dim=1).mean()
        adversarial = -torch.stack([scores.mean() for scores in self.judge(made)]).mean()
        return {"pixel": pixel, "feature": feature, "consistency": consistency, "adversarial": adversarial}

    def state(self) -> dict[str, Any]:
        return {
            "config": asdict(self.config),
            "shape": asdict(self.shape),
            "statistics": asdict(self.statistics),
            "done": self.done,
            "generator": self.generator.state_dict(),
            "average": self.average.state_dict(),
            "judge": self.judge.state_dict(),
            "opt_g": self.opt_g.state_dict(),
            "opt_d": self.opt_d.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.statistics = CodeStatistics(**state["statistics"])
        for name in ("generator", "average", "judge", "opt_g", "opt_d"):
            getattr(self, name).load_state_dict(state[name])
        self.done = int(state["done"])

    @torch.no_grad()
    def samples(self, images: torch.Tensor) -> Image.Image:
        """A sheet: images, their reconstructions, reconstructions without the spatial code."""
        _, pooled, tap = self.encoder(images)
        code = encode(self.statistics, pooled, tap)
        bare = code.clone()
        bare[:, self.shape.global_dim :] = 0
        rows = torch.cat([images, self.average(code), self.average(bare)])
        return sheet(rows.numpy(), columns=len(images))


def seen_at(images: torch.Tensor, native_px: torch.Tensor) -> torch.Tensor:
    """Every image as it is when stored at ``native_px``: averaged down and enlarged again.

    An image of little detail is thus compared with what the generator makes at the same detail, and does not teach it
    to blur.
    """
    side = images.shape[-1]
    for px in sorted({int(p) for p in native_px if p < side}):
        small = F.avg_pool2d(images, side // px)
        low = F.interpolate(small, size=(side, side), mode="bilinear", align_corners=False)
        images = torch.where((native_px == px)[:, None, None, None], low, images)
    return images.contiguous(memory_format=torch.channels_last)


def sheet(images: np.ndarray, columns: int) -> Image.Image:
    """Tile ``(N, 3, H, W)`` images in [0, 1] row by row."""
    n, _, h, w = images.shape
    rows = math.ceil(n / columns)
    canvas = np.zeros((rows * h, columns * w, 3), np.uint8)
    for i, image in enumerate(images):
        top, left = i // columns * h, i % columns * w
        canvas[top : top + h, left : left + w] = np.rint(np.clip(image, 0, 1).transpose(1, 2, 0) * 255)
    return Image.fromarray(canvas)


def published_weights(path: Path) -> dict[str, torch.Tensor]:
    """The weights of a published generator under the names of the module's parameters."""
    model = read_model(path)
    arrays = {name: value.const_value for name, value in model.graph.initializers.items()}
    return {
        name.removesuffix(HALF): torch.from_numpy(array.numpy().copy())
        for name, array in arrays.items()
        if array is not None
    }


def _source(text: str) -> Source:
    path, weight, stored = text.rsplit(":", 2)
    return Source(Path(path), float(weight), int(stored))


@click.command()
@click.option("--images", "sources", multiple=True, required=True, help="PATH:WEIGHT:STORED_PX, repeated")
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--steps", default=TrainConfig.steps, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--start-from", type=click.Path(path_type=Path, exists=True), help="a published generator (ONNX)")
@click.option("--every", default=100, show_default=True, help="steps between checkpoints")
def main(sources: tuple[str, ...], out: Path, steps: int, seed: int, start_from: Path | None, every: int) -> None:
    """Train (or go on training) a generator for EfficientNet-Lite0."""
    out.mkdir(parents=True, exist_ok=True)
    shape = GeneratorConfig()
    sampler = Sampler([_source(s) for s in sources], out / "cache", shape.image_px, seed)
    trainer = Trainer(TrainConfig(steps=steps, seed=seed), shape, sampler)
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        trainer.restore(torch.load(checkpoint, weights_only=True))
        click.echo(f"resuming at step {trainer.done}")
    elif start_from is not None:
        click.echo(f"starting from {', '.join(trainer.start_from(published_weights(start_from)))}")
    shown = torch.from_numpy(sampler.batch(10**9 + 999, 16).images)
    (out / "samples").mkdir(exist_ok=True)
    started, first = time.monotonic(), trainer.done
    while trainer.done < steps:
        record = trainer.step()
        if trainer.done % every and trainer.done != steps:
            continue
        pace = (time.monotonic() - started) / (trainer.done - first)
        line = {k: round(v, 4) for k, v in record.items()} | {"s_per_step": round(pace, 3)}
        with (out / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        click.echo(json.dumps(line))
        trainer.samples(shown).save(out / "samples" / f"{trainer.done:06d}.png")
        part = checkpoint.with_suffix(".part")
        torch.save(trainer.state(), part)
        part.replace(checkpoint)


if __name__ == "__main__":
    main()
