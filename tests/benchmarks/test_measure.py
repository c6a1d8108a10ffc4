"""Times measured in turns, peaks of memory, the machine."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import measure
from benchmarks.encoder_rows import POLICIES, encoder, window_gflop, windows
from benchmarks.measure import (
    Machine,
    alternate,
    available_gb,
    machine,
    megabytes,
    peak_extra_mb,
    seconds,
)
from benchmarks.segmentation_rows import Share
from sclip_core.encoder import Attention


def test_functions_take_turns_and_the_median_counts(monkeypatch):
    """In each turn a short function is called again until the turn has lasted long enough."""
    monkeypatch.setattr(measure, "seconds_of", lambda function: function())
    monkeypatch.setattr(measure, "TURN_SECONDS", 2.0)
    called: list[str] = []
    short = iter([1.0, 1.0, 9.0, 0.5, 0.5, 1.0])

    def one() -> float:
        called.append("a")
        return next(short)

    def other() -> float:
        called.append("b")
        return 90.0

    assert alternate({"a": one, "b": other}, 3) == {"a": 1.0, "b": 90.0}
    assert "".join(called) == "aabab" + "aaab"


@pytest.mark.parametrize("resettable", [True, False])
def test_peak_is_what_was_touched(monkeypatch, resettable):
    """Memory that is freed before the end counts, with and without the kernel's own mark."""
    if not resettable:

        def refuse(*_: object) -> int:
            raise PermissionError

        monkeypatch.setattr(Path, "write_text", refuse)

    def work() -> None:
        touched = np.ones(100_000_000, np.uint8)
        time.sleep(0.03)
        del touched

    assert peak_extra_mb(work) == pytest.approx(100, abs=10)
    assert peak_extra_mb(lambda: None) < 10


def test_peak_passes_errors_on():
    with pytest.raises(ZeroDivisionError):
        peak_extra_mb(lambda: 1 / 0)


def test_floor_is_the_harder_limit():
    slow = Machine(1, 1, "", "", "", 1.0, 0.0, matmul_gflops=100, copy_gbs=10)
    assert slow.floor(1e11, 1e9) == pytest.approx(1.0)
    assert slow.floor(1e9, 1e10) == pytest.approx(1.0)


def test_machine_says_what_it_is():
    text = str(machine())
    assert torch.__version__ in text
    assert "GFLOP/s" in text
    assert machine().matmul_gflops > 0
    assert machine().copy_gbs > 0
    assert 0 < available_gb() < 1e5


@pytest.mark.parametrize("names", [["csa"], ["vanilla"], ["maskclip"], ["naclip"], POLICIES])
def test_gflop_are_those_that_pytorch_counts(names):
    ours, attentions = encoder(quick=True), [Attention.parse(name) for name in names]
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        ours.features_of(windows(1), attentions)
    assert window_gflop(ours.visual, names) == pytest.approx(counter.get_total_flops() / 1e9)


def test_gflop_of_a_window_of_vit_b16():
    """docs/protocol.md, section 9, has 35.3; CSA's second attention adds 0.1."""
    tower = open_clip.create_model("ViT-B-16-quickgelu", pretrained=None, device="meta").visual
    assert window_gflop(tower, ["vanilla"]) == pytest.approx(35.3, abs=0.03)
    assert window_gflop(tower, ["csa"]) == pytest.approx(35.4, abs=0.03)


def test_share_of_the_work_where_memory_is_small(monkeypatch):
    planes = torch.zeros(171, 10, 4)
    monkeypatch.setattr("benchmarks.segmentation_rows.available_gb", lambda: 16.0)
    assert Share.of(planes, 0, "words").times == 1
    monkeypatch.setattr("benchmarks.segmentation_rows.available_gb", lambda: 14.0)
    share = Share.of(planes, 0, "words")
    assert (share.part.shape, share.times) == ((57, 10, 4), 3)
    assert share.description == "57 of the 171 words, times 3"
    assert Share.of(planes, 1, "rows").part.shape == (171, 4, 4)


def test_numbers_as_text():
    assert [seconds(x) for x in (12e-6, 0.0123, 0.9996, 90.2)] == [
        "12 µs",
        "12.3 ms",
        "1 s",
        "90.2 s",
    ]
    assert [megabytes(x) for x in (12.3, 12_300)] == ["12 MB", "12.3 GB"]
