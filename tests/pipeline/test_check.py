from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest

from export.errors import MissingRuleError
from export.network import LayerInfo
from export.upstream import upstream
from pipeline.check import check_plan, deepest
from pipeline.config import Overrides, load_config
from pipeline.plan import make_plan
from pipeline.workspace import open_workspace
from tests.pipeline.models import write_tiny

FORK = """<ir_version: 10, opset_import: ["" : 21]>
g (float[1, 8] x) => (float[1, 8] left, float[1, 8] right) {
    a = Relu (x)
    b = Neg (a)
    left = Add (a, b)
    right = Abs (b)
}"""


def layer(name: str) -> LayerInfo:
    return LayerInfo(name, name, (8,), None)


def test_the_deepest_layers_are_those_that_no_other_is_computed_from() -> None:
    graph = ir.from_onnx_text(FORK).graph
    found = deepest(graph, [layer(name) for name in ("a", "b", "left", "right")])
    assert [info.name for info in found] == ["left", "right"]
    assert [info.name for info in deepest(graph, [layer("b"), layer("a")])] == ["b"]


def test_upstream_is_every_node_once() -> None:
    values = {value.name: value for node in ir.from_onnx_text(FORK).graph for value in node.outputs}
    assert sorted(node.op_type for node in upstream(values["left"])) == ["Add", "Neg", "Relu"]
    assert [node.op_type for node in upstream(values["a"])] == ["Relu"]


def test_only_what_is_to_be_made_is_compiled(tmp_path: Path) -> None:
    """The operator without a rule comes after relu1."""
    config = load_config(str(write_tiny(tmp_path, extra_ops=["Acosh"])))
    workspace = open_workspace(config, tmp_path / "out")
    with pytest.raises(MissingRuleError, match="Acosh"):
        check_plan(workspace, make_plan(workspace))
    workspace = open_workspace(Overrides(layers=("relu1",)).apply(config), tmp_path / "out")
    (manifest,) = check_plan(workspace, make_plan(workspace))
    assert (manifest.layer, manifest.batch) == ("relu1", 1)
