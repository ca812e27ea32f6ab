from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from engine.slots import Job
from engine.start import standard_normal, start_code
from export.priors.box import BoxPrior
from tests.engine.conftest import make_prior

GOLDEN = [-0.8831512928, -1.4980849028, 1.8794642687, -0.8756451011, 0.9051690698]


def test_the_draws_are_these_in_every_process_and_version() -> None:
    drawn = standard_normal("layer4\n7\n0", 5)
    np.testing.assert_allclose(drawn, GOLDEN, rtol=1e-6)


def test_another_process_draws_the_same() -> None:
    program = (
        "from engine.start import start_code; from engine.slots import Job;"
        "from tests.engine.conftest import make_prior;"
        "print(start_code(make_prior(33), 'fc', Job(5, 2), 0.7).tobytes().hex())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert seen == {start_code(make_prior(33), "fc", Job(5, 2), 0.7).tobytes().hex()}


def test_layer_unit_and_seed_all_matter() -> None:
    prior = make_prior(16)
    keys = [("fc", 1, 12), ("fc", 11, 2), ("fc", 2, 1), ("fc1", 1, 2), ("fc", 1, 2)]
    assert len({start_code(prior, layer, Job(unit, seed), 1.0).tobytes() for layer, unit, seed in keys}) == len(keys)


def test_draws_are_standard_normal() -> None:
    drawn = standard_normal("any", 200_001)
    assert drawn.shape == (200_001,)
    assert drawn.dtype == np.float32
    assert abs(drawn.mean()) < 0.01
    assert drawn.std() == pytest.approx(1, abs=0.01)
    assert np.mean(drawn**3) == pytest.approx(0, abs=0.05)
    assert np.mean(drawn**4) == pytest.approx(3, abs=0.1)
    assert abs(np.corrcoef(drawn[:100_000], drawn[100_000:200_000])[0, 1]) < 0.02


def test_formula_and_box() -> None:
    rng = np.random.default_rng(0)
    mean, std = rng.normal(size=(2, 101)).astype(np.float32)
    std = np.abs(std)
    low, high = mean - np.float32(0.5), np.full(101, np.inf, np.float32)
    prior = BoxPrior(mean, std, low, high, np.ones(101, np.float32))
    code = start_code(prior, "fc", Job(3, 4), 0.8)
    noise = standard_normal("fc\n3\n4", 101)
    assert code.dtype == np.float32
    np.testing.assert_allclose(code, np.maximum(mean + 0.8 * std * noise, low), rtol=1e-6)
    assert (code == low).any()
    assert (code > low).any()


def test_scale_0_starts_at_the_mean() -> None:
    prior = make_prior(8)
    np.testing.assert_array_equal(start_code(prior, "fc", Job(0, 0), 0.0), prior.mean)
