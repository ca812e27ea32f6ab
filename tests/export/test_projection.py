from __future__ import annotations

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from export.projection import (
    ARITHMETIC_EFFICIENCY,
    BANDWIDTH_EFFICIENCY,
    DEVICES,
    KERNEL_S,
    KNOWN,
    Device,
    Load,
    device_named,
    layers_with_weights,
    load_of,
    main,
)
from tests.export.pairs import Pair


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


def test_fp32_moves_twice_the_bytes_and_has_its_own_peak() -> None:
    device = Device("paper", 1e12, 1e12 / BANDWIDTH_EFFICIENCY, 1e11 / ARITHMETIC_EFFICIENCY)
    assert Load(1.0, 1e12, 0).seconds(device, "fp32") == pytest.approx(2)
    assert Load(1e12, 1.0, 0).seconds(device, "fp32") == pytest.approx(10)


def test_the_night_is_every_layer_with_weights(pair: Pair) -> None:
    """8 + 12 channels and 10 logits, each layer by its own time."""
    assert [(layer.name, layer.num_units) for layer in layers_with_weights(pair.network)] == [
        ("stem.0", 8), ("body.0", 12), ("head", 10),
    ]  # fmt: skip
    done = CliRunner().invoke(main, [str(pair.network.path), "--generator", str(pair.generator.path), "--batch", "2"])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0].startswith("On paper, not measured. Batch 2, 60 steps a unit")
    assert [line.split(":")[0] for line in lines[1:4]] == ["stem.0", "body.0", "head"]
    assert len(lines) == 4 + 2 * len(DEVICES)
    assert all(" 30 units of 3 layers in " in line for line in lines[4:])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA L4", "L4"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA A100-SXM4-40GB", "A100 40 GB"),
        ("NVIDIA A100-SXM4-80GB", "A100 SXM"),
        ("NVIDIA A10", "A10"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("Fake L4", "L4"),
        ("Tesla T4", None),
    ],
)
def test_devices_are_known_by_their_cuda_names(name: str, expected: str | None) -> None:
    device = device_named(name)
    assert (device.name if device else None) == expected
    assert sum(bool(device_named(name) is known) for known in KNOWN) == (expected is not None)


def test_the_roofline() -> None:
    """At the peaks themselves; in fp32 those of the ordinary cores."""
    device = Device("paper", 100.0, 10.0, 5.0)
    assert Load(50, 1, 3).roofline_s(device, "fp16") == (0.5, "arithmetic")
    assert Load(50, 1, 3).roofline_s(device, "fp32") == (10.0, "arithmetic")
    assert Load(5, 20, 3).roofline_s(device, "bf16") == (2.0, "memory")
