"""Progress as lines: what is said when a stage begins, goes on, ends, and of images left out."""

from __future__ import annotations

import pytest

from sclip_core import progress
from sclip_core.progress import LineReporter, Outcome, duration


@pytest.fixture
def lines():
    return []


@pytest.fixture
def reporter(lines, monkeypatch):
    """With a clock that stands still unless a test moves it."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    told = LineReporter(lines.append)
    told.now = now
    return told


def test_an_image_is_named_once_though_several_runs_find_it(reporter, lines):
    for line in ("a.png is torn", "a.png is torn", "b.png is torn"):
        reporter.warn(line)
    assert lines == ["left out: a.png is torn", "left out: b.png is torn"]


def test_notes_are_said_each_time_and_stay_one_line(reporter, lines):
    reporter.note("a\nb")
    reporter.note("a\nb")
    assert lines == ["note: a\\nb"] * 2


def test_a_stage_now_and_then(reporter, lines):
    reporter.start("refine", total=10, done=2, unit="images")
    reporter.now[0] = 9.0
    reporter.advance("refine", 1)  # too soon for a line
    reporter.now[0] = 12.0
    reporter.advance("refine", 2)  # 3 in 12 seconds; 5 are left
    reporter.now[0] = 13.0
    reporter.advance("refine", 1)
    assert lines == ["refine: 8 of 10 images to do", "refine: 5 of 10, 0.25 images/s, 20.0 s left"]


@pytest.mark.parametrize(
    ("cached", "computed", "said"),
    [
        (3, 0, "refine          cached    3 images"),
        (0, 3, "refine          computed  3 images in 1.5 s"),
        (1, 2, "refine          computed  2 images in 1.5 s, 1 cached"),
    ],
)
def test_the_end_of_a_stage(reporter, lines, cached, computed, said):
    reporter.finish(Outcome("refine", "key", "path", cached, computed, 1.5))
    assert lines == [said]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 s"), (59.9, "59.9 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_duration(seconds, said):
    assert duration(seconds) == said
