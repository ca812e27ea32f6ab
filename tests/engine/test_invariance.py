from __future__ import annotations

import numpy as np
import pytest

from engine.invariance import dependent_slots
from engine.runtimes import builders
from export.errors import InputError
from tests.engine.conftest import make_prior
from tests.engine.graphs import Mlp, conv_graph
from tests.engine.reference import NumpyRunner

MLP = Mlp.random(code_dim=64, num_units=6)
PRIOR = make_prior(64)


@pytest.mark.parametrize("name", builders())
def test_real_engines_pass(build_with, name: str) -> None:
    with build_with(name, conv_graph(batch=4, code_dim=64, side=32)) as runner:
        assert dependent_slots(runner, PRIOR) == []


class LastSlotDiffers(NumpyRunner):
    """Its last slot moves a hair further in every step."""

    def _step_slot(self, slot: int) -> None:
        super()._step_slot(slot)
        if slot == self.manifest.batch - 1:
            self._code[slot] = np.nextafter(self._code[slot], np.float32(9))


class LooksAtNeighbours(NumpyRunner):
    """Its first slot is pulled towards the mean of all."""

    def step(self, count: int) -> None:
        super().step(count)
        self._code[0] += np.float32(1e-6) * self._code.mean(axis=0)
        super().step(1)


class ImagesLeak(NumpyRunner):
    """Its images depend on the other codes."""

    def decode(self, codes: np.ndarray) -> np.ndarray:
        return super().decode(codes) + np.float32(1e-3) * codes.mean()


@pytest.mark.parametrize(
    ("cheat", "slots"), [(LastSlotDiffers, [3]), (LooksAtNeighbours, [1, 2, 3]), (ImagesLeak, [1, 2, 3])]
)
def test_a_cheat_is_found(cheat: type[NumpyRunner], slots: list[int]) -> None:
    assert dependent_slots(cheat(MLP.manifest(4), MLP), PRIOR) == slots


def test_an_honest_runner_passes() -> None:
    assert dependent_slots(NumpyRunner(MLP.manifest(4), MLP), PRIOR, num_steps=6, seed=3) == []


def test_refuses_more_steps_than_there_are() -> None:
    with pytest.raises(InputError, match="1 to 40"):
        dependent_slots(NumpyRunner(MLP.manifest(4), MLP), PRIOR, num_steps=41)
