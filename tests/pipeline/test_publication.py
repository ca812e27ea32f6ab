"""Publishing: versions that switch at once, on disk and on S3; kept, forgotten, and what they need is protected."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from export.errors import StoreError, StoreUnavailableError
from pipeline import publication, registry, remote, retention, versions
from pipeline.blobs import open_blobs
from pipeline.build import BuildReport, build
from pipeline.config import Overrides, load_config
from pipeline.progress import SilentReporter
from pipeline.store import Store

OLD_S = 40 * 24 * 3600.0


def build_here(config: Path, out: Path, **overrides: object) -> BuildReport:
    settings = Overrides(**overrides).apply(load_config(str(config)))  # type: ignore[arg-type]
    return build(settings, out, SilentReporter())


def change(config: Path, old: str, new: str) -> None:
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))


def add(config: Path, section: str) -> None:
    change(config, "[run]\n", f"{section}\n\n[run]\n")


FC = {"layers": ("fc",), "units": "0:2", "seeds": 1}


def test_a_version_is_switched_to_and_the_last_is_kept(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_here(tiny, out, **FC)
    first = os.readlink(out / "current")
    page = (out / "site" / "index.html").read_text()
    change(tiny, "A tiny network", "Another title")
    build_here(tiny, out, **FC)
    second = os.readlink(out / "current")
    assert first != second
    assert (out / first / "site" / "index.html").read_text() == page
    assert "Another title" in (out / "site" / "index.html").read_text()
    assert [version.number for version, _ in versions.kept(out)] == [1, 2]
    assert json.loads((out / "current" / "report.json").read_text())["outcome"] == "published"


def test_a_publication_that_fails_leaves_the_last_version_shown(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    build_here(tiny, out, **FC)
    before = os.readlink(out / "current")
    change(tiny, "A tiny network", "Another title")

    def fail(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(publication, "write_site", fail)
        with pytest.raises(StoreUnavailableError, match="still shown: free some space"):
            build_here(tiny, out, **FC)
    assert os.readlink(out / "current") == before
    assert "A tiny network" in (out / "site" / "index.html").read_text()
    assert [path.name for path in (out / "versions").iterdir()] == [Path(before).name]
    assert json.loads((out / "report.json").read_text())["outcome"] == "failed"
    assert build_here(tiny, out, **FC).published


def test_versions_beyond_those_kept_are_removed_and_no_longer_protected(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    add(tiny, "[publish]\nkeep = 2")
    for title in ("A tiny network", "one", "two", "three"):
        change(
            tiny,
            title if title == "A tiny network" else 'title = "',
            title if title == "A tiny network" else f'title = "{title} ',
        )
        build_here(tiny, out, **FC)
    assert [version.number for version, _ in versions.kept(out)] == [3, 4]
    assert [version.number for version in registry.versions(Store(str(out / "store")), "tiny")] == [3, 4]
    assert (out / "site" / "index.html").is_file()


def test_what_no_kept_version_shows_is_pruned_once_it_is_old(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    store = Store(str(out / "store"))
    add(tiny, "[publish]\nkeep = 1")
    build_here(tiny, out, **FC)
    (first,) = registry.current_version(store, "tiny").keys  # type: ignore[union-attr]
    change(tiny, "lr = 0.3", "lr = 0.2")
    build_here(tiny, out, **FC)
    (second,) = registry.current_version(store, "tiny").keys  # type: ignore[union-attr]
    assert first != second
    assert retention.prune(store, 30).recipes == ()
    for path in (out / "store").rglob("*"):
        if path.is_file():
            os.utime(path, (path.stat().st_mtime - OLD_S,) * 2)
    assert retention.prune(store, 0).recipes == ()
    assert retention.prune(store, 30, dry_run=True).recipes == (first,)
    assert len(store.shards(first)) == 1
    assert retention.prune(store, 30).recipes == (first,)
    assert store.shards(first) == ()
    assert len(store.shards(second)) == 1
    assert build_here(tiny, out, **FC).num_made == 0


def test_a_shard_that_is_being_made_is_not_pruned(tiny: Path, tmp_path: Path) -> None:
    """One young file in a recipe's folder keeps all of it."""
    out = tmp_path / "out"
    store = Store(str(out / "store"))
    build_here(tiny, out, **FC)
    store.blobs.write("f" * 20 + "/000000-000001-abcdefab.parquet", b"old")
    path = out / "store" / ("f" * 20) / "000000-000001-abcdefab.parquet"
    os.utime(path, (path.stat().st_mtime - OLD_S,) * 2)
    store.blobs.write("f" * 20 + "/000000-000001-abcdefab.claim", b"young")
    assert retention.prune(store, 30).recipes == ()


