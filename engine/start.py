"""Start codes: where a job begins, from nothing but its layer, unit and seed."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from engine.slots import Job
from export.prior import CodePrior


def start_code(
    prior: CodePrior, layer: str, job: Job, scale: float, centre: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[np.float32]:
    """``centre + scale * std * n`` with n ~ N(0, 1), made plausible by the prior; (code_dim,) float32.

    It depends on no other job, on no order and on no batch, and is the same in every process.

    Args:
        prior: of the generator's code.
        layer: the layer as the user named it.
        job: unit, seed and attempt.
        scale: 0 starts at the centre, 1 spreads starts as widely as encoded images.
        centre: (code_dim,); the prior's mean by default.
    """
    further = f"\n{job.attempt}" if job.attempt else ""
    noise = standard_normal(f"{layer}\n{job.unit}\n{job.seed}{further}", prior.code_dim)
    code = (prior.mean if centre is None else centre) + np.float32(scale) * prior.std * noise
    return prior.constrain(code)


def standard_normal(key: str, count: int) -> npt.NDArray[np.float32]:
    """``count`` draws from N(0, 1), float32, determined by ``key``.

    Philox keyed by the key's SHA-256, and Box-Muller, ``sqrt(-2 log(1 - u)) (cos 2 pi v, sin 2 pi v)``, on its raw
    bits: numpy keeps the bits the same in every version, its own normal draws it does not.
    """
    philox = np.random.Philox(key=int.from_bytes(hashlib.sha256(key.encode()).digest()[:16], "little"))
    pairs = (count + 1) // 2
    uniform = (philox.random_raw(2 * pairs) >> np.uint64(11)) * 2.0**-53  # [0, 1)
    radius = np.sqrt(-2.0 * np.log1p(-uniform[:pairs]))
    angle = 2.0 * np.pi * uniform[pairs:]
    normal = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
    return normal.astype(np.float32)
