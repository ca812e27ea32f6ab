from __future__ import annotations

import numpy as np
import onnx
import pytest

from export.projection import BANDWIDTH_EFFICIENCY, KERNEL_S, Device, Load, load_of


def test_counts_of_a_product() -> None:
    """y = x w with x (2, 8), w (8, 4), then a sum: 2*2*8*4 operations, w and x once, y written and read."""
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> g (float[2,8] x) => (float[1,1] z) '
        "{ y = MatMul(x, w) r = Relu(y) z = ReduceSum(r) }"
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((8, 4), np.float32), "w"))
    assert load_of(model.SerializeToString()) == Load(128, 2 * (16 + 32 + 2 * 8), 2)


@pytest.mark.parametrize(("flops", "num_bytes"), [(1e12, 1.0), (1.0, 1e12)])
def test_the_slower_of_both_counts(flops: float, num_bytes: float) -> None:
    device = Device("paper", 1e12 / 0.35, 1e12 / BANDWIDTH_EFFICIENCY)
    assert Load(flops, num_bytes, 1000).seconds(device) == pytest.approx(1 + 1000 * KERNEL_S)
