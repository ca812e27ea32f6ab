"""Data sets: every form holds the same pictures, odd files are read or named."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.errors import InputError
from pipeline.dataset.images import batches, fitted, open_images
from tests.pipeline.dataset.pictures import write_pictures


def test_a_folder_a_tar_and_a_list_hold_the_same(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "set", 7)
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        tar.add(folder, ".")
    listed = [p.relative_to(tmp_path) for p in folder.rglob("*.png")]
    (tmp_path / "list.txt").write_text("\n".join(map(str, listed)) + "\n")
    sets = [open_images(path) for path in (folder, tmp_path / "set.tar", tmp_path / "list.txt")]
    assert [len(s) for s in sets] == [7, 7, 7]
    assert (
        [e.label for e in sets[0].entries] == [e.label for e in sets[1].entries] == [e.label for e in sets[2].entries]
    )
    assert {e.label for e in sets[0].entries} == {"ant", "bee"}
    for other in sets[1:]:
        np.testing.assert_array_equal(other.pictures(range(7), 16, 16), sets[0].pictures(range(7), 16, 16))


def test_the_digest_changes_with_the_pictures(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path, 4)
    before = open_images(folder).digest
    assert open_images(folder).digest == before
    next(folder.rglob("*.png")).unlink()
    assert open_images(folder).digest != before


def test_a_picture_is_the_centre_of_the_file(tmp_path: Path) -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200  # the centre square
    Image.fromarray(wide).save(tmp_path / "wide.png")
    np.testing.assert_array_equal(open_images(tmp_path).picture(0, 10, 10), np.full((10, 10, 3), 200, np.uint8))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "I;16"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    source = Image.new("RGB", (8, 8), (255, 255, 255))
    suffix = "tif" if mode in ("CMYK", "I;16") else "png"
    image = Image.new("I;16", (8, 8), 65535) if mode == "I;16" else source.convert(mode)
    image.save(tmp_path / f"x.{suffix}")
    found = open_images(tmp_path).picture(0, 8, 8)
    assert found.shape == (8, 8, 3)
    assert (found == 255).all()


def test_a_large_jpeg_is_reduced_as_a_careful_resize_would(tmp_path: Path) -> None:
    y, x = np.mgrid[0:600, 0:800]
    smooth = np.stack([x * 255 / 800, y * 255 / 600, (x + y) * 255 / 1400], axis=-1).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "large.jpg", quality=95)
    found = fitted((tmp_path / "large.jpg").read_bytes(), 64, 64).astype(int)
    wanted = Image.fromarray(smooth).crop((100, 0, 700, 600)).resize((64, 64), Image.Resampling.BOX)
    assert np.abs(found - np.asarray(wanted, int)).mean() < 2.5


def test_the_order_is_a_fixed_permutation(tmp_path: Path) -> None:
    images = open_images(write_pictures(tmp_path, 9))
    assert sorted(images.order(0)) == list(range(9))
    assert images.order(0).tolist() == [0, 2, 1, 8, 5, 4, 3, 6, 7], "results of former passes depend on it"
    assert images.order(0).tolist() != images.order(1).tolist()


def test_broken_files_are_named_and_left_out(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path, 5)
    (folder / "bee" / "0003.png").write_bytes(b"not a picture")
    images = open_images(folder)
    found = list(batches(images, np.arange(5), 2, 16, 16, threads=2))
    bad = [e.path for e in images.entries].index("bee/0003.png")
    assert [i for b in found for i in b.index.tolist()] == [-1 if i == bad else i for i in range(5)] + [-1]
    assert [line.split(":")[0] for b in found for line in b.broken] == ["bee/0003.png"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "nothing", "there is no such data set"),
        (lambda p: p, "no picture is in it"),
    ],
)
def test_what_is_no_data_set_is_refused(tmp_path: Path, make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_images(make(tmp_path))


def test_a_list_that_names_a_missing_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("gone.png\n")
    with pytest.raises(InputError, match=r"gone\.png"):
        open_images(tmp_path / "list.txt")