def test_a_site_on_s3_is_switched_by_its_pointer_and_last_nights_pages_stay(
    tiny: Path, tmp_path: Path, bucket: str
) -> None:
    out, url = tmp_path / "out", f"{bucket}/site"
    add(tiny, f'[publish]\nurl = "{url}"\nkeep = 2')
    build_here(tiny, out, **FC)
    site = open_blobs(url)
    first = remote.shown(site)
    page = site.read(f"{first['version']}/index.html")
    assert page == (out / "site" / "index.html").read_bytes()
    assert first["version"] in (site.read("index.html") or b"").decode()
    local = {path.relative_to(out / "site").as_posix() for path in (out / "site").rglob("*") if path.is_file()}
    assert len(local) > 5
    assert all(site.read(f"{first['version']}/{name}") is not None for name in local)

    for title in ("one", "two"):
        change(tiny, 'title = "', f'title = "{title} ')
        build_here(tiny, out, **FC)
    second = remote.shown(site)
    assert second["number"] == 3
    assert site.read(f"{first['version']}/index.html") is None
    assert b"two one" in (site.read(f"{second['version']}/index.html") or b"")
    assert not build_here(tiny, out, **FC).published


def test_a_copy_that_fails_half_way_does_not_switch(
    tiny: Path, tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, url = tmp_path / "out", f"{bucket}/site"
    add(tiny, f'[publish]\nurl = "{url}"')
    build_here(tiny, out, **FC)
    site = open_blobs(url)
    before = remote.shown(site)
    change(tiny, "A tiny network", "Another title")
    with monkeypatch.context() as patch:
        patch.setattr(remote, "_reader", lambda path, change: lambda: (_ for _ in ()).throw(StoreError("half way")))
        with pytest.raises(StoreError, match="half way"):
            build_here(tiny, out, **FC)
    assert remote.shown(site) == before
    assert b"A tiny network" in (site.read(f"{before['version']}/index.html") or b"")
    assert build_here(tiny, out, **FC).published
    assert remote.shown(site)["number"] == 2


def test_what_another_machine_has_published_is_the_same_version_here(tiny: Path, tmp_path: Path) -> None:
    add(tiny, f'[store]\nurl = "{tmp_path / "store"}"')
    for name in ("one", "two"):
        build_here(tiny, tmp_path / name, **FC)
    assert os.readlink(tmp_path / "one" / "current") == os.readlink(tmp_path / "two" / "current")
    assert len(registry.versions(Store(str(tmp_path / "store")), "tiny")) == 1
    assert not (tmp_path / "two" / "current" / "changes.json").exists()


def test_pages_on_s3_have_types_that_a_browser_shows(tiny: Path, tmp_path: Path, bucket: str, s3) -> None:
    import boto3

    add(tiny, f'[publish]\nurl = "{bucket}/site"')
    build_here(tiny, tmp_path / "out", **FC)
    client = boto3.client("s3", endpoint_url=s3.endpoint)
    kind = client.head_object(Bucket=bucket.removeprefix("s3://"), Key="site/index.html")["ContentType"]
    client.close()
    assert kind == "text/html"


@pytest.mark.parametrize("damage", ["cut", "flip", "foreign", "gone"])
def test_damage_between_plan_and_publication_is_made_again_and_never_published(
    tiny: Path, tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    """On an object store planning does not read the files; whoever publishes does."""
    whole = tmp_path / "whole"
    build_here(tiny, whole, **FC)
    out = tmp_path / "out"
    original = publication.collect
    spoiled: list[Path] = []

    def spoil(workspace, plan):
        if not spoiled:
            (path,) = (out / "store").rglob("0*.parquet")
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            foreign = next(whole.rglob("units.parquet")).read_bytes()
            if damage == "gone":
                path.unlink()
            else:
                path.write_bytes({"cut": bytes(data[:-7]), "flip": bytes(data), "foreign": foreign}[damage])
            spoiled.append(path)
        return original(workspace, plan)

    monkeypatch.setattr(publication, "collect", spoil)
    report = build_here(tiny, out, **FC)
    assert report.num_made == 4
    assert "has changed" in caplog.text
    assert (out / "units.parquet").read_bytes() == (whole / "units.parquet").read_bytes()
    assert json.loads((out / "report.json").read_text())["shards"] == {"made": 2, "found": 0, "damaged": 1}
    for name in ("layer/fc/img/0-s0.webp", "layer/fc/0.json"):
        assert (out / "site" / name).read_bytes() == (whole / "site" / name).read_bytes()


def test_a_folder_that_holds_something_else_is_left_alone(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "site").mkdir(parents=True)
    (out / "site" / "thesis.tex").write_text("mine")
    with pytest.raises(StoreError, match="holds something else than a site"):
        build_here(tiny, out, **FC)
    assert (out / "site" / "thesis.tex").read_text() == "mine"
