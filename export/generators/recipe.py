"""The training recipe: lengths, rates and the weights of the losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
        climbed: further rows, of codes that climb the encoder's units (:mod:`export.generators.climbers`).
        pixel: weight of L1 on pixels plus L1 on 8x8 means.
        feature: weight of the sum of L1 on five stages of normalised encoder features.
        consistency: weight of the cosine between the code given and the code of the image made.
        adversarial: weight of the mean over the discriminator's heads, one per map that it sees. At .4 its gradient is
            about two thirds of consistency's.
        agreement: weight of the divergence between the encoder's classes of an image without a photograph (blended or
            climbing) and those that another network, the witness, sees in it. In a generator that did not know a
            witness yet, its gradient at .15 was ten times all others together, and nothing else was learned.
        witness_zoom: largest magnification at which the witness, and the discriminator through it, see an image; each
            image, photographs included, is seen from its own distance and place.
        commonness: weight of the mean likeness of the images' details: nothing is to stand at one place in all of them.
        global_noise: standard deviation of the multiplicative noise on the global code.
        spatial_noise: standard deviation of the additive noise on the spatial code.
        spatial_drop: probability that an image's whole spatial code is dropped.
        precision: ``bf16`` runs generator, encoder and discriminator under autocast; sums and losses stay fp32.
        adversarial_from: step at which the adversarial loss starts its ramp of ``adversarial_ramp`` steps.
    """

    steps: int = 6000
    batch: int = 32
    mixed: int = 8
    climbed: int = 8
    seed: int = 0
    lr: float = 5e-4
    decay_share: float = 0.25
    pixel: float = 2.0
    feature: float = 0.25
    consistency: float = 1.0
    adversarial: float = 0.4
    agreement: float = 0.06
    witness_zoom: float = 1.5
    commonness: float = 2.0
    adversarial_from: int = 150
    adversarial_ramp: int = 600
    global_noise: float = 0.15
    spatial_noise: float = 0.3
    spatial_drop: float = 0.1
    ema: float = 0.997
    precision: Literal["fp32", "bf16"] = "fp32"

    def lr_at(self, step: int) -> float:
        start = self.steps * (1 - self.decay_share)
        return self.lr * (1.0 if step < start else max(0.02, (self.steps - step) / max(1.0, self.steps - start)))
