"""Train a generator: invert a frozen encoder's features with pixel, feature and adversarial losses.

After Dosovitskiy & Brox (NeurIPS 2016), with the discriminator on frozen encoder features. Every step is a pure
function of ``(seed, step, state)``: an interrupted training that resumes equals one that was never interrupted.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.nn import functional as F

from export.errors import InputError, ModelError
from export.generators import candidates
from export.generators.architecture import FeatureDiscriminator, GeneratorConfig, HybridGenerator
from export.generators.checkpoint import check_same, statistics_of
from export.generators.climbers import Climbers
from export.generators.encoder import Encoder, Features
from export.generators.images import Sampler
from export.generators.losses import agreement, commonness, normalised, seen_at, seen_from
from export.generators.recipe import TrainConfig
from export.generators.statistics import CodeStatistics, code_pace, code_prior, measure_statistics
from export.generators.weights import fitted_layout

STATISTICS_BATCHES, SCALES_BATCHES = 80, 8
POOL = 8
"""Climbing codes for each that takes a step."""
STATISTICS_FROM = 10**9
"""Number of the first batch that statistics are measured on; no training reaches it."""
CANDIDATES_FROM = 2 * STATISTICS_FROM


RAMPED = frozenset({"adversarial", "agreement"})
"""Losses that come in slowly."""


@dataclass(frozen=True)
class Decoded:
    """Images that a generator made, and what the encoder sees in them."""

    image: torch.Tensor
    features: Features

    def joined(self, other: Decoded) -> Decoded:
        """The rows of both."""
        return Decoded(torch.cat([self.image, other.image]), self.features.joined(other.features))


class Trainer:
    """Holds the state of a run; :meth:`step` advances it by one.

    Args:
        config: the recipe.
        shape: of the generator; its code dimensions fit the encoder's layers.
        sampler: gives the images.
        encoder: what is inverted.
        device: where it all runs.
        witness: another network with the encoder's classes, for the agreement loss; its taps are for the discriminator.
        statistics: of the codes, where they were measured before.
    """

    def __init__(
        self,
        config: TrainConfig,
        shape: GeneratorConfig,
        sampler: Sampler,
        encoder: Encoder,
        device: torch.device | str = "cpu",
        witness: Encoder | None = None,
        statistics: CodeStatistics | None = None,
    ) -> None:
        torch.manual_seed(config.seed)
        self.witness = witness
        self.config, self.shape, self.sampler, self.encoder, self.device = config, shape, sampler, encoder, device
        of_scales = min(SCALES_BATCHES, STATISTICS_BATCHES)
        count = of_scales if statistics else STATISTICS_BATCHES
        batches = [self._images(STATISTICS_FROM + i)[0] for i in range(count)]
        self.statistics = statistics.to(device) if statistics else measure_statistics(encoder, batches, shape)
        self.scales = self._tap_scales(encoder, batches[:of_scales])
        self.witness_scales = self._tap_scales(witness, batches[:of_scales]) if witness else []
        self.generator = self._placed(HybridGenerator(shape))
        if self.statistics.basis is not None:
            self.generator.basis.copy_(self.statistics.basis)
        self.average = self._placed(HybridGenerator(shape)).requires_grad_(False)
        self.average.load_state_dict(self.generator.state_dict())
        self.judge = self._placed(FeatureDiscriminator(self._judged_shapes()))
        self.opt_g = torch.optim.Adam(self.generator.parameters(), lr=config.lr, betas=(0.5, 0.99))
        self.opt_d = torch.optim.Adam(self.judge.parameters(), lr=config.lr, betas=(0.5, 0.99))
        self.climbers = self._new_climbers()
        self.done = 0

    def _new_climbers(self) -> Climbers | None:
        layer = self.encoder.layers.unit_layer
        if not self.config.climbed or layer is None:
            return None
        num_units, seen = self.encoder.network.layer(layer).num_units, self.encoder.card
        prior, pace = code_prior(self.statistics, self.shape), code_pace(self.shape)
        sides = (self.shape.image_px, (seen.height, seen.width))
        return Climbers(prior, pace, num_units, POOL * self.config.climbed, sides, self.device)

    def _placed(self, module: Any) -> Any:
        return module.to(self.device, memory_format=torch.channels_last)

    def _images(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and the side that each was stored at."""
        batch = self.sampler.batch(step, self.config.batch)
        native = torch.from_numpy(batch.native_px)
        images = torch.from_numpy(batch.images).to(self.device).contiguous(memory_format=torch.channels_last)
        return seen_at(images, native), native

    def start_from(self, weights: dict[str, torch.Tensor]) -> list[str]:
        """Take over the weights of another generator whose name and shape fit; return the names of those taken."""
        taken = self._take(weights)
        if self.statistics.global_mean is not None and any(name.startswith("style.") for name in taken):
            with torch.no_grad():
                usual = self.generator.style(self.statistics.global_mean[None])[0]
            taken |= self._take(fitted_layout(weights, self.shape, usual))
        self.average.load_state_dict(self.generator.state_dict())
        return sorted(taken)

    def _take(self, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Load what fits, and return it."""
        own = self.generator.state_dict()
        taken = {name: w.float() for name, w in weights.items() if name in own and own[name].shape == w.shape}
        taken.pop("basis", None)  # of the code that this one has
        self.generator.load_state_dict(own | taken)
        return taken

    @torch.no_grad()
    def measure_candidates(self) -> None:
        """Encode images, at most as many as were trained on, and keep centres of their codes in the statistics."""
        codes, batch = [], self.config.batch
        for i in range(min(math.ceil(candidates.NUM_IMAGES / batch), self.done)):
            with self._autocast():
                codes.append(self._encode(self.encoder(self._images(CANDIDATES_FROM + i)[0])))
        self.statistics.candidates = candidates.code_candidates(
            torch.cat(codes), self.shape.global_dim, self.config.seed
        )

    @torch.no_grad()
    def _tap_scales(self, network: Encoder, batches: list[torch.Tensor]) -> list[torch.Tensor]:
        """(C,) root mean square of every tap's channels."""
        sums: list[torch.Tensor] = []
        for images in batches:
            squares = [t.square().mean(dim=(0, 2, 3)) for t in network(images).taps]
            sums = [a + b for a, b in zip(sums, squares, strict=True)] if sums else squares
        return [(s / len(batches)).sqrt().clamp_min(1e-2) for s in sums]

    def _judged_shapes(self) -> list[tuple[int, int, int]]:
        """Of the maps that the discriminator sees: the encoder's taps, then the witness's."""
        shapes = []
        for network in (self.encoder, *([] if self.witness is None else [self.witness])):
            for tap in network.layers.taps:
                channels, height, width = network.network.layer(tap).shape
                shapes.append((channels, height, width))
        return shapes

    def _disturbed(self, code: torch.Tensor, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (code, what the generator is given): the last ``mixed`` rows blended, then noise and dropping."""
        c, split = self.config, self.shape.global_dim
        keep = len(code) - c.mixed
        weight = torch.rand(c.mixed, 1, generator=rng).to(code)
        partner = code[: c.mixed]
        tail = code[keep:]
        spatial_weight = (torch.rand(c.mixed, 1, generator=rng) > 0.5).to(code)  # one layout or the other
        blend = torch.cat(
            [
                weight * tail[:, :split] + (1 - weight) * partner[:, :split],
                spatial_weight * tail[:, split:] + (1 - spatial_weight) * partner[:, split:],
            ],
            dim=1,
        )
        target = torch.cat([code[:keep], blend])
        vector, spatial = target[:, :split], target[:, split:]
        vector = vector * (1 + c.global_noise * torch.randn(vector.shape, generator=rng).to(code)).clamp_min(0)
        spatial = spatial + c.spatial_noise * torch.randn(spatial.shape, generator=rng).to(code)
        kept = (torch.rand(len(code), 1, generator=rng) >= c.spatial_drop).to(code)
        if split:  # without a global code there would be nothing left to draw
            spatial = spatial * kept
        return target, torch.cat([vector, spatial], dim=1)

    def _autocast(self) -> torch.autocast:
        kind = torch.device(self.device).type
        return torch.autocast(kind, torch.bfloat16, enabled=self.config.precision == "bf16")

    def step(self) -> dict[str, float]:
        """Advance by one step; return the losses.

        Raises:
            ModelError: a loss is not finite; the state is then of no more use.
        """
        c, step = self.config, self.done
        rng = torch.Generator().manual_seed(c.seed * 1_000_003 + step)
        images, native = self._images(step)
        with torch.no_grad(), self._autocast():
            seen = self.encoder(images)
            real = normalised(seen.taps, self.scales)
            witness = None if self.witness is None else self._witnessed(self.witness, images, rng)
            real_seen = [] if witness is None else normalised(witness.taps, self.witness_scales)
            target, given = self._disturbed(self._encode(seen), rng)
        with self._autocast():
            made = self._decoded(given, native)
            if self.climbers is not None:
                assert seen.units is not None
                rows = self.climbers.take(step, c.climbed, rng, self._encode(seen), seen.units)
                climbing = self.climbers.code[rows].requires_grad_()
                risen = self._decoded(climbing, torch.full((c.climbed,), self.shape.image_px))  # in full detail
                looked = self.encoder(self.climbers.look(rows, risen.image))
                assert looked.units is not None
                activation = looked.units.gather(1, self.climbers.unit[rows, None]).float().sum()
        if self.climbers is not None:
            (gradient,) = torch.autograd.grad(activation, climbing, retain_graph=True)
            self.climbers.advance(rows, gradient.float())
            made = made.joined(risen)
            target = torch.cat([target, climbing.detach()])
        taps, witnessed = normalised(made.features.taps, self.scales), None
        judged = taps
        if self.witness is not None:
            with self._autocast():
                witnessed = self._witnessed(self.witness, made.image, rng)
            judged = taps + normalised(witnessed.taps, self.witness_scales)
        with self._autocast():
            judged_real = self.judge(real + real_seen)
            judged_fake = self.judge([f.detach() for f in judged])
        hinge = torch.stack(
            [
                F.relu(1 - r.float()).mean() + F.relu(1 + f.float()).mean()
                for r, f in zip(judged_real, judged_fake, strict=True)
            ]
        ).mean()
        for group in self.opt_d.param_groups:
            group["lr"] = c.lr_at(step)
        self.opt_d.zero_grad(set_to_none=True)
        torch.autograd.backward(hinge)
        self.opt_d.step()

        self.judge.requires_grad_(False)
        with self._autocast():
            losses = self._losses(made, taps, images, real, target)
            losses["adversarial"] = -torch.stack([scores.float().mean() for scores in self.judge(judged)]).mean()
            if witnessed is not None:
                keep = c.batch - c.mixed
                assert made.features.units is not None
                assert witnessed.units is not None
                losses["agreement"] = agreement(made.features.units[keep:], witnessed.units[keep:])
        self.judge.requires_grad_(True)
        ramp = min(1.0, max(0.0, (step - c.adversarial_from) / c.adversarial_ramp))
        scale = {name: getattr(c, name) * (ramp if name in RAMPED else 1.0) for name in losses}
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
        values = {name: float(value.detach()) for name, value in losses.items()} | {"hinge": float(hinge.detach())}
        bad = next((name for name, value in values.items() if not math.isfinite(value)), None)
        if bad is not None:
            raise ModelError(
                f"training step {step + 1}: the {bad} loss is not finite; run again to go on from the last checkpoint, "
                f"with a lower --lr than {c.lr:g} or --precision fp32"
            )
        self.done += 1
        return {"step": self.done, **values}

    def _encode(self, features: Features) -> torch.Tensor:
        return self.statistics.encode(features, self.shape.grid).float()

    def _witnessed(self, witness: Encoder, images: torch.Tensor, rng: torch.Generator) -> Features:
        """What the witness sees of images (N, 3, S, S), each from as near as it happens, at a place that it happens."""
        return witness(seen_from(images, self.config.witness_zoom, rng))

    def _decoded(self, code: torch.Tensor, native: torch.Tensor) -> Decoded:
        """The images of codes, each like a photograph stored at ``native`` (N,) pixels."""
        image = seen_at(self.generator(code).float(), native)
        return Decoded(image, self.encoder(image))

    def _losses(
        self,
        made: Decoded,
        taps: list[torch.Tensor],
        images: torch.Tensor,
        real: list[torch.Tensor],
        target: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """The losses of single networks by name. Blended and climbing rows have no pixels to compare with."""
        keep = len(images) - self.config.mixed
        again = made.features
        x, y = made.image[:keep], images[:keep]
        pixel = F.l1_loss(x, y) + F.l1_loss(F.avg_pool2d(x, 8), F.avg_pool2d(y, 8))
        feature = torch.stack([F.l1_loss(f[:keep], r[:keep]) for f, r in zip(taps, real, strict=True)]).sum()
        if self.statistics.global_mean is not None:  # what is there, not where: the global code where there is one
            mean, split = self.statistics.global_mean, self.shape.global_dim
            assert again.pooled is not None
            assert self.statistics.global_std is not None
            got, wanted = again.pooled / self.statistics.global_std - mean, target[:, :split] - mean
        else:
            got, wanted = self._encode(again), target
        consistency = 1 - F.cosine_similarity(got.float(), wanted, dim=1).mean()
        return {
            "pixel": pixel,
            "feature": feature,
            "consistency": consistency,
            "commonness": commonness(made.image),
        }

    def state(self) -> dict[str, Any]:
        return {
            "config": asdict(self.config),
            "shape": asdict(self.shape),
            "layers": self.encoder.layers.to_state(),
            "statistics": asdict(self.statistics),
            "done": self.done,
            "generator": self.generator.state_dict(),
            "average": self.average.state_dict(),
            "judge": self.judge.state_dict(),
            "opt_g": self.opt_g.state_dict(),
            "opt_d": self.opt_d.state_dict(),
        } | ({} if self.climbers is None else {"climbers": self.climbers.state()})

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint.

        Raises:
            InputError: it is of another generator or encoder; says what differs.
        """
        check_same(state, self.shape, self.encoder.layers)
        if {k: v.shape for k, v in state["judge"].items()} != {k: v.shape for k, v in self.judge.state_dict().items()}:
            raise InputError(
                "the checkpoint's discriminator looks at other maps (another --witness-taps, or an earlier "
                "version); give the old settings, or another --out and its generator with --start-from"
            )
        self.statistics = statistics_of(state).to(self.device)
        for name in ("generator", "average", "judge", "opt_g", "opt_d"):
            getattr(self, name).load_state_dict(state[name])
        self.climbers = self._new_climbers()
        if self.climbers is not None and "climbers" in state:
            self.climbers.restore(state["climbers"])
        self.done = int(state["done"])
