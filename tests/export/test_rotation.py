"""Rotation and zoom inside the step graph, against PyTorch's own sampling of images."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch.nn import functional as F

from export.manifest import StepGraph
from export.rotation import NUM_ANGLES, Rotation, add_rotation, make_rotation
from export.step import compile_step
from export.update import Ascent
from export.view import View, make_view, resize_matrix
from export.vjp.emit import Emitter
from tests.export.pairs import SHAPE, Pair

SIDE, BATCH = 16, 3
MOVING = Ascent(kind="normalized", steps=10, lr=0.5, jitter_px=2, zoom=(0.8, 1.2), rotate_deg=20)


def sheared(image: torch.Tensor, slope: float) -> torch.Tensor:
    """Rows moved by ``slope (r - middle)``: linear interpolation by grid_sample, grey beyond the edge."""
    size = image.shape[-1]
    line = torch.linspace(-1, 1, size, dtype=image.dtype)
    y, x = torch.meshgrid(line, line, indexing="ij")
    grid = torch.stack([x + slope * y, y], dim=-1).expand(len(image), -1, -1, -1)
    return F.grid_sample(image - 0.5, grid, align_corners=True, padding_mode="zeros") + 0.5


def rotated(image: torch.Tensor, angle: float) -> torch.Tensor:
    image = sheared(image, -math.tan(angle / 2))
    image = sheared(image.mT, math.sin(angle)).mT
    return sheared(image, -math.tan(angle / 2))


def smooth(count: int = BATCH) -> torch.Tensor:
    torch.manual_seed(0)
    return F.interpolate(torch.rand(count, 3, 4, 4), size=SIDE, mode="bicubic", align_corners=True)


def run_rotation(rotation: Rotation, image: torch.Tensor, steps: list[int]) -> np.ndarray:
    source = ir.Value(name="image", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(image.shape))
    age = ir.Value(name="age", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([len(image)]))
    graph = ir.Graph([source, age], [], nodes=[], name="g", opset_imports={"": 20})
    out = add_rotation(Emitter(graph, "r"), source, rotation, age)
    graph.outputs.append(out)
    model = ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": image.numpy(), "age": np.asarray(steps, np.int64)})[0])


def test_every_slot_turns_by_its_own_angle() -> None:
    rotation = make_rotation(30, 9, np.zeros(9, bool), np.random.default_rng(0))
    rotation = replace(rotation, of_step=np.arange(NUM_ANGLES))
    out = run_rotation(rotation, smooth(), [0, 4, 7])
    expected = [rotated(smooth()[i : i + 1], float(rotation.angles[s]))[0] for i, s in enumerate((0, 4, 7))]
    np.testing.assert_allclose(out, torch.stack(expected).numpy(), atol=2e-5)
    np.testing.assert_array_equal(out[1], smooth()[1].numpy())  # the middle angle is none


def test_three_shears_are_a_rotation() -> None:
    angle = math.radians(20)
    rotation = Rotation(np.full(NUM_ANGLES, angle), np.zeros(1, np.int64))
    out = torch.from_numpy(run_rotation(rotation, smooth(1), [0]))
    matrix = torch.tensor([[[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0]]])
    inside = slice(4, 12)

    def error(towards: torch.Tensor) -> float:
        true = F.grid_sample(
            smooth(1), F.affine_grid(towards, [1, 3, SIDE, SIDE], align_corners=True), align_corners=True
        )
        return float((out - true)[..., inside, inside].abs().mean())

    there, back = error(matrix), error(matrix * torch.tensor([[1, -1, 1], [-1, 1, 1.0]]))
    assert min(there, back) < 0.01
    assert max(there, back) > 0.04


def test_zoom_enlarges_about_the_centre() -> None:
    line = np.arange(32, dtype=np.float32)
    plain, twice = resize_matrix(32, 32), resize_matrix(32, 32, zoom=2.0)
    np.testing.assert_array_equal(plain @ line, line)
    np.testing.assert_allclose(twice @ line, 15.5 + (line - 15.5) / 2, atol=1e-5)
    half = resize_matrix(32, 32, zoom=0.5) @ line
    np.testing.assert_allclose(half[10:22], (15.5 + (line - 15.5) * 2)[10:22], atol=1e-5)
    assert half[0] == half[5]  # beyond the edge it repeats


@pytest.mark.parametrize("fit", ["resize", "crop"])
def test_every_fifth_step_is_still(fit: str) -> None:
    view = make_view(64, 48, 48, fit=fit, jitter_px=3, steps=50, zoom=(0.9, 1.1), rotate_deg=5)
    still = make_view(64, 48, 48, fit=fit, jitter_px=0, steps=50)
    assert view.steady()[4::5].all()
    assert not view.steady()[[0, 1, 2, 3]].any()
    np.testing.assert_array_equal(view.rows[view.row_of_step[4]], still.rows[0])
    np.testing.assert_allclose(view.rows.sum(axis=2), 1, atol=1e-5)
    again = make_view(64, 48, 48, fit=fit, jitter_px=3, steps=50, zoom=(0.9, 1.1), rotate_deg=5)
    np.testing.assert_array_equal(view.row_of_step, again.row_of_step)
    assert len(view.rows) < 81  # what is never looked at is not stored


def feeds(graph: StepGraph, code: np.ndarray, units: list[int], steps: list[int]) -> dict[str, Any]:
    fed: dict[str, Any] = {"unit": np.asarray(units, np.int64)}
    for field in graph.manifest.state:
        fed[field.name] = np.full((len(units), *field.shape), field.initial or 0, field.dtype)
    return fed | {"code": code, "step": np.asarray(steps, np.int64)}


def test_activation_and_gradient_of_a_turned_and_zoomed_view(pair: Pair) -> None:
    graph = compile_step(pair.network, pair.generator, "head", batch=BATCH, ascent=MOVING)
    units, steps = [1, 4, 5], [0, 2, 4]
    code = np.random.default_rng(0).normal(size=(BATCH, SHAPE.code_dim)).astype(np.float32)
    session = onnxruntime.InferenceSession(graph.step, providers=["CPUExecutionProvider"])
    activation, gradient = session.run(["activation", "gradient"], feeds(graph, code, units, steps))
    view: View = make_view(SHAPE.image_px, 20, 20, fit="resize", jitter_px=2, steps=10, zoom=(0.8, 1.2), rotate_deg=20)
    assert view.rotation is not None
    x = torch.from_numpy(code).requires_grad_()
    image = pair.generator_module(x)
    seen = []
    for slot, step in enumerate(steps):
        turned = rotated(image[slot : slot + 1], float(view.rotation.angles[view.rotation.of_step[step]]))
        rows, columns = (
            torch.from_numpy(m) for m in (view.rows[view.row_of_step[step]], view.columns[view.column_of_step[step]])
        )
        seen.append(rows @ turned @ columns.T)
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3)))
    wanted = pair.module((torch.cat(seen) - mean) / std)[torch.arange(BATCH), units]
    (by_torch,) = torch.autograd.grad(wanted.sum(), x)
    np.testing.assert_allclose(activation, wanted.detach().numpy(), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(gradient, by_torch.abs().mean(dim=1).numpy(), rtol=1e-3)


def test_the_cone_changes_nothing(pair: Pair) -> None:
    code = np.random.default_rng(1).normal(size=(BATCH, SHAPE.code_dim)).astype(np.float32)
    results = []
    for cone in (True, False):
        graph = compile_step(pair.network, pair.generator, "stem.0", batch=BATCH, ascent=MOVING, cone=cone)
        session = onnxruntime.InferenceSession(graph.step, providers=["CPUExecutionProvider"])
        results.append(session.run(["activation", "code.next"], feeds(graph, code, [0, 3, 5], [0, 1, 3])))
    for with_cone, without in zip(*results, strict=True):
        np.testing.assert_allclose(with_cone, without, rtol=1e-4, atol=1e-5)
