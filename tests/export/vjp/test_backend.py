"""ONNX's own node tests, every case that the rules reach, against central differences.

Model and inputs are the official ones. The derivative of every float output with respect to every float input is asked
for, with a random cotangent; integers, conditions and what a rule refuses become initializers. A case is checked, or
skipped for one of the reasons in :class:`~tests.export.vjp.backend.judging.Skip`; every refusal that occurs is in
``REFUSED``.

All is computed by the first of ``ORACLES`` that reproduces the official outputs and whose differences agree for two
steps: one that rounds to float32 on the way, or meets a kink within the step, does not judge.
"""

from __future__ import annotations

import functools
import warnings
from collections import Counter
from collections.abc import Sequence

import onnx
import pytest
from onnx.backend.test.case.test_case import TestCase as BackendCase
from onnx.backend.test.loader import load_model_tests

from tests.export.vjp.backend.judging import Outcome, Skip, judge
from tests.export.vjp.backend.oracles import AS_IT_IS, ORACLES, REFERENCE64, RUNTIME32, RUNTIME64, Oracle, Unsuitable

CHECKED = 842
"""At least so many cases are checked with the node tests of onnx 1.23, so that the file cannot shrink unnoticed."""


def _weights(*indices: int) -> list[str]:
    return [f"the derivative with respect to its input {i} is not supported" for i in indices]


SCATTER = "only constant indices that replace or add are supported"
REFUSED = {
    "BatchNormalization": [*_weights(1, 2, 3, 4), "it is in training mode; export the network in eval mode"],
    "Clip": _weights(1, 2),
    "Conv": _weights(1, 2),
    "ConvTranspose": _weights(1),
    "Dropout": [*_weights(1), "it may be in training mode; export the network in eval mode"],
    "Einsum": ["the equation '...ii->...i' has an ellipsis or repeats an index within one operand"],
    "GroupNormalization": _weights(1, 2),
    "InstanceNormalization": _weights(1, 2),
    "LayerNormalization": [*_weights(1, 2), "its mean or inverse deviation is used"],
    "PRelu": _weights(1),
    "Pad": _weights(2),
    "RMSNormalization": _weights(1),
    "Resize": [
        "its scales with 'align_corners' lead to no whole size, where runtimes disagree; give sizes",
        "the mode 'tf_crop_and_resize' is not supported",
        "only the aspect ratio policy 'stretch' is supported; give the sizes that it leads to",
    ],
    "ScatterElements": [SCATTER],
    "ScatterND": [SCATTER],
}
"""Operator -> what its refusals say; no others occur."""

SLOW = {"AveragePool", "LpPool", "MaxPool", "Conv", "ConvTranspose"}
"""ONNX's reference walks their windows in Python: seconds a case."""


@functools.cache
def cases() -> dict[str, BackendCase]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # some overflow or divide by 0 on purpose
        return {case.name: case for case in load_model_tests(kind="node")}


@functools.cache
def outcome(name: str) -> Outcome:
    case = cases()[name]
    graph = case.model.graph
    kinds = [v.type for v in (*graph.input, *graph.output)]
    tensors = all(kind.WhichOneof("value") == "tensor_type" for kind in kinds)
    if not tensors or not case.data_sets or any(k.tensor_type.elem_type == onnx.TensorProto.STRING for k in kinds):
        return Outcome(Skip.NOT_TENSORS)
    operators = {n.op_type for n in graph.node}
    oracles: Sequence[Oracle] = ORACLES
    if operators <= {"Cast", "CastLike"}:
        oracles = (AS_IT_IS,)
    elif operators & SLOW:
        oracles = (RUNTIME64, RUNTIME32, REFERENCE64)
    failures = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for oracle in oracles:
            try:
                return judge(case, oracle)
            except Unsuitable as error:
                failures.append(f"{oracle.name}: {error}")
    raise AssertionError("nothing can judge it: " + "; ".join(failures))


@pytest.mark.parametrize("name", cases())
def test_node(name: str) -> None:
    found = outcome(name)
    for refusal in found.refusals:
        op, _, why = refusal.partition(": ")
        assert why in REFUSED.get(op, ()), refusal
    if found.skip is not None:
        pytest.skip(found.skip)


def test_that_most_are_checked() -> None:
    if tuple(map(int, onnx.__version__.split(".")[:2])) < (1, 23):
        pytest.skip("counted with the node tests of onnx 1.23")
    counts = Counter(outcome(name).skip for name in cases())
    assert counts[None] >= CHECKED, counts
    assert set(counts) == {None, *Skip}
