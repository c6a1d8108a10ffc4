"""``benchmarks/gpu.sh``: it needs few packages, ends in time, and keeps what it has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.sh"
ABSENT = ("prefect", "zarr", "pyarrow", "numba")  # where PyTorch for CUDA is, these may not be


def ran(*words: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """The script with these arguments."""
    command = ["bash", str(SCRIPT), *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("words", [[], ["--quick"]])
def test_without_pytorch_there_is_one_line(tmp_path, words):
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('no torch here', name='torch')\n")
    out = tmp_path / "out"
    found = ran(out, *words, PYTHON=sys.executable, PYTHONPATH=str(tmp_path))
    said = (
        f"gpu.sh: {sys.executable} cannot import torch: set PYTHON to an interpreter with PyTorch\n"
    )
    assert (found.returncode, found.stdout, found.stderr) == (2, "", said)
    assert not out.exists()


@pytest.mark.slow
def test_quick_needs_few_packages(tmp_path):
    for name in ABSENT:
        missing = f"raise ModuleNotFoundError('no {name} here', name={name!r})\n"
        (tmp_path / f"{name}.py").write_text(missing)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    found = ran("--quick", tmp_path / "out", PYTHON=sys.executable, PYTHONPATH=path)
    assert found.returncode == 0, found.stderr
    rows = json.loads((tmp_path / "out" / "gpu.json").read_text())["rows"]
    names = " ".join(row["name"] for row in rows)
    for said in ("PAMR", "features to labels", "float16", "CUDA graph", "compiled", "JPEG to areas",
                 "nvJPEG", "SAM ViT-B", "tiles"):  # fmt: skip
        assert said in names
    assert not [row for row in rows if row["measured"].startswith("failed")]


def test_it_ends_in_time(tmp_path):
    """Whatever hangs; here all of Python does, once it knows of a GPU."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$1" = -c ] && echo some GPU && exit\necho "$@"; sleep 60\n')
    python.chmod(0o755)
    begun = time.monotonic()
    found = ran(tmp_path / "out", PYTHON=str(python), SECONDS_IN_ALL="2")
    assert time.monotonic() - begun < 30
    assert found.returncode != 0
    assert "some GPU" in found.stdout
    assert "no time left for" in found.stdout  # the tests took it all
    assert "tests/test_cuda.py" in (tmp_path / "out" / "tests.log").read_text()


def test_without_a_gpu_it_says_so_at_once(tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    assert ran(tmp_path / "out", PYTHON=str(python)).returncode == 2
