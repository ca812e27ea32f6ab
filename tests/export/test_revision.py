"""GRAPH_REVISION is part of every recipe: changed graphs that forget to raise it would mix old and new results."""

from __future__ import annotations

from collections import Counter

import onnx

from export.manifest import GRAPH_REVISION
from export.step import compile_step
from export.update import Ascent
from tests.export.pairs import Pair

KNOWN = {
    5: (
        "Abs:1 Add:43 And:10 AveragePool:4 Cast:20 Clip:1 Concat:7 Conv:21 ConvTranspose:1 DepthToSpace:1 "
        "Div:7 Equal:10 Expand:6 Gather:7 Gemm:18 Greater:11 LeakyRelu:8 Less:1 MatMul:4 Max:9 MaxPool:1 "
        "Min:2 Mul:98 Neg:5 Not:8 Or:7 Pad:11 Pow:5 Reciprocal:5 ReduceMean:6 ReduceSum:18 Relu:1 Reshape:18 "
        "Resize:4 Sigmoid:1 Slice:19 Split:6 Sqrt:6 Sub:1 Transpose:2 Unsqueeze:12 Where:2"
    )
}


def fingerprint(serialised: bytes) -> str:
    """Operators and how often each occurs."""
    kinds = Counter(node.op_type for node in onnx.load_from_string(serialised).graph.node)
    return " ".join(f"{kind}:{count}" for kind, count in sorted(kinds.items()))


def test_a_changed_step_graph_has_a_new_revision(pair: Pair) -> None:
    graph = compile_step(pair.network, pair.generator, "head", batch=2, ascent=Ascent(jitter_px=1))
    assert fingerprint(graph.step) == KNOWN[GRAPH_REVISION], (
        "the step graph has changed: raise GRAPH_REVISION if a job's result can change, and put the new line in KNOWN"
    )
