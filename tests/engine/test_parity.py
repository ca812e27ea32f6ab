from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from engine.parity import ParityReport, compare, probe
from engine.protocol import Runner
from export.errors import InputError
from export.manifest import StepGraph
from tests.engine.conftest import make_prior
from tests.engine.graphs import Mlp, conv_graph
from tests.engine.reference import NumpyRunner

PRIOR = make_prior(64)
MLP = Mlp.random(code_dim=64, num_units=6)


def difference(runner: Runner, reference: Runner, num_codes: int = 8, seed: int = 0) -> ParityReport:
    return compare(*(probe(engine, PRIOR, num_codes, seed) for engine in (runner, reference)))


GRAPH = {"batch": 4, "code_dim": 64, "side": 32}


def test_onnxruntime_and_openvino_agree_on_a_convolutional_graph(build_with) -> None:
    graph = conv_graph(**GRAPH)
    with build_with("openvino", graph) as runner, build_with("onnxruntime", graph) as reference:
        report = difference(runner, reference, 12)
    assert report.ok(1e-4, 1e-4), report
    assert not report.ok(1e-9, 1e-9), "two runtimes never agree to the bit here; the comparison looked at nothing"
    assert (report.num_codes, report.num_moved) == (12, 12)


def test_a_runtime_agrees_with_numpy(build_with) -> None:
    with build_with("onnxruntime", MLP.graph(4)) as runner:
        assert difference(runner, NumpyRunner(MLP.manifest(4), MLP), seed=5).ok(1e-4, 1e-4)


def negate_last_weight(model: bytes) -> bytes:
    """Turn the gradient round: the MatMul that makes it gets its weight negated."""
    proto = onnx.load_from_string(model)
    weights = {tensor.name: tensor for tensor in proto.graph.initializer}
    last = [node for node in proto.graph.node if node.op_type == "MatMul"][-1].input[1]
    weights[last].CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weights[last]), last))
    return proto.SerializeToString()


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (lambda graph: conv_graph(**GRAPH, gain=1.02), "move"),
        (lambda graph: conv_graph(**GRAPH, seed=1), "activation"),
        (lambda graph: StepGraph(negate_last_weight(graph.step), graph.decode, graph.manifest), "move"),
        (lambda graph: StepGraph(graph.step, conv_graph(**GRAPH, seed=1).decode, graph.manifest), "image"),
    ],
    ids=["rate 2% too high", "other weights", "gradient turned round", "other decoder"],
)
def test_a_wrong_graph_fails(build_with, wrong, field: str) -> None:
    graph = conv_graph(**GRAPH)
    with build_with("openvino", wrong(graph)) as runner, build_with("onnxruntime", graph) as reference:
        report = difference(runner, reference)
    assert not report.ok(3e-3, 3e-3), report
    assert getattr(report, field) > 3e-3


def test_a_side_that_is_not_a_number_fails() -> None:
    nan = Mlp(MLP.bottom, MLP.top * np.float32(np.nan), MLP.paint)
    sound, broken = (NumpyRunner(MLP.manifest(4), mlp) for mlp in (MLP, nan))
    for pair in ((broken, sound), (sound, broken)):
        report = difference(*pair)
        assert math.isnan(report.activation)
        assert not report.ok(1e9, 1e9)


def test_a_dead_unit_that_stays_where_it_is_agrees() -> None:
    dead = Mlp(MLP.bottom, MLP.top * np.float32(0), MLP.paint)
    report = difference(*(NumpyRunner(MLP.manifest(4), dead) for _ in range(2)))
    assert report.ok(0, 0)
    assert report.num_moved == 0


def test_refuses_what_cannot_be_compared() -> None:
    runner = NumpyRunner(MLP.manifest(4), MLP)
    for other in (probe(NumpyRunner(MLP.manifest(5), MLP), PRIOR, 8), probe(runner, PRIOR, 8, seed=1)):
        with pytest.raises(InputError, match="different step graphs or codes"):
            compare(probe(runner, PRIOR, 8), other)
    with pytest.raises(InputError, match="one code"):
        probe(runner, PRIOR, 0)


def test_engines_of_other_numbers_of_slots_can_be_compared(build_with) -> None:
    graph = MLP.graph(4)
    with build_with("onnxruntime", graph, lanes=2) as wide, build_with("onnxruntime", graph) as narrow:
        report = difference(wide, narrow, 11)
    assert report.ok(0, 0), report
    assert report.num_codes == 11


def test_the_report_reads_as_a_sentence() -> None:
    text = str(ParityReport(1e-3, 2e-3, 4e-3, 3e-3, 0, 4, 4))
    assert "gradient 2.0e-03 (at kinks 4.0e-03), move 3.0e-03" in text


@pytest.mark.parametrize(
    ("off", "rows", "accepted"),
    [(1.05, 2, True), (1.05, 3, False), (1.5, 1, False), (0.0, 1, False), (np.nan, 1, False), (1.01, 32, True)],
    ids=["two at a kink", "more than meet kinks", "no kink", "no gradient", "not a number", "rounding"],
)
def test_a_few_gradients_may_have_met_a_kink(off: float, rows: int, accepted: bool) -> None:
    """Two of 32 codes may be farther off than all others, but not by just anything."""
    reference = probe(NumpyRunner(MLP.manifest(4), MLP), PRIOR, 32)
    factor = np.ones(32, np.float32)
    factor[np.argsort(-reference.gradient)[:rows]] = off
    report = compare(replace(reference, gradient=reference.gradient * factor), reference)
    assert report.ok(2e-2, 0.15) is accepted, report
