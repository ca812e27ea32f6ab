"""The dataset pass against plain NumPy over every feature map; interrupted, resumed, and run again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from export.dataset_graph import NOTHING, Target
from export.errors import InputError
from export.network import Network, load_network
from pipeline.dataset import passes
from pipeline.dataset.images import ImageSet, open_images
from pipeline.dataset.passes import FACTS, PROGRESS, RESULT, PassSettings, read_statistics, run_pass
from pipeline.dataset.result import DatasetResult
from tests.pipeline.dataset.pictures import write_pictures
from tests.pipeline.models import DEAD, IMAGE_PX, write_network

SETTINGS = PassSettings(top=4, bins=32, sample=10, batch=4, threads=1)
LAYERS = ("relu1", "conv2", "fc")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    path = tmp_path_factory.mktemp("network") / "network.onnx"
    write_network(path)
    return load_network(path)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return open_images(write_pictures(tmp_path_factory.mktemp("pictures"), 39))


def targets(network: Network) -> list[Target]:
    return [Target(n, n, network.layer(n).tensor, network.layer(n).shape) for n in LAYERS]


@pytest.fixture(scope="module")
def maps(network: Network, images: ImageSet) -> dict[str, np.ndarray]:
    """Every feature map of every picture, by a session of its own."""
    import onnx

    model = onnx.load(network.path)
    for name in LAYERS[:2]:
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    pixels = images.pictures(range(len(images)), IMAGE_PX, IMAGE_PX)
    prepared = ((pixels / 255.0 - 0.5) / 0.25).transpose(0, 3, 1, 2).astype(np.float32)
    outputs = dict(zip([o.name for o in session.get_outputs()], session.run(None, {"image": prepared}), strict=True))
    return {name: outputs[name].reshape(len(images), outputs[name].shape[1], -1) for name in LAYERS}


@pytest.fixture(scope="module")
def result(network: Network, images: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> DatasetResult:
    out = tmp_path_factory.mktemp("pass")
    run_pass(network, images, targets(network), SETTINGS, out)
    return DatasetResult(out, network, images)


@pytest.mark.parametrize("layer", LAYERS)
def test_the_top_pictures_are_those_of_a_full_sort(layer: str, result: DatasetResult, maps) -> None:
    maxima = maps[layer].max(axis=2)
    for unit in range(maxima.shape[1]):
        top = result.top(layer, layer, unit)
        np.testing.assert_allclose(
            [e.activation for e in top], np.sort(maxima[:, unit])[::-1][:4], rtol=1e-4, atol=1e-5
        )
        for e in top:
            assert maxima[e.image, unit] == pytest.approx(e.activation, rel=1e-4, abs=1e-5)
            assert maps[layer][e.image, unit, e.place] == pytest.approx(e.activation, rel=1e-4, abs=1e-5)
            assert e.path == result.images.entries[e.image].path


@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize("layer", LAYERS)
def test_distributions_are_those_of_all_values(layer: str, centre: bool, result: DatasetResult, maps) -> None:
    if centre:
        side = round(maps[layer].shape[2] ** 0.5)
        values = maps[layer][:, :, side // 2 * side + side // 2]
    else:
        values = maps[layer].max(axis=2)
    counted = result.statistics
    for unit in range(values.shape[1]):
        column, own = result.column(layer, layer, unit, centre=centre), values[:, unit]
        assert counted.counts[column].sum() == len(own)
        assert counted.low[column] == pytest.approx(own.min(), rel=1e-4, abs=1e-5)
        assert counted.high[column] == pytest.approx(own.max(), rel=1e-4, abs=1e-5)
        assert counted.mean()[column] == pytest.approx(own.mean(), rel=1e-4, abs=1e-5)
        assert counted.std()[column] == pytest.approx(own.std(), rel=1e-3, abs=1e-4)
        for share in (0.1, 0.5, 0.9):
            exact = np.quantile(own, share, method="inverted_cdf")
            assert abs(counted.quantile(column, share) - exact) <= counted.width(column) * 1.01
            below = 100 * np.mean(own < exact)
            within = 100 * np.mean(np.abs(own - exact) <= counted.width(column) * 1.01)
            assert abs(counted.percentile_of(column, float(exact)) - below) <= within + 1e-6
        assert counted.percentile_of(column, float(own.max()) + 1.0) == 100
        assert counted.percentile_of(column, float(own.min()) - 1.0) == 0


def test_the_sample_is_the_start_of_the_order(result: DatasetResult, images: ImageSet, maps) -> None:
    """The sample ends with the batch that fills it: 10 wanted, batches of 4, so 12."""
    counted = result.statistics
    np.testing.assert_array_equal(counted.sample_image, images.order(passes.ORDER_SEED)[:12])
    np.testing.assert_allclose(
        result.sample("conv2", "conv2"), maps["conv2"].max(axis=2)[counted.sample_image], rtol=1e-3, atol=1e-4
    )


def test_a_dead_unit_is_silent(result: DatasetResult) -> None:
    column = result.column("relu1", "relu1", DEAD)
    assert result.statistics.low[column] == result.statistics.high[column] == 0


def test_boxes_hold_exactly_what_changes_the_unit(result: DatasetResult, network: Network, maps) -> None:
    """Painting over the picture outside the box changes nothing; painting the box does."""
    exemplar = result.top("conv2", "conv2", 0)[0]
    box = exemplar.box
    pixels = result.images.pictures([exemplar.image], IMAGE_PX, IMAGE_PX)
    outside, inside = np.full_like(pixels, 128), pixels.copy()
    part = (slice(None), slice(box.top, box.bottom), slice(box.left, box.right))
    outside[part], inside[part] = pixels[part], 128
    from export.forward import Readout, compile_forward
    from pipeline.forward import Forward

    forward = Forward(compile_forward(network, [Readout("a", "conv2", "at")], batch=1), 1)
    place, unit = np.asarray([exemplar.place]), np.asarray([0])
    values = [float(forward(image=p, unit=unit, place=place)["a"][0]) for p in (pixels, outside, inside)]
    assert values[0] == pytest.approx(exemplar.activation, rel=1e-4)
    assert values[1] == pytest.approx(values[0], rel=1e-5)
    assert abs(values[2] - values[0]) > 1e-3
    np.testing.assert_array_equal(result.crop(exemplar), pixels[0][part[1:]])


class Killed(Exception):
    pass


@pytest.mark.parametrize("after", [4, 12, 20])
def test_an_interrupted_pass_goes_on_where_it_was_and_ends_the_same(
    network: Network, images: ImageSet, tmp_path: Path, after: int
) -> None:
    settings = replace(SETTINGS, checkpoint_s=0.0)

    def kill(progress: passes.Progress) -> None:
        if progress.done > after:
            raise Killed

    with pytest.raises(Killed):
        run_pass(network, images, targets(network), settings, tmp_path / "cut", kill)
    assert (tmp_path / "cut" / PROGRESS).is_file()
    done: list[int] = []
    run_pass(network, images, targets(network), settings, tmp_path / "cut", lambda p: done.append(p.done))
    assert done[0] == after + 4, "what was done before is not done again"
    assert not (tmp_path / "cut" / PROGRESS).exists()
    run_pass(network, images, targets(network), settings, tmp_path / "whole")
    for name in (RESULT, FACTS):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_finished_pass_is_left_alone_and_another_data_set_replaces_it(
    network: Network, images: ImageSet, tmp_path: Path
) -> None:
    run_pass(network, images, targets(network), SETTINGS, tmp_path)
    steps: list[int] = []
    run_pass(network, images, targets(network), SETTINGS, tmp_path, lambda p: steps.append(p.done))
    assert not steps
    other = open_images(write_pictures(tmp_path / "other", 6, seed=9))
    with pytest.raises(InputError, match="other pictures"):
        DatasetResult(tmp_path, network, other)
    run_pass(network, other, targets(network), SETTINGS, tmp_path, lambda p: steps.append(p.done))
    assert steps[-1] == 6


def test_fewer_pictures_than_anything_wants(network: Network, tmp_path: Path) -> None:
    few = open_images(write_pictures(tmp_path / "few", 3))
    run_pass(network, few, targets(network), SETTINGS, tmp_path / "out")
    counted, _ = read_statistics(tmp_path / "out" / RESULT)
    assert counted.num_seen == 3
    assert (counted.top_image[3] == NOTHING).all()
    assert (counted.counts.sum(axis=1) == 3).all()
    assert len(DatasetResult(tmp_path / "out", network, few).top("fc", "fc", 0)) == 3


def test_unreadable_pictures_are_counted_out(network: Network, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "set", 6)
    (folder / "ant" / "0000.png").write_bytes(b"broken")
    facts = run_pass(network, open_images(folder), targets(network), SETTINGS, tmp_path / "out")
    assert facts["seen"] == 5
    assert facts["broken"][0].startswith("ant/0000.png")
    for path in folder.rglob("*.png"):
        path.write_bytes(b"broken")
    with pytest.raises(InputError, match="none of 6 pictures can be read"):
        run_pass(network, open_images(folder), targets(network), SETTINGS, tmp_path / "none")
