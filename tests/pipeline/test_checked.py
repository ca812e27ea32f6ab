"""Planning without reading: which files are read again, and that damage is noticed all the same."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pipeline.blobs import local
from pipeline.blobs.front import Blobs
from pipeline.store import DamagedShardError, Store, StoredShard
from tests.conformance.test_store import FACTS, make_records


class Reads(list[str]):
    """The parquet files that are read."""


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    seen, real = Reads(), Blobs.read

    def read(blobs: Blobs, path: str) -> bytes | None:
        if path.endswith(".parquet"):
            seen.append(path)
        return real(blobs, path)

    monkeypatch.setattr(Blobs, "read", read)
    return seen


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place where files settle at once; two shards are there, and were planned with."""
    monkeypatch.setattr(local, "SETTLED_S", 0.0)
    place = str(tmp_path / "store")
    for units in ([0, 1], [2, 3]):
        Store(place).write_shard("key", make_records(units), FACTS)
    assert len(Store(place).shards("key")) == 2
    return place


def file_of(url: str, shard: StoredShard) -> Path:
    return Path(url) / shard.key / f"{shard.name}.parquet"


def flip(path: Path) -> None:
    """Change one bit in place, and put the time of the last change back."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(before.st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_what_was_found_whole_is_not_read_again(url: str, reads: Reads) -> None:
    assert len(Store(url).shards("key")) == 2
    assert reads == []


def test_a_change_in_place_is_noticed_though_size_and_time_are_the_same(url: str, reads: Reads, caplog) -> None:
    first, second = Store(url).shards("key")
    flip(file_of(url, first))
    assert Store(url).shards("key") == (second,)
    assert "made again" in caplog.text
    assert reads == [f"key/{first.name}.parquet"]
    assert Store(url).shards("key") == (second,)  # a damaged file is not taken for a whole one next time


def test_a_file_of_another_manifest_is_read(url: str, reads: Reads) -> None:
    first, second = Store(url).shards("key")
    other = Store(url).write_shard("other", make_records([0, 1], seed=1), FACTS)
    manifest = file_of(url, first).with_suffix(".json")
    manifest.write_text(manifest.read_text().replace(first.sha256, other.sha256))
    assert Store(url).shards("key") == (second,)


def test_a_file_that_has_just_changed_is_read_every_time(url: str, reads: Reads, monkeypatch) -> None:
    monkeypatch.setattr(local, "SETTLED_S", 3600.0)
    for times in (1, 2):
        assert len(Store(url).shards("key")) == 2
        assert len(reads) == 2 * times


def test_a_copy_of_a_store_is_read(url: str, reads: Reads, tmp_path: Path) -> None:
    shutil.copytree(url, tmp_path / "copy")
    assert len(Store(str(tmp_path / "copy")).shards("key")) == 2
    assert len(reads) == 2


@pytest.mark.parametrize("kept", [b"", b"{", b"[]", b'{"x": 1}'])
def test_what_is_kept_may_be_lost(url: str, reads: Reads, store_cache: Path, kept: bytes) -> None:
    (file,) = store_cache.iterdir()
    file.write_bytes(kept)
    assert len(Store(url).shards("key")) == 2
    assert len(reads) == 2
    assert len(Store(url).shards("key")) == 2
    assert len(reads) == 2


def test_where_nothing_can_be_kept_all_is_read(url: str, reads: Reads, store_cache: Path) -> None:
    shutil.rmtree(store_cache)
    store_cache.write_text("a file")
    for times in (1, 2):
        assert len(Store(url).shards("key")) == 2
        assert len(reads) == 2 * times


def test_what_a_disk_loses_by_itself_is_noticed_when_it_is_read(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_state", lambda found, now: "the same")
    first, _ = Store(url).shards("key")
    flip(file_of(url, first))
    assert first in Store(url).shards("key")
    with pytest.raises(DamagedShardError, match="has changed"):
        Store(url).read_shard(first)
