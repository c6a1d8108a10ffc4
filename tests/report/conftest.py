"""A real browser, and pages of real runs to open in it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from sclip_core.report import write_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def runs(path: str) -> bool:
    """Whether it is a browser, and no stub that tells where to get one."""
    return subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium.

    Where there is none the tests are skipped, but for where SCLIP_BROWSER says that there must be.
    """
    from playwright.sync_api import sync_playwright

    found = next(filter(runs, filter(None, map(shutil.which, BROWSERS))), None)
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        path = found or (own if os.path.exists(own) else None)
        if path is None:
            assert not os.environ.get("SCLIP_BROWSER"), "no browser, and SCLIP_BROWSER asks for one"
            pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
        arguments = ["--no-sandbox", "--disable-gpu"]  # as root there is no sandbox
        opened = playwright.chromium.launch(executable_path=path, args=arguments)
        yield opened
        opened.close()


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
    """Six runs on a page."""
    names = [f"latest~{k}" for k in range(1, 7)]
    page, notes = write_report(names, tmp_path_factory.mktemp("six"), scenes_runs)
    assert notes == []
    return page


@pytest.fixture(scope="session")
def page_of_one(scenes_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The baseline, some of whose pixels have no label."""
    page, notes = write_report(["latest"], tmp_path_factory.mktemp("one"), scenes_runs)
    assert notes == []
    return page
