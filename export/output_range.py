"""Is a generator's output what its owner says? A few codes are decoded and looked at."""

from __future__ import annotations

import importlib.util

import numpy as np
import onnx_ir as ir

from export.cards import GeneratorOutput
from export.errors import ModelError
from export.prior import CodePrior

SLACK = 0.25
MOST = 0.1
"""At most this share of the canonical values may lie more than SLACK outside [0, 1]."""


def check_output(model: ir.Model, prior: CodePrior, output: GeneratorOutput, origin: str) -> None:
    """Decode two codes of the prior; does nothing where ONNX Runtime is not installed.

    Args:
        model: code (2, code_dim) -> image (2, 3, S, S).
        prior: where codes are drawn.
        output: what the values are said to mean.
        origin: names the generator in messages.

    Raises:
        ModelError: values that are not finite, or outside the declared range.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        return
    import onnxruntime

    noise = np.random.default_rng(0).normal(size=(2, prior.code_dim))
    code = prior.constrain((prior.mean + prior.std * noise).astype(np.float32))
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )
    (image,) = session.run(None, {session.get_inputs()[0].name: code})
    judge_output(image, output, origin)


def judge_output(image: np.ndarray, output: GeneratorOutput, origin: str) -> None:
    """See :func:`check_output`; ``image`` (N, 3, H, W) as the generator gives it."""
    if not np.isfinite(image).all():
        raise ModelError(f"{origin}: the generator's output is not finite; its weights hold NaN or infinite values")
    scale, offset = (np.asarray(v).reshape(1, 3, 1, 1) for v in (output.scale, output.offset))
    canonical = image * scale + offset
    share = float(((canonical < -SLACK) | (canonical > 1 + SLACK)).mean())
    if share > MOST:
        low, high = 0.0 - offset.mean() / scale.mean(), (1 - offset.mean()) / scale.mean()
        raise ModelError(
            f"{origin}: the generator's output spans {image.min():.3g} to {image.max():.3g}, which does not fit the "
            f"declared range of {low:.3g} to {high:.3g}; declare it: [generator] range = [black, white]"
        )
