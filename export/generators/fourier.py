"""``fourier:S``: the code is the image's spectrum, scaled by 1/f, in decorrelated colours.

After Olah, Mordvintsev and Schubert, "Feature Visualization" (2017): ascent in this basis is preconditioned, so that
every frequency moves as fast as it does in photographs. The basis is the real orthonormal Fourier basis B (constant,
cosines, sines), so the inverse transform is two matrix products, ``B^T (code / f) B``, which every runtime has.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from export.generators.parametrised import standard, write_graph
from export.prior import CodePrior
from export.priors.none import NoPrior
from export.vjp.emit import Emitter

CARD = {"title": "Fourier", "source": "no generator: the code is the image's spectrum", "licence": "Apache-2.0"}
GAIN = 0.25
"""Makes standard normal codes an image of about unit variance before the sigmoid."""
COLOURS = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
"""Square root of the covariance of ImageNet's colours (RGB rows), as published with Lucid."""


def write(size: str, cache: Path) -> Path:
    """See :func:`export.generators.parametrised.write_graph`."""
    return write_graph("fourier", size, cache, draw, CARD, prior)


def prior(code_dim: int) -> CodePrior:
    return NoPrior(*standard(code_dim))


def draw(e: Emitter, code: ir.Value, side: int) -> ir.Value:
    basis, frequency = real_fourier(side)
    distance = np.hypot(frequency[:, None], frequency[None])
    scale = GAIN / np.maximum(distance, 1 / side)
    spectrum = e.op("Mul", code, e.const(scale.astype(np.float32)[None, None]))
    rows = e.op("MatMul", e.const(np.ascontiguousarray(basis.T)[None, None]), spectrum)
    plain = e.op("MatMul", rows, e.const(basis[None, None]))
    mixing = COLOURS / np.linalg.norm(COLOURS, axis=0).max()
    coloured = e.op("Conv", plain, e.const(mixing.astype(np.float32)[:, :, None, None]))
    return e.op("Sigmoid", coloured)


def real_fourier(size: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """The orthonormal basis, (size, size) with one function per row, and each one's frequency in cycles per sample."""
    position = np.arange(size)
    rows, frequency = [np.full(size, size**-0.5)], [0.0]
    for k in range(1, (size - 1) // 2 + 1):
        angle = 2 * np.pi * k * position / size
        rows += [np.cos(angle) * (2 / size) ** 0.5, np.sin(angle) * (2 / size) ** 0.5]
        frequency += [k / size] * 2
    if size % 2 == 0:
        rows.append(np.where(position % 2, -1.0, 1.0) * size**-0.5)
        frequency.append(0.5)
    return np.stack(rows).astype(np.float32), np.asarray(frequency)
