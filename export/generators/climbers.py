"""Codes on their way up: what an atlas's ascent will ask of a generator, while the generator is trained.

An ascent ends where no photograph's code is. A generator that was only shown codes of photographs, and blends of two,
may draw anything there. So some rows of every training step are codes that climb the units of the encoder through the
generator as it is at that moment; their images have no pixels to be compared with, but must look real, must have the
features that the code names, and must show other networks what they show the encoder.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from export.priors.sphere import SpherePrior
from export.update import Ascent
from export.view import ZOOM_OF_CLASSES

START_SCALE = 0.1
NUM_LIKELY = 5
ASCENT = Ascent(kind="adam", steps=40, jitter_px=4, zoom=ZOOM_OF_CLASSES)
"""An atlas's ascent of a class with two thirds of its steps, which climbs nearly as high."""


class Climbers:
    """A pool of codes, each at an age of its own; a few of them take a step at a time.

    Args:
        prior: keeps them plausible; also where they start.
        pace: (code_dim,) what a step along a component is multiplied by; None for 1.
        num_units: of the layer that is climbed.
        size: of the pool.
        sides: of the generator's image, and (height, width) of the encoder's input.
        device: where it all is.
    """

    def __init__(
        self,
        prior: SpherePrior,
        pace: Any,
        num_units: int,
        size: int,
        sides: tuple[int, tuple[int, int]],
        device: torch.device | str = "cpu",
    ) -> None:
        self._mean, self._std, self._radius = (
            torch.from_numpy(a.copy()).to(device) for a in (prior.mean, prior.std, prior.radius)
        )
        self._pace = 1.0 if pace is None else torch.from_numpy(pace.copy()).to(device)
        self._num_units, self._size = num_units, size
        self._rates = torch.from_numpy(ASCENT.learning_rates()).to(device)
        image_px, (height, width) = sides
        view = ASCENT.view(image_px, height, width)
        self._rows, self._columns = (
            torch.from_numpy(matrices[which]).to(device)
            for matrices, which in ((view.rows, view.row_of_step), (view.columns, view.column_of_step))
        )
        self.code = self._mean.repeat(size, 1)
        self.moment1, self.moment2 = torch.zeros_like(self.code), torch.zeros_like(self.code)
        self.unit = torch.arange(size, device=device) % num_units
        self.age = torch.arange(size, device=device) % ASCENT.steps  # so that all ages are there at any time

    def take(
        self, step: int, count: int, rng: torch.Generator, codes: torch.Tensor, units: torch.Tensor
    ) -> torch.Tensor:
        """Rows of the pool whose turn it is; those that are at their end start anew, at codes of photographs.

        An atlas starts a unit at the candidate that activates it most; so each starts at a photograph's code and climbs
        one of the units that this photograph activates most.

        Args:
            step: of the training.
            count: how many rows.
            rng: chooses.
            codes: (n, code_dim) of photographs.
            units: (n, num_units) what they activate.

        Returns:
            (count,) int64.
        """
        rows = ((torch.arange(count) + step * count) % self._size).to(self.age)
        which = torch.randint(len(codes), (count,), generator=rng).to(rows)
        place = torch.randint(min(NUM_LIKELY, self._num_units), (count,), generator=rng).to(rows)
        noise = torch.randn(count, self.code.shape[1], generator=rng).to(self.code)
        likely = units[which].float().topk(min(NUM_LIKELY, self._num_units), dim=1).indices
        over = self.age[rows] >= ASCENT.steps
        ended = rows[over]
        start = codes[which[over]] + START_SCALE * self._std * noise[over]
        self.code[ended] = self._constrained(start)
        self.moment1[ended], self.moment2[ended] = 0.0, 0.0
        self.unit[ended] = likely.gather(1, place[:, None])[:, 0][over]
        self.age[ended] = 0
        return rows

    def look(self, rows: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """What the encoder sees of some rows' images at this step of their ascents.

        Args:
            rows: of the pool.
            images: (len(rows), 3, S, S) of their codes.

        Returns:
            (len(rows), 3, height, width).
        """
        age = self.age[rows]
        return self._rows[age][:, None] @ images.float() @ self._columns[age][:, None].transpose(2, 3)

    def advance(self, rows: torch.Tensor, gradient: torch.Tensor) -> None:
        """One step of Adam for some rows, as :func:`export.update.add_update` emits it.

        Args:
            rows: of the pool.
            gradient: (len(rows), code_dim) of each row's unit.
        """
        age = self.age[rows]
        direction = gradient / gradient.abs().mean(dim=1, keepdim=True).clamp_min(1e-30)
        m = self.moment1[rows].lerp(direction, 1 - ASCENT.beta1)
        v = self.moment2[rows].lerp(direction.square(), 1 - ASCENT.beta2)
        rate, power = self._rates[age][:, None], (age + 1)[:, None]
        move = rate * m / (1 - ASCENT.beta1**power) / ((v / (1 - ASCENT.beta2**power)).sqrt() + 1e-8)
        self.code[rows] = self._constrained(self.code[rows] + self._pace * move)
        self.moment1[rows], self.moment2[rows], self.age[rows] = m, v, age + 1

    def _constrained(self, code: torch.Tensor) -> torch.Tensor:
        """As :meth:`export.priors.sphere.SpherePrior.constrain`."""
        return self._mean + self._std * self._radius * F.normalize((code - self._mean) / self._std, dim=1)

    def state(self) -> dict[str, torch.Tensor]:
        return {name: getattr(self, name) for name in ("code", "moment1", "moment2", "unit", "age")}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        for name, value in state.items():
            getattr(self, name).copy_(value)
