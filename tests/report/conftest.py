"""Pages of real runs, to open in a browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from sclip_core.report import write_report


@pytest.fixture(scope="session")
def page_of_three(scenes_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs on a page."""
    names = ["latest~3", "latest~2", "latest~1"]
    page, notes = write_report(names, tmp_path_factory.mktemp("three"), scenes_runs)
    assert notes == []
    return page


@pytest.fixture(scope="session")
def page_of_one(scenes_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The baseline, some of whose pixels have no label."""
    page, notes = write_report(["latest"], tmp_path_factory.mktemp("one"), scenes_runs)
    assert notes == []
    return page
