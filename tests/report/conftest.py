"""Pages of real runs, to open in a browser."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sclip_core import results
from sclip_core.config import resolve
from sclip_core.pipeline.pipeline import run_pipelines
from sclip_core.pipeline.run import Run
from sclip_core.report import write_report

from ..results.runs import SCENES


@pytest.fixture(scope="session")
def page_of_three(scenes_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs on a page."""
    names = ["latest~3", "latest~2", "latest~1"]
    page, notes = write_report(names, tmp_path_factory.mktemp("three"), scenes_runs)
    assert notes == []
    return page


@pytest.fixture(scope="session")
def page_of_two(scenes_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs on a page."""
    page, notes = write_report(
        ["latest~3", "latest~2"], tmp_path_factory.mktemp("two"), scenes_runs
    )
    assert notes == []
    return page


@pytest.fixture(scope="session")
def page_of_six(scenes_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six runs on a page: three, and the same with less PAMR."""
    folder = tmp_path_factory.mktemp("six")
    artifacts = shutil.copytree(scenes_runs, folder / "artifacts")
    row = results.runs(artifacts).to_pylist()[0]
    given = {"preset": "demo", "dataset": "scenes", "data_root": Path(row["data_root"])}
    for steps in (1, 2, 4):
        settings = resolve(**given, artifacts=artifacts, num_samples=SCENES, pamr_steps=steps)
        run_pipelines([Run(settings)])
    names = [f"latest~{k}" for k in (6, 5, 4, 2, 1, 0)]  # latest~3 is the baseline
    page, notes = write_report(names, folder, artifacts)
    assert notes == []
    return page


@pytest.fixture(scope="session")
def page_of_one(scenes_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The baseline, some of whose pixels have no label."""
    page, notes = write_report(["latest"], tmp_path_factory.mktemp("one"), scenes_runs)
    assert notes == []
    return page
