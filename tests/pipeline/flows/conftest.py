"""A Prefect server with the project's deployments and two workers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.pipeline.instrument import environment
from tests.pipeline.prefect_site import Site, write_project


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    project = tmp_path_factory.mktemp("project")
    write_project(project, {"[run]\n": '[run]\nruntime = "waiting"\n'})
    site = Site(project, tmp_path_factory.mktemp("prefect"), environment(project / "made.log", 0.0))
    try:
        site.start_server()
        site.set_up()
        for number in range(2):
            site.start_worker(f"worker{number}")
        yield site
    finally:
        site.end()
