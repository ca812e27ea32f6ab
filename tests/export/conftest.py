from __future__ import annotations

from pathlib import Path

import pytest

from tests.export.pairs import Pair, make_pair


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder: Path = tmp_path_factory.mktemp("pair")
    return make_pair(folder)
