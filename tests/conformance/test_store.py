"""What every store must do, on whatever file system."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from export.errors import StoreError
from pipeline.records import Record, from_parquet, to_parquet
from pipeline.store import DamagedShardError, Store, shard_name
from tests.pipeline.recipes import make_recipe
from tests.pipeline.s3 import S3Server

FACTS = {"position": [2, 2], "image_px": 16, "num_units": 9, "code_dim": 4, "receptive_field": {}}


def make_records(units: list[int], seed: int = 0) -> list[Record]:
    rng = np.random.default_rng([seed, *units])
    return [
        Record(
            unit=unit,
            seed=seed,
            activation=float(np.float32(rng.normal())) if unit != 3 else float("-inf"),
            steps=10,
            status="done" if unit != 3 else "dead",
            target="conv",
            curve=rng.normal(size=2).astype(np.float32),
            code=rng.normal(size=4).astype(np.float32),
            image=rng.bytes(20 + unit),
            film_steps=(0, 5, 10) if unit != 3 else (),
            film=rng.bytes(9) if unit != 3 else b"",
        )
        for unit in units
    ]


def assert_equal(found: list[Record], expected: list[Record]) -> None:
    assert [record.unit for record in found] == [record.unit for record in expected]
    for ours, theirs in zip(found, expected, strict=True):
        plain = ("seed", "activation", "steps", "status", "target", "image", "film_steps", "film")
        assert [getattr(ours, name) for name in plain] == [getattr(theirs, name) for name in plain]
        np.testing.assert_array_equal(ours.curve, theirs.curve)
        np.testing.assert_array_equal(ours.code, theirs.code)
        assert ours.code.dtype == ours.curve.dtype == np.float32


class StoreConformance:
    """Subclass with a fixture ``url`` of an empty place."""

    @pytest.fixture
    def store(self, url: str) -> Store:
        return Store(url)

    def test_an_empty_store_has_nothing_done(self, store: Store) -> None:
        assert store.shards("key") == ()
        assert store.done_units("key") == frozenset()

    def test_what_was_written_is_read(self, store: Store) -> None:
        records = make_records([7, 3, 5])
        shard = store.write_shard("key", records, FACTS)
        assert store.shards("key") == (shard,)
        assert (shard.units, shard.counts, shard.facts) == ((3, 5, 7), {"dead": 1, "done": 2}, FACTS)
        assert_equal(store.read_shard(shard), sorted(records, key=lambda record: record.unit))

    def test_shards_of_a_recipe_add_up_and_others_do_not_show(self, store: Store) -> None:
        store.write_shard("key", make_records([0, 1]), FACTS)
        store.write_shard("key", make_records([4]), FACTS)
        store.write_shard("other", make_records([8]), FACTS)
        assert store.done_units("key") == {0, 1, 4}

    def test_another_store_of_the_same_place_sees_it(self, store: Store, url: str) -> None:
        shard = store.write_shard("key", make_records([2]), FACTS)
        assert Store(url).shards("key") == (shard,)

    def test_read_units_takes_each_unit_once(self, store: Store) -> None:
        first, second = make_records([0, 1]), make_records([1, 2])
        shards = [store.write_shard("key", part, FACTS) for part in (first, second)]
        found = store.read_units(shards, [1, 2])
        assert sorted(found) == [1, 2]
        assert_equal([found[1], found[2]], [first[1], second[1]])

    def test_equal_records_make_equal_bytes_in_any_order(self, store: Store) -> None:
        one = store.write_shard("a", make_records([1, 2, 3]), FACTS)
        two = store.write_shard("b", make_records([1, 2, 3])[::-1], FACTS)
        assert (one.name, one.sha256, one.num_bytes) == (two.name, two.sha256, two.num_bytes)
        assert _cat(store, f"a/{one.name}.parquet") == _cat(store, f"b/{two.name}.parquet")
        assert _cat(store, f"a/{one.name}.json") == _cat(store, f"b/{two.name}.json").replace(b'"b"', b'"a"')

    def test_a_shard_without_manifest_is_not_done(self, store: Store) -> None:
        shard = store.write_shard("key", make_records([1]), FACTS)
        _rm(store, f"key/{shard.name}.json")
        assert store.shards("key") == ()

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"units": [1]}', '{"units": "x", "parquet": 3}', "\x00\xff"])
    def test_a_damaged_manifest_is_not_done_and_is_told(self, store: Store, text: str, caplog) -> None:
        shard = store.write_shard("key", make_records([1]), FACTS)
        _put(store, f"key/{shard.name}.json", text.encode("latin-1"))
        assert store.shards("key") == ()
        assert "made again" in caplog.text

    @pytest.mark.parametrize("into", ["other", "key"])
    def test_a_foreign_shard_is_not_done_and_is_told(self, store: Store, into: str, caplog) -> None:
        """Copied from another recipe, or under another name: whole, but not what its place says."""
        shard = store.write_shard("key", make_records([1, 2]), FACTS)
        name = shard.name if into == "other" else shard_name([3, 4])
        for suffix in ("parquet", "json"):
            _put(store, f"{into}/{name}.{suffix}", _cat(store, f"key/{shard.name}.{suffix}"))
        assert [found.name for found in store.shards(into)] == ([] if into == "other" else [shard.name])
        assert "manifest of another shard" in caplog.text

    def test_looking_at_one_shard_finds_it_only_whole(self, store: Store, caplog) -> None:
        assert store.look("key", [1, 2]) is None
        shard = store.write_shard("key", make_records([1, 2]), FACTS)
        assert store.look("key", [1, 2]) == shard
        assert store.look("key", [1]) is None
        assert caplog.text == ""
        _put(store, f"key/{shard.name}.parquet", b"junk")
        assert store.look("key", [1, 2]) is None
        assert "made again" in caplog.text

    def test_a_discarded_shard_is_to_be_made(self, store: Store) -> None:
        store.discard(store.write_shard("key", make_records([1]), FACTS))
        assert store.shards("key") == ()

    def test_cleaning_removes_claims_of_what_is_done(self, store: Store) -> None:
        shard = store.write_shard("key", make_records([1]), FACTS)
        for name in (shard.name, shard_name([2])):
            _put(store, f"key/{name}.claim", b"{}")
        assert store.clean("key", [shard]) == 1
        assert f"{shard_name([2])}.claim" in _names(store, "key")

    def test_a_manifest_whose_counts_do_not_add_up_is_damaged(self, store: Store, caplog) -> None:
        shard = store.write_shard("key", make_records([1]), FACTS)
        raw = json.loads(_cat(store, f"key/{shard.name}.json")) | {"counts": {"done": 2}}
        _put(store, f"key/{shard.name}.json", json.dumps(raw).encode())
        assert store.shards("key") == ()
        assert "counts of 2" in caplog.text

    @pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
    def test_a_damaged_parquet_file_is_not_done_and_is_told(self, store: Store, damage: str, caplog) -> None:
        shard = store.write_shard("key", make_records([1, 2]), FACTS)
        path = f"key/{shard.name}.parquet"
        data = bytearray(_cat(store, path))
        data[len(data) // 2] ^= 1
        if damage == "gone":
            _rm(store, path)
        else:
            _put(store, path, bytes(data) if damage == "flip" else bytes(data[:-9]))
        assert store.done_units("key") == frozenset()
        assert "made again" in caplog.text
        with pytest.raises(DamagedShardError, match="has changed") as caught:
            store.read_shard(shard)
        assert caught.value.shard == shard

    def test_a_damaged_shard_is_made_again_in_its_place(self, store: Store) -> None:
        shard = store.write_shard("key", make_records([1, 2]), FACTS)
        _put(store, f"key/{shard.name}.parquet", b"junk")
        assert store.write_shard("key", make_records([1, 2]), FACTS) == shard
        assert store.shards("key") == (shard,)

    def test_cleaning_removes_what_is_damaged_and_keeps_what_is_done(self, store: Store, caplog) -> None:
        caplog.set_level(logging.ERROR)
        store.write_recipe(recipe := make_recipe())
        good, bad = (store.write_shard(recipe.key, make_records(units), FACTS) for units in ([0, 1], [4, 5]))
        _put(store, f"{recipe.key}/{bad.name}.json", b"{")
        assert store.clean(recipe.key, store.shards(recipe.key)) == 1
        assert _names(store, recipe.key) == sorted(
            ["recipe.json", f"{good.name}.json", f"{good.name}.parquet", f"{bad.name}.parquet"]
        )

    def test_cleaning_keeps_a_shard_that_came_after_the_look(self, store: Store) -> None:
        seen = store.shards("key")
        shard = store.write_shard("key", make_records([0]), FACTS)
        assert store.clean("key", seen) == 0
        assert store.shards("key") == (shard,)

    def test_a_dead_processs_temporary_file_is_ignored_and_cleaned_a_living_ones_stays(
        self, store: Store, dead_pid: int, monkeypatch
    ) -> None:
        from pipeline import temporary

        shard = store.write_shard("key", make_records([0]), FACTS)
        alive = temporary.temporary_name("x.parquet")
        elsewhere = alive.replace(temporary.machine(), "0" * 8)
        with monkeypatch.context() as patch:
            patch.setattr(temporary.os, "getpid", lambda: dead_pid)
            dead = temporary.temporary_name("x.json")
        for name in (alive, elsewhere, dead):
            _put(store, f"key/{name}", b"half")
        assert store.shards("key") == (shard,)
        assert store.clean("key", store.shards("key")) == 1
        assert {alive, elsewhere} < set(_names(store, "key"))
        assert dead not in _names(store, "key")

    def test_the_recipe_is_written_once(self, store: Store) -> None:
        recipe = make_recipe()
        store.write_recipe(recipe)
        store.write_recipe(recipe)
        assert json.loads(_cat(store, f"{recipe.key}/recipe.json")) == json.loads(recipe.to_json())

    def test_nothing_temporary_stays(self, store: Store) -> None:
        store.check_writable()
        store.write_shard("key", make_records([0]), FACTS)
        assert [name for name in _names(store, "key") + _names(store, "") if name.startswith(".")] == []


class TestLocalStore(StoreConformance):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return str(tmp_path / "deep" / "store")


class TestS3Store(StoreConformance):
    @pytest.fixture
    def url(self, bucket: str) -> str:
        return f"{bucket}/deep/store"

    def test_nothing_is_read_whole_to_plan(self, store: Store, s3: S3Server) -> None:
        """The listing tells the MD5: per recipe one listing, per shard one manifest."""
        for units in ([0, 1], [2, 3], [4]):
            store.write_shard("key", make_records(units), FACTS)
        with s3.counting() as calls:
            assert len(store.shards("key")) == 3
        assert calls == {"LIST": 1, "GET": 3}

    def test_a_shard_is_looked_for_and_written_without_listing(self, store: Store, s3: S3Server) -> None:
        with s3.counting() as calls:
            store.look("key", [0, 1])
            store.write_shard("key", make_records([0, 1]), FACTS)
        assert calls == {"GET": 1, "PUT": 2}


class TestMemoryStore(StoreConformance):
    @pytest.fixture
    def url(self, request: pytest.FixtureRequest) -> str:
        return f"memory://{abs(hash(request.node.nodeid))}/store"


@pytest.fixture(scope="session")
def dead_pid() -> int:
    import subprocess
    import sys

    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_an_unknown_file_system_is_refused() -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        Store("nosuchprotocol://bucket/store")


def test_a_folder_that_is_a_file_is_refused_before_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        Store(str(tmp_path / "file" / "store")).check_writable()


def test_parquet_keeps_every_field_of_no_records_and_of_many() -> None:
    assert from_parquet(to_parquet([])) == []
    records = make_records(list(range(300)))
    assert_equal(from_parquet(to_parquet(records)), records)


def test_shard_names_tell_unit_sets_apart() -> None:
    names = {shard_name(units) for units in ([0, 1, 9], [0, 2, 9], [0, 9], [0], [9])}
    assert len(names) == 5


def _cat(store: Store, path: str) -> bytes:
    data = store.blobs.read(path)
    assert data is not None
    return data


def _put(store: Store, path: str, data: bytes) -> None:
    store.blobs.write(path, data)


def _rm(store: Store, path: str) -> None:
    store.blobs.remove(path)


def _names(store: Store, key: str) -> list[str]:
    return [entry.name for entry in store.blobs.entries(key)]
