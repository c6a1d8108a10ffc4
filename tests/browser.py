"""A real browser for tests of pages."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

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
