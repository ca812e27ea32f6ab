"""What a build left, opened as table and arrays, packed, and put on sheets."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from export.errors import InputError, StoreError
from pipeline.atlas import BuiltAtlas, open_atlas
from pipeline.build import build
from pipeline.config import load_config
from pipeline.export_sheet import write_sheet
from pipeline.pack import write_pack
from pipeline.progress import LineReporter
from tests.pipeline.models import write_tiny


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    build(load_config(str(write_tiny(folder / "models"))), folder / "out", LineReporter([].append))
    return folder / "out"


@pytest.fixture(scope="module")
def atlas(out: Path) -> BuiltAtlas:
    return open_atlas(out)


def test_an_atlas_is_a_table_and_arrays(atlas: BuiltAtlas) -> None:
    assert atlas.layers == ("relu1", "fc")
    assert (atlas.units("fc"), atlas.seeds("fc")) == ((0, 1, 2, 3, 4), (0, 1))
    images, codes = atlas.images("fc", [3, 1], seed=1), atlas.codes("fc", [3, 1], seed=1)
    kept = {(r.unit, r.seed): r for r in atlas.records("fc")}
    assert len(kept) == 10
    for index, unit in enumerate((3, 1)):
        record = kept[unit, 1]
        with Image.open(io.BytesIO(record.image)) as image:
            assert np.array_equal(images[index], np.asarray(image.convert("RGB")))
        assert np.array_equal(codes[index], record.code)
    assert (images.dtype, codes.dtype) == (np.uint8, np.float32)


def test_the_best_seed_is_the_live_one_of_the_highest_activation(atlas: BuiltAtlas) -> None:
    rows = [row for row in atlas.table.to_pylist() if row["layer"] == "fc" and row["status"] == "done"]
    for unit, seed in atlas.best_seeds("fc").items():
        own = [row for row in rows if row["unit"] == unit]
        assert seed == max(own, key=lambda row: row["activation"])["seed"]
    unit, seed = next(iter(atlas.best_seeds("fc").items()))
    assert np.array_equal(atlas.codes("fc", [unit]), atlas.codes("fc", [unit], seed))


def test_a_dead_unit_has_no_best_picture(atlas: BuiltAtlas) -> None:
    dead = {r["unit"] for r in atlas.table.to_pylist() if r["layer"] == "relu1" and r["status"] == "dead"}
    assert dead
    assert not dead & atlas.best_seeds("relu1").keys()
    with pytest.raises(InputError, match="is dead: it has no best picture"):
        atlas.images("relu1", [min(dead)])


def test_what_is_not_in_the_atlas_is_told(atlas: BuiltAtlas, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no layer fcc; did you mean fc"):
        atlas.units("fcc")
    with pytest.raises(InputError, match=r"no unit 7 in this atlas; it has 0, 1, 2, 3, 4$"):
        atlas.codes("fc", [7])
    with pytest.raises(InputError, match=r"no seed 2 in this atlas; it has 0, 1$"):
        list(atlas.records("fc", seed=2))
    with pytest.raises(InputError, match="holds no built atlas"):
        open_atlas(tmp_path)


def test_a_store_that_lost_results_is_told(out: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="lacks unit 0 of fc; build again"):
        list(open_atlas(out, str(tmp_path / "empty")).records("fc"))


def test_no_units_make_empty_arrays(atlas: BuiltAtlas) -> None:
    assert len(atlas.images("fc", [])) == len(atlas.codes("fc", [])) == 0


def test_the_example_of_the_readme_runs(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8").split("## The atlas")[1]
    block = section.split("```python\n")[1].split("```")[0]
    for demo, tiny in (("build/lite0", str(out)), ("_fc", "fc"), ("[963, 207]", "[1, 3]")):
        assert demo in block
        block = block.replace(demo, tiny)
    scope: dict[str, object] = {}
    exec(compile(block, "README.md", "exec"), scope)
    assert isinstance(scope["atlas"], BuiltAtlas)


def test_a_pack_holds_every_live_picture_and_code_and_is_the_same_twice(atlas: BuiltAtlas, tmp_path: Path) -> None:
    live = [row for row in atlas.table.to_pylist() if row["status"] == "done"]
    assert write_pack(atlas, tmp_path / "a.tar") == len(live)
    write_pack(atlas, tmp_path / "sub" / "b.tar")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "sub" / "b.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as tar:
        held = {entry.name: tar.extractfile(entry).read() for entry in tar}  # type: ignore[union-attr]
    images = {name for name in held if name.startswith("images/")}
    assert images == {f"images/{row['layer']}/{row['unit']}-s{row['seed']}.png" for row in live}
    codes = np.load(io.BytesIO(held["codes/fc/s1.npz"]))
    assert np.array_equal(codes["codes"], atlas.codes("fc", codes["units"].tolist(), seed=1))
    assert pq.read_table(io.BytesIO(held["units.parquet"])).equals(atlas.table)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "sub"]


def test_sheets_as_png_and_pdf(out: Path, tmp_path: Path) -> None:
    pytest.importorskip("fpdf", reason="fpdf2 is not installed")
    write_sheet(out, "fc", (), tmp_path / "fc.png", columns=3, cell_px=32)
    with Image.open(tmp_path / "fc.png") as sheet:
        assert sheet.width == 3 * 36 + 4
    write_sheet(out, "fc", ("1", "3:5"), tmp_path / "fc.pdf")
    first = (tmp_path / "fc.pdf").read_bytes()
    assert first.startswith(b"%PDF-")
    assert first.count(b"/Subtype /Image") == 3
    write_sheet(out, "fc", ("1", "3:5"), tmp_path / "again.pdf")
    assert (tmp_path / "again.pdf").read_bytes() == first


@pytest.mark.parametrize(
    ("layer", "units", "name", "fault"),
    [
        ("fc", (), "fc.gif", "neither a .png nor a .pdf"),
        ("fd", (), "fc.png", "no layer fd"),
        ("fc", ("9",), "fc.png", "9"),
    ],
)
def test_impossible_sheets_are_refused(
    out: Path, tmp_path: Path, layer: str, units: tuple[str, ...], name: str, fault: str
) -> None:
    with pytest.raises(InputError, match=fault):
        write_sheet(out, layer, units, tmp_path / name)
    assert list(tmp_path.iterdir()) == []
