"""Synthesis with control, on the network that answers by colour: every result has a colour that is known."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.errors import InputError
from export.network import load_network
from pipeline import cli
from pipeline.control import Control, Mixture, between, run_control
from pipeline.synthesize import parse_mixture
from tests.pipeline.models import write_tiny
from tests.pipeline.studies.study_cases import COLOURS, IMAGE_PX, write_generator, write_network

RED, YELLOW = 0, 3


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_network(folder / "network.onnx")
    write_generator(folder / "generator.onnx")
    return folder


def control(models: Path, mixtures: tuple[Mixture, ...], layer: str = "fc", **settings) -> Control:  # type: ignore[no-untyped-def]
    generator = str(models / "generator.onnx")
    return Control(str(models / "network.onnx"), layer, mixtures, generator, steps=40, **settings)


def mix(**weights: float) -> Mixture:
    return Mixture(tuple((list(COLOURS).index(name), weight) for name, weight in weights.items()))


def colour(image: np.ndarray) -> list[int]:
    return np.rint(image.reshape(-1, 3).mean(axis=0) / 255).astype(int).tolist()


def test_two_units_make_the_colour_between_them(models: Path) -> None:
    """Yellow (R+ G+ B-) and pink (R+ G- B+) agree on red alone; with the green unit avoided, its opposite is added."""
    made = run_control(control(models, (mix(yellow=1.0, pink=1.0, green=-0.5), mix(yellow=1.0), mix(pink=1.0))))
    assert [colour(one.image) for one in made] == [[1, 0, 1], [1, 1, 0], [1, 0, 1]]
    assert made[0].objective > made[0].start_objective


def test_of_several_attempts_the_best_is_made(models: Path) -> None:
    """One picture per mixture and seed, never lower after the trial than from the first start."""
    mixtures = (mix(yellow=1.0, pink=1.0), mix(red=-1.0))
    several = run_control(control(models, mixtures, seeds=2, attempts=4))
    assert [(one.mixture, one.seed) for one in several] == [(m, seed) for m in mixtures for seed in range(2)]
    alone = run_control(control(models, mixtures, seeds=2))
    assert all(many.objective > one.objective - 0.1 for many, one in zip(several, alone, strict=True))
    assert any((many.code != one.code).any() for many, one in zip(several, alone, strict=True))
    with pytest.raises(InputError, match="at least one seed and attempt"):
        run_control(control(models, mixtures, attempts=0))


def test_a_negative_unit_is_avoided(models: Path) -> None:
    """Less red is cyan."""
    (made,) = run_control(control(models, (mix(red=-1.0),)))
    assert colour(made.image) == [0, 1, 1]


def test_between_two_units_the_ends_are_the_units(models: Path) -> None:
    made = run_control(control(models, between(RED, YELLOW, 4), same_start=True))
    assert colour(made[0].image) == [1, 0, 0]
    assert colour(made[-1].image) == [1, 1, 0]
    assert [one.mixture.weights for one in made][1] == ((RED, pytest.approx(2 / 3)), (YELLOW, pytest.approx(1 / 3)))
    assert [colour(one.image)[1] for one in made] == [0, 0, 1, 1], "green turns where the weights cross"


def test_every_seed_starts_elsewhere_and_is_the_same_again(models: Path) -> None:
    made = run_control(control(models, (mix(red=1.0),), seeds=3))
    assert [one.seed for one in made] == [0, 1, 2]
    assert len({one.start_objective for one in made}) == 3
    again = run_control(control(models, (mix(red=1.0),), seeds=3))
    for one, other in zip(made, again, strict=True):
        np.testing.assert_array_equal(one.code, other.code)


def test_a_start_picture_is_where_the_ascent_begins(models: Path, tmp_path: Path) -> None:
    """From a cyan picture the red unit starts low, lower than from the mean, and the colour is found by inversion."""
    Image.new("RGB", (IMAGE_PX, IMAGE_PX), (20, 230, 230)).save(tmp_path / "cyan.png")
    (made,) = run_control(control(models, (mix(red=1.0),), start=tmp_path / "cyan.png"))
    (usual,) = run_control(control(models, (mix(red=1.0),)))
    pixel = (np.asarray([20, 230, 230]) / 255 - 0.5) / 0.5
    direction = (np.asarray(COLOURS["red"]) - 0.5) / np.linalg.norm(np.asarray(COLOURS["red"]) - 0.5)
    from tests.pipeline.studies.study_cases import directions

    assert np.allclose(directions()[RED], direction)
    assert made.start_objective < usual.start_objective
    assert made.objective > made.start_objective
    assert made.start_objective == pytest.approx(float(direction @ pixel), abs=0.5)


def test_a_position_and_a_mask_choose_where(models: Path, tmp_path: Path) -> None:
    """The generator paints everywhere alike, so that the unit has the same colour at every place."""
    ramp = np.zeros((8, 8), np.uint8)
    ramp[:4] = 255
    Image.fromarray(ramp).save(tmp_path / "top.png")
    for settings in ({"position": (0, 3)}, {"mask": tmp_path / "top.png"}, {}):
        (made,) = run_control(control(models, (mix(green=1.0),), layer="map", **settings))
        assert colour(made.image) == [0, 1, 0], settings


def test_a_unit_that_is_dead_is_climbed_before_its_activation(tmp_path: Path) -> None:
    """Unit 3 of ``relu1`` is dead for every picture and revived before the ReLU; one that is alive stays behind it."""
    write_tiny(tmp_path)
    network, generator = str(tmp_path / "network.onnx"), str(tmp_path / "generator.onnx")
    every = run_control(Control(network, "relu1", tuple(Mixture(((u, 1.0),)) for u in range(5)), generator, steps=10))
    alive = next(one.mixture.weights[0][0] for one in every if one.target == "relu1")
    made = run_control(
        Control(
            str(tmp_path / "network.onnx"),
            "relu1",
            (Mixture(((3, 1.0),)), Mixture(((alive, 1.0),))),
            str(tmp_path / "generator.onnx"),
            steps=10,
        )
    )
    assert [(one.status, one.target) for one in made] == [("done", "conv1"), ("done", "relu1")]


def test_the_command_writes_a_sheet_an_animation_and_numbers(models: Path, tmp_path: Path, capsys) -> None:
    files = [tmp_path / name for name in ("sheet.png", "film.webp", "numbers.json")]
    arguments = ["synthesize", models / "network.onnx", "fc", "--generator", models / "generator.onnx", "--steps", "10"]
    arguments += ["--between", "red", "green", "--frames", "4", *(part for file in files for part in ("-o", file))]
    code = cli.run([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    assert out.splitlines()[-3:] == [str(file) for file in files]
    assert out.splitlines()[1].startswith("+0.667x0 +0.333x1, seed 0: ")
    with Image.open(files[0]) as sheet:
        assert sheet.size == (4 * 132 + 4, 159)
    with Image.open(files[1]) as film:
        assert film.is_animated
        assert film.n_frames >= 3, "equal pictures that follow one another are one frame"
    numbers = json.loads(files[2].read_text())
    assert [len(one["units"]) for one in numbers] == [1, 2, 2, 1]
    assert len(numbers[0]["code"]) == 3


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("0=1; 3=-0.5", ((0, 1.0), (3, -0.5))),
        ("red; green=2", ((0, 1.0), (1, 2.0))),
        ("0:3=0.5", ((0, 0.5), (1, 0.5), (2, 0.5))),
    ],
)
def test_mixtures_are_read(models: Path, text: str, wanted) -> None:
    network = load_network(models / "network.onnx")
    assert parse_mixture(text, network.layer("fc"), network.labels).weights == wanted


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mix", "0=x"], "'x' is no weight"),
        (["--mix", "0=0"], "finite and not 0"),
        (["--mix", "99=1"], "no unit 99"),
        (["--mix", "mauve=1"], "no class 'mauve'"),
        (["--between", "red", "red"], "two different units"),
        (["0", "--position", "0", "0"], "a vector layer has no positions"),
        (["0", "--mask", "nosuch.png"], "is a vector"),
        (["0", "--start", "nosuch.png"], "start picture nosuch.png cannot be read"),
        ([], "Missing argument 'UNITS...'"),
    ],
)
def test_what_cannot_be_done_is_refused(models: Path, tmp_path: Path, options, message: str, capsys) -> None:
    arguments = ["synthesize", models / "network.onnx", "fc", *options, "--generator", models / "generator.onnx"]
    code = cli.run([str(argument) for argument in [*arguments, "-o", tmp_path / "x.png"]])
    assert code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()


def test_another_suffix_is_refused_before_any_work(models: Path, tmp_path: Path, capsys) -> None:
    code = cli.run(["synthesize", str(models / "network.onnx"), "fc", "0", "-o", str(tmp_path / "x.gif")])
    assert code == 2
    assert "give a .png (sheet), .webp (animation) or .json (numbers)" in capsys.readouterr().err


def test_neither_ends_nor_frames_of_an_animation_are_lost() -> None:
    from pipeline.synthesize import animation

    images = [np.full((16, 16, 3), level, np.uint8) for level in (0, 128, 255)]
    with Image.open(io.BytesIO(animation(images))) as film:
        levels = []
        for frame in range(film.n_frames):
            film.seek(frame)
            levels.append(int(np.asarray(film.convert("RGB")).mean()))
    assert levels == pytest.approx([0, 128, 255, 128], abs=3)
