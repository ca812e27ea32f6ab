"""The step graph against the same step written in PyTorch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch.nn import functional as F

from export.errors import ModelError
from export.manifest import StepGraph, StepManifest
from export.step import compile_decode, compile_step
from export.update import Ascent
from export.view import resize_matrix
from tests.export.pairs import SHAPE, Pair, prior

PLAIN = Ascent(kind="normalized", steps=10, lr=0.5, lr_end=0.1)
BATCH = 3


def run(model: bytes, feeds: dict[str, Any]) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def feeds_for(graph: StepGraph, codes: np.ndarray, units: list[int], step: int = 0) -> dict[str, Any]:
    feeds: dict[str, Any] = {"unit": np.asarray(units, np.int64)}
    for field in graph.manifest.state:
        feeds[field.name] = np.full((len(units), *field.shape), field.initial or 0, field.dtype)
    return feeds | {"code": codes, "step": np.full(len(units), step, np.int64)}


def codes(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(BATCH, SHAPE.code_dim)).astype(np.float32)


def torch_activation(pair: Pair, code: torch.Tensor, units: list[int], layer: str, view: np.ndarray) -> torch.Tensor:
    image = pair.generator_module(code)
    matrix = torch.from_numpy(view).to(code)
    image = matrix @ image @ matrix.T
    mean, std = (torch.tensor(v).to(code).reshape(1, 3, 1, 1) for v in ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3)))
    kept: dict[str, torch.Tensor] = {}
    hook = pair.module.get_submodule(layer).register_forward_hook(lambda _m, _i, out: kept.update(out=out))
    pair.module((image - mean) / std)
    hook.remove()
    out = kept["out"]
    rows = torch.arange(len(units))
    return out[rows, units] if out.ndim == 2 else out[rows, units, out.shape[2] // 2, out.shape[3] // 2]


@pytest.mark.parametrize("layer", ["stem.0", "stem.1", "stem", "pool", "body.0", "body.1", "head"])
def test_activation_and_gradient_agree_with_autograd(pair: Pair, layer: str) -> None:
    graph = compile_step(pair.network, pair.generator, layer, batch=BATCH, ascent=PLAIN)
    units, code = [1, 4, 5], codes()
    out = run(graph.step, feeds_for(graph, code, units))
    assert out["gradient"].any()
    x = torch.from_numpy(code).requires_grad_(True)
    activation = torch_activation(pair, x, units, layer, resize_matrix(SHAPE.image_px, 20))
    (gradient,) = torch.autograd.grad(activation.sum(), x)
    np.testing.assert_allclose(out["activation"], activation.detach().numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(out["gradient"], gradient.abs().mean(dim=1).numpy(), rtol=1e-4)
    direction = (out["code.next"] - code) / PLAIN.lr
    expected = (gradient / gradient.abs().mean(dim=1, keepdim=True).clamp_min(1e-30)).numpy()
    error = np.linalg.norm(direction - expected) / np.linalg.norm(expected)
    assert error < 2e-5, error  # the subtraction of the code costs a digit


def test_a_negative_climbs_the_other_way(pair: Pair) -> None:
    plain, negative = (
        compile_step(pair.network, pair.generator, layer, batch=BATCH, ascent=PLAIN) for layer in ("head", "-head")
    )
    units, code = [1, 4, 5], codes()
    up, down = (run(graph.step, feeds_for(graph, code, units)) for graph in (plain, negative))
    np.testing.assert_array_equal(down["activation"], -up["activation"])
    np.testing.assert_allclose(down["code.next"] - code, code - up["code.next"], atol=1e-6)
    np.testing.assert_array_equal(down["best_activation.next"], -up["activation"])
    assert negative.manifest.target == "-head"
    assert negative.decode == plain.decode


def test_a_negative_behind_a_relu_lowers_what_is_before_it(pair: Pair) -> None:
    before, negative = (
        compile_step(pair.network, pair.generator, layer, batch=BATCH, ascent=PLAIN) for layer in ("stem.1", "-stem")
    )
    out = [run(graph.step, feeds_for(graph, codes(), [0, 3, 5])) for graph in (before, negative)]
    np.testing.assert_array_equal(out[1]["activation"], -out[0]["activation"])
    assert (out[0]["activation"] < 0).any(), "behind the ReLU these would be 0"


@pytest.mark.parametrize("pace", [None, np.linspace(0.5, 2, SHAPE.code_dim, dtype=np.float32)], ids=["even", "paced"])
def test_adam_box_decay_and_best_so_far_follow_numpy(pair: Pair, pace: np.ndarray | None) -> None:
    ascent = Ascent(kind="adam", steps=6, lr=0.4, lr_end=0.0, warmup=3, beta1=0.8, beta2=0.95)
    boxed = replace(pair.generator, prior=prior(SHAPE.code_dim, bound=0.7, decay=0.9), pace=pace)
    graph = compile_step(pair.network, boxed, "head", batch=BATCH, ascent=ascent)
    plain = compile_step(pair.network, pair.generator, "head", batch=BATCH, ascent=PLAIN)
    units, code = [2, 7, 7], codes(4)
    feeds = feeds_for(graph, code, units)
    m = v = np.zeros_like(code)
    best, best_code = np.full(BATCH, -np.inf, np.float32), np.zeros_like(code)
    for step in range(6):
        probe = run(plain.step, feeds_for(plain, code, units))
        direction = (probe["code.next"] - code) / PLAIN.lr
        m, v = 0.8 * m + 0.2 * direction, 0.95 * v + 0.05 * direction**2
        lr = 0.4 * (1 - step / 5) * min(1, (step + 1) / 3)
        lrs = lr * (1 if pace is None else pace)
        moved = code + lrs * (m / (1 - 0.8 ** (step + 1))) / (np.sqrt(v / (1 - 0.95 ** (step + 1))) + 1e-8)
        better = probe["activation"] > best
        best_code = np.where(better[:, None], code, best_code)
        best = np.where(better, probe["activation"], best)
        out = run(graph.step, feeds)
        np.testing.assert_allclose(out["code.next"], np.clip(moved, -0.7, 0.7) * (1 - 0.1 * lr / 0.4), atol=2e-3)
        np.testing.assert_allclose(out["best_activation.next"], best, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(out["best_code.next"], best_code, atol=1e-6)
        assert out["step.next"].tolist() == [step + 1] * BATCH
        feeds |= {name.removesuffix(".next"): value for name, value in out.items() if name.endswith(".next")}
        code, m, v = feeds["code"], feeds["moment1"], feeds["moment2"]


@pytest.mark.parametrize("layer", ["stem.0", "stem", "pool", "body.0", "body", "head"])
def test_the_cone_changes_no_value(pair: Pair, layer: str) -> None:
    ascent = replace(PLAIN, jitter_px=2)
    cone, full = (
        compile_step(pair.network, pair.generator, layer, batch=BATCH, ascent=ascent, cone=cone)
        for cone in (True, False)
    )
    assert cone.manifest.live_bytes < full.manifest.live_bytes or layer == "head"
    assert replace(cone.manifest, live_bytes=0, weight_bytes=0) == replace(full.manifest, live_bytes=0, weight_bytes=0)
    for step in (0, 4):
        feeds = feeds_for(cone, codes(), [0, 3, 5], step)
        ours, theirs = run(cone.step, feeds), run(full.step, feeds)
        for name, value in theirs.items():
            np.testing.assert_allclose(ours[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_jittered_steps_are_not_recorded(pair: Pair) -> None:
    graph = compile_step(pair.network, pair.generator, "head", batch=BATCH, ascent=replace(PLAIN, jitter_px=3))
    recorded = []
    for step in range(10):
        out = run(graph.step, feeds_for(graph, codes(), [0, 1, 2], step))
        recorded.append(bool(np.isfinite(out["best_activation.next"]).all()))
        assert np.isfinite(out["best_activation.next"]).any() == recorded[-1]
    assert recorded[4]
    assert recorded[9]
    assert sum(recorded) < 10


def test_slots_of_different_ages_follow_their_own_schedule(pair: Pair) -> None:
    graph = compile_step(pair.network, pair.generator, "head", batch=BATCH, ascent=PLAIN)
    one = np.repeat(codes()[:1], BATCH, axis=0)
    feeds = feeds_for(graph, one, [3, 3, 3]) | {"step": np.asarray([0, 5, 9], np.int64)}
    moved = np.abs(run(graph.step, feeds)["code.next"] - one).mean(axis=1)
    np.testing.assert_allclose(moved, PLAIN.learning_rates()[[0, 5, 9]], rtol=1e-4)


def test_the_published_ascent_pulls_alike_at_every_age_and_knows_no_pace(pair: Pair) -> None:
    decayed = replace(pair.generator, prior=prior(SHAPE.code_dim, decay=0.9))
    graph = compile_step(pair.network, decayed, "head", batch=BATCH, ascent=PLAIN)
    paced = compile_step(
        pair.network, replace(decayed, pace=np.full(SHAPE.code_dim, 3, np.float32)), "head", batch=BATCH, ascent=PLAIN
    )
    free = compile_step(pair.network, pair.generator, "head", batch=BATCH, ascent=PLAIN)
    feeds = feeds_for(graph, codes(), [3, 3, 3]) | {"step": np.asarray([0, 5, 9], np.int64)}
    pulled = run(graph.step, feeds)["code.next"]
    np.testing.assert_allclose(pulled, 0.9 * run(free.step, feeds)["code.next"], rtol=1e-5)
    np.testing.assert_array_equal(pulled, run(paced.step, feeds)["code.next"])


def test_pre_activation_moves_a_dead_unit(pair: Pair) -> None:
    assert pair.network.layer("stem").pre_activation is not None
    assert pair.network.layer("head").pre_activation is None
    graph = compile_step(pair.network, pair.generator, "stem", batch=BATCH, ascent=PLAIN, pre_activation=True)
    after = compile_step(pair.network, pair.generator, "stem", batch=BATCH, ascent=PLAIN)
    assert (graph.manifest.target, after.manifest.target) == ("stem.1", "stem")
    dead_somewhere = False
    for unit in range(8):
        silent = run(after.step, feeds_for(after, codes(), [unit] * BATCH))["gradient"] == 0
        live = run(graph.step, feeds_for(graph, codes(), [unit] * BATCH))["gradient"]
        assert (live > 0).all()
        dead_somewhere |= bool(silent.any())
    assert dead_somewhere  # else this test shows nothing


def test_receptive_field_holds_every_pixel_with_a_gradient(pair: Pair) -> None:
    graph = compile_step(pair.network, pair.generator, "body", batch=BATCH, ascent=PLAIN, pre_activation=True)
    box = graph.manifest.receptive_field
    image = torch.rand(4, 3, 16, 16, requires_grad=True)
    matrix = torch.from_numpy(resize_matrix(16, 20))
    kept: dict[str, torch.Tensor] = {}
    hook = pair.module.body[1].register_forward_hook(lambda _m, _i, out: kept.update(out=out))
    pair.module(matrix @ image @ matrix.T)
    hook.remove()
    out = kept["out"]
    (seen,) = torch.autograd.grad(out[:, :, out.shape[2] // 2, out.shape[3] // 2].sum(), image)
    rows, columns = (seen.abs().sum(dim=(0, 1)) > 0).nonzero(as_tuple=True)
    assert (box.top, box.left) <= (int(rows.min()), int(columns.min()))
    assert (box.bottom, box.right) >= (int(rows.max()) + 1, int(columns.max()) + 1)
    assert (
        box.bottom - box.top - (int(rows.max()) + 1 - int(rows.min())) <= 2
    )  # tight, but for maxima that missed the rim


def test_decode_is_the_generator(pair: Pair) -> None:
    image = run(compile_decode(pair.generator, BATCH), {"code": codes()})["image"]
    with torch.no_grad():
        expected = pair.generator_module(torch.from_numpy(codes())).numpy()
    np.testing.assert_allclose(image, expected, atol=1e-5)


def test_bgr_and_offsets(pair: Pair, tmp_path: Any) -> None:
    """A network in BGR 0..255 minus a mean sees the same picture as its RGB twin."""
    from tests.export.pairs import make_pair

    mean255 = [104.0, 117.0, 123.0]
    card = {"input": {"height": 20, "width": 20, "channels": "BGR", "mean": [m / 255 for m in mean255], "std": 1 / 255}}
    odd = make_pair(tmp_path, network_card=card)
    graph = compile_step(odd.network, odd.generator, "head", batch=BATCH, ascent=PLAIN)
    out = run(graph.step, feeds_for(graph, codes(), [0, 1, 2]))
    with torch.no_grad():
        image = odd.generator_module(torch.from_numpy(codes()))
        image = F.interpolate(image, size=(20, 20), mode="bilinear", align_corners=False)
        logits = odd.module(image.flip(1) * 255 - torch.tensor(mean255).reshape(1, 3, 1, 1))
    np.testing.assert_allclose(out["activation"], logits.numpy()[[0, 1, 2], [0, 1, 2]], rtol=1e-3, atol=1e-2)


def test_manifest_survives_json(pair: Pair) -> None:
    manifest = compile_step(pair.network, pair.generator, "stem", batch=2, ascent=PLAIN).manifest
    assert StepManifest.from_json(manifest.to_json()) == manifest


def test_compilation_is_deterministic(pair: Pair) -> None:
    first, second = (compile_step(pair.network, pair.generator, "head", batch=2, ascent=PLAIN) for _ in range(2))
    assert first == second


def test_unknown_layer_suggests_near_names(pair: Pair) -> None:
    with pytest.raises(ModelError, match=r"no layer 'stem\.9'; did you mean stem"):
        compile_step(pair.network, pair.generator, "stem.9", batch=2, ascent=PLAIN)


def test_a_crop_larger_than_the_image_is_refused(pair: Pair) -> None:
    with pytest.raises(ModelError, match=r"image \(16 px\) does not fit the network"):
        compile_step(pair.network, pair.generator, "head", batch=2, ascent=replace(PLAIN, fit="crop"))


def test_a_card_that_contradicts_the_graph_is_refused(tmp_path: Any) -> None:
    from tests.export.pairs import make_pair

    odd = make_pair(tmp_path, network_card={"input": {"height": 32, "width": 32}})
    with pytest.raises(ModelError, match="does not fit"):
        compile_step(odd.network, odd.generator, "head", batch=2, ascent=PLAIN)
