"""``pixels:S``: the image itself is the code, ``image = sigmoid(code)``; no image prior but a pull towards grey.

The classical baseline (Erhan et al. 2009; Simonyan et al. 2014, whose L2 penalty is the gaussian prior's decay).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from export.generators.parametrised import standard, write_graph
from export.prior import CodePrior
from export.priors.gaussian import DECAY, GaussianPrior
from export.vjp.emit import Emitter

CARD = {"title": "Pixels", "source": "no generator: the code is the image", "licence": "Apache-2.0"}


def write(size: str, cache: Path) -> Path:
    """See :func:`export.generators.parametrised.write_graph`."""
    return write_graph("pixels", size, cache, draw, CARD, prior)


def draw(e: Emitter, code: ir.Value, side: int) -> ir.Value:
    return e.op("Sigmoid", code)


def prior(code_dim: int) -> CodePrior:
    return GaussianPrior(*standard(code_dim), np.full(code_dim, DECAY, np.float32))
