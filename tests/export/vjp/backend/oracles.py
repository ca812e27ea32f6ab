"""Ways to run a model, in the order in which they are asked: each rounds, or refuses, where another does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx.reference import ReferenceEvaluator

Arrays = dict[str, np.ndarray]
Run = Callable[[Arrays], Arrays]


class Unsuitable(Exception):
    """An oracle cannot judge a case."""


def reference(proto: onnx.ModelProto) -> Run:
    evaluator = ReferenceEvaluator(proto)

    def run(feeds: Arrays) -> Arrays:
        outputs: Any = evaluator.run(None, feeds)
        return dict(zip(evaluator.output_names, map(np.asarray, outputs), strict=True))

    return run


def runtime(proto: onnx.ModelProto) -> Run:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(names, feeds), strict=True))


@dataclass(frozen=True)
class Oracle:
    """A way to run a model.

    Attributes:
        name: for messages.
        load: model -> function from feeds to outputs.
        dtype: what every float is computed in; None leaves the types as they are.
        steps: of the central difference; the first one that suits is taken.
        rtol: of the directional derivative.
        rounding: of a value, relative; the difference may be off by this over the step.
    """

    name: str
    load: Callable[[onnx.ModelProto], Run]
    dtype: type[np.floating[Any]] | None
    steps: tuple[float, ...]
    rtol: float
    rounding: float

    @property
    def element(self) -> int:
        assert self.dtype is not None
        return int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype)))

    def start(self, model: ir.Model) -> Run:
        try:
            run = self.load(ir.to_proto(model))
        except Exception as error:
            raise Unsuitable(f"does not start: {error}") from error

        def guarded(feeds: Arrays) -> Arrays:
            try:
                return run(feeds)
            except Exception as error:
                raise Unsuitable(f"does not run: {error}") from error

        return guarded


RUNTIME64 = Oracle("ONNX Runtime in float64", runtime, np.float64, (1e-6,), 1e-6, 1e-14)
REFERENCE64 = Oracle("reference in float64", reference, np.float64, (1e-6,), 1e-6, 1e-14)
RUNTIME32 = Oracle("ONNX Runtime in float32", runtime, np.float32, (1.0, 1e-2, 3e-3), 1e-3, 3e-7)  # 1: what is linear
ORACLES = (RUNTIME64, REFERENCE64, RUNTIME32)
AS_IT_IS = Oracle("reference in the case's types", reference, None, (1.0,), 2e-2, 2e-2)
"""For Cast alone, where the types are the point; the rounding is bfloat16's."""
