"""The scripts in examples/ run, and print what they say they print."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from sclip_core.encoder import attention

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> ModuleType:
    """A script as a module; its name is not __main__, so that nothing runs yet."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shares(text: str) -> dict[str, float]:
    """Lines like ``tree  12.3%``."""
    rows = (line.rsplit(maxsplit=1) for line in text.splitlines())
    return {name: float(share.rstrip("%")) for name, share in rows}


@pytest.fixture(autouse=True)
def no_traces(monkeypatch):
    """A policy that an example registers is gone after the test."""
    monkeypatch.setattr(attention, "POLICIES", dict(attention.POLICIES))


def test_a_picture_is_segmented(tmp_path, capsys):
    target = tmp_path / "labels.png"
    load("picture").main(labels_to=str(target))
    found = shares(capsys.readouterr().out)
    assert {"snow", "wooden wall"} <= found.keys()
    assert sum(found.values()) == pytest.approx(100, abs=0.5)
    labels = cv2.imread(str(target), cv2.IMREAD_UNCHANGED)
    truth = cv2.imread(str(EXAMPLES / "scenes/labels/0005.png"), cv2.IMREAD_UNCHANGED)
    assert labels.shape == truth.shape
    assert 100 * np.mean(labels == 0) == pytest.approx(found["snow"], abs=0.05)


def test_an_attention_of_your_own_is_compared(capsys):
    load("own_attention").main()
    found = shares(capsys.readouterr().out)
    assert list(found) == ["vanilla", "csa", "vv"]
    assert found["vv"] > found["vanilla"] + 10
    assert found["csa"] > found["vanilla"] + 10


def test_a_benchmark_is_run_and_asked(tmp_path, capsys):
    pytest.importorskip("duckdb")
    example = load("benchmark")
    printed = []
    for _ in range(2):
        example.main(str(tmp_path / "artifacts"))
        printed.append(capsys.readouterr())
    first, again = (each.out.splitlines() for each in printed)
    runs = [line for line in first if " PAMR " in line]
    assert len(runs) == 4
    scores = [float(line.rsplit(maxsplit=1)[1]) for line in runs]
    assert scores == sorted(scores)
    assert runs[-1].startswith("csa")
    assert sum(" at best " in line for line in first) == 3
    assert again == first
    assert " computed " not in printed[1].err
