"""Temporary names: nobody's but the writer's, and a leftover once the writer is gone."""

from __future__ import annotations

import os
import subprocess
import sys

from pipeline.temporary import ABANDONED_S, is_leftover, temporary_name


def test_names_differ_and_are_hidden() -> None:
    names = {temporary_name("a.parquet") for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith(".a.parquet.") and name.endswith(".tmp") for name in names)


def test_the_writers_own_file_is_no_leftover_until_it_is_very_old() -> None:
    name = temporary_name("x")
    assert not is_leftover(name, 0)
    assert not is_leftover(name, ABANDONED_S - 1)
    assert is_leftover(name, ABANDONED_S + 1)


def test_a_dead_processs_file_is_a_leftover_at_once() -> None:
    code = "from pipeline.temporary import temporary_name; print(temporary_name('x'))"
    name = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert is_leftover(name, 0)


def test_a_file_of_another_machine_stays_until_it_is_very_old() -> None:
    name = f".x.00000000-{os.getpid()}-12345678.tmp"
    assert not is_leftover(name, 10)
    assert is_leftover(name, ABANDONED_S + 1)


def test_other_files_are_never_leftovers() -> None:
    for name in ("x.parquet", ".hidden", "x.tmp", ".x.tmp", "recipe.json", ".x.00000000-12.tmp"):
        assert not is_leftover(name, 1e9)
