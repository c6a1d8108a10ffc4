"""The short form of the torture, as it runs in CI."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LONGEST = 600  # seconds; three minutes on two cores that have nothing else to do


@pytest.mark.slow
def test_nothing_lost_nothing_silently_wrong(tmp_path):
    told = tmp_path / "torture.json"
    command = [sys.executable, "-m", "tests.torture", "--short", f"--json={told}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LONGEST)
    assert told.is_file(), done.stderr[-3000:]
    parts = json.loads(told.read_text("utf-8"))["parts"]
    assert [line for part in parts for line in part["wrong"]] == []
    assert done.returncode == 0
    assert all(part["counts"] or part["notes"] for part in parts)
