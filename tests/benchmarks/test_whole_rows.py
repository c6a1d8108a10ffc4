"""Whole runs taken apart: whose seconds are whose, and what the encoder waits for."""

from __future__ import annotations

import threading
import time

import pytest

from benchmarks import phases
from benchmarks.phases import ENCODE, READERS, WRITERS, Clock, Segment, by_phase
from benchmarks.processes import Probe
from benchmarks.whole_rows import FIXED, rows_of, taken_apart, whole_rows
from sclip_core.pipeline.rows import prefetch

# The main thread waits 3 s for its readers, encodes 10 s, of which it ran 7 s, waits 1 s for the
# disk and refines 2 s. Readers decode; the second picture while the encoder is at the first.
RUN = [
    Segment(0, "words", 1.0, 2.0, 1.0),
    Segment(0, READERS, 3.0, 6.0, 0.0),
    Segment(0, ENCODE, 6.0, 16.0, 7.0),
    Segment(0, WRITERS, 16.0, 17.0, 0.0),
    Segment(0, "refine", 17.0, 19.0, 2.0),
    Segment(7, "decode", 3.0, 5.0, 2.0),
    Segment(8, "read", 4.0, 5.0, 0.5),
    Segment(8, "decode", 5.0, 8.0, 1.5),
    Segment(9, "store", 15.0, 16.5, 0.3),
]


def test_waits_are_of_what_is_awaited():
    found = by_phase(RUN)
    assert found["decode"] == pytest.approx((5.0, 0.0, 2.5, 3.5))  # 1 + ½ of 1 s, then 1 s
    assert found["decode"].beside == pytest.approx(2.5)
    assert found["read"].awaited == pytest.approx(0.5)
    assert found["store"] == pytest.approx((1.5, 0.0, 0.5, 0.3))
    assert found["store"].beside_cpu == pytest.approx(0.2)
    assert found[ENCODE] == pytest.approx((10.0, 10.0, 0.0, 7.0))


def probe(segments=RUN) -> Probe:
    """A process of 21 s that was ready after 0.5 s and had its result after 20 s."""
    return Probe(
        wall=(0.0, 21.0),
        run=(0.5, 20.0),
        checked=(),
        stages={},
        computed={},
        imports_mb=0.0,
        peak_mb=0.0,
        segments=segments,
        ready=0.5,
    )


def test_a_run_is_taken_apart_to_the_last_second():
    whole = taken_apart(probe())
    assert sum(took.main for took in whole.phases.values()) == pytest.approx(21.0)
    assert whole.phases["start and imports"].main == pytest.approx(0.5)
    assert whole.phases["settings, stages"].main == pytest.approx(1.5)  # around the words
    assert whole.phases["end of the process"].main == pytest.approx(1.0)
    assert whole.phases["left over"].main == pytest.approx(1.0)  # after the last phase
    assert whole.once == pytest.approx(0.5 + 1.5 + 1.0 + 1.0)
    assert whole.images == pytest.approx(17.0)


def test_what_slows_the_encoder_down_counts_as_far_as_it_is_ours():
    """The encoder lost 3 s: other threads of this process ran for 1.45 s beside it."""
    whole = taken_apart(probe())
    beside = 2.5 * 3.5 / 5 + 0.5 * 0.5 + 0.2
    assert whole.others == pytest.approx(17.0 - 10.0 + beside)
    assert whole.besides == pytest.approx(whole.others / (whole.others + 7.0))
    undisturbed = [one._replace(cpu=10.0) if one.phase == ENCODE else one for one in RUN]
    assert taken_apart(probe(undisturbed)).others == pytest.approx(7.0)


def test_rows_say_what_is_once_and_what_is_beside():
    first, *others = rows_of("coco_stuff", "3 pictures", probe(), words=9.0)
    assert first.name == "whole run, coco_stuff, 3 pictures"
    assert first.met is False
    assert first.detail["phases"]["decode"]["awaited"] == pytest.approx(2.5)
    by_name = {row.name.removeprefix("coco_stuff: "): row for row in others}
    assert next(iter(by_name)) == ENCODE  # the longest
    assert {name for name, row in by_name.items() if row.goal} == {*FIXED} & {*by_name}
    assert by_name["decode"].measured == (
        "5 s, 23.8% of the run; 2.5 s beside the main thread, which waited 2.5 s for it"
    )


def test_an_inner_phase_interrupts_the_outer():
    clock = Clock()
    begun = time.perf_counter()
    with clock.during("outer"):
        time.sleep(0.02)
        with clock.during("inner"):
            time.sleep(0.03)
        time.sleep(0.01)
    ended = time.perf_counter()
    assert [one.phase for one in clock.segments] == ["outer", "inner", "outer"]
    assert sum(one.end - one.begin for one in clock.segments) == pytest.approx(
        ended - begun, abs=5e-3
    )
    assert by_phase(clock.segments)["inner"].main >= 0.03
    assert sum(one.cpu for one in clock.segments) < 0.03  # it slept


def test_threads_and_what_they_are_waited_for():
    clock, read = Clock(), threading.Event()

    def load(number: int) -> int:
        with clock.during("decode"):
            time.sleep(0.02)
            read.set()
        return number

    ahead = clock.waited(prefetch)(load, range(3), 1)
    assert [item for item, _ in ahead] == [0, 1, 2]
    found = by_phase(clock.segments)
    assert found["decode"].threads >= 0.06
    assert found["decode"].main == 0.0
    assert 0.05 < found["decode"].awaited <= found[READERS].main + 1e-9


def test_every_phase_names_functions_that_are_there():
    """One that is renamed would silently be left over."""
    for functions in phases.PHASES.values():
        for name in functions:
            owner, attribute = phases.found(name)
            assert callable(getattr(owner, attribute)), name


@pytest.mark.slow
def test_quick_rows(monkeypatch):
    """A real run: every phase of a run with PAMR is seen, and most of its time is named."""
    monkeypatch.setattr("benchmarks.whole_rows.COUNTS", {"coco_object": 2})
    rows = list(whole_rows(quick=True))
    runs = [row for row in rows if row.name.startswith("whole run, ")]
    assert [row.name.count("PAMR") for row in runs] == [0, 1]
    refined = runs[1].detail["phases"]
    assert {*phases.PHASES} - {"ground truth"} <= refined.keys()
    assert refined[ENCODE]["main"] == refined[ENCODE]["threads"] > 0
    assert refined["decode"]["main"] == 0  # it is done ahead
    assert refined["left over"]["main"] < 0.2 * runs[1].detail["wall_s"]
