"""``python -m benchmarks``: every row is printed and written."""

from __future__ import annotations

import json
import runpy
import signal
import sys
import time

import pytest

import benchmarks.__main__ as bench
from benchmarks import explore_rows, measure, pipeline_rows, start_rows, whole_rows
from benchmarks.measure import Machine, Row
from tests.torture.forked import forked

FIELDS = {"name", "goal", "measured", "ratio", "floor", "met", "detail"}
OF_COMMANDS = {*pipeline_rows.ROWS, *explore_rows.ROWS, *whole_rows.ROWS, *start_rows.ROWS}
IN_PROCESS = [name for name in bench.REGISTRY if name not in OF_COMMANDS]
SAID = (  # of every kind of row, something of its name
    "features to labels",
    "function pamr",
    "without PAMR",
    "decision",
    "encoder",
    "csa, vanilla, naclip",
    "slide_crop 0",
    "area_thd",
    "cityscapes",
    "PAMR 2 steps",
    "words left out",
    "sweep, coco_object",
    "SAM ViT-B, image encoder",
    "after the encoder",
    "hybrid, pool",
    "ov-stitcher from taps",
    "sc-clip, pearl,",
    "trident, peak memory",
    "sclip data prepare",
    "drawing",
    "bootstrap of two runs",
    "two runs compared",
    "GPU: PAMR",
    "GPU: JPEG to areas",
    "GPU: SAM ViT-B, image encoder in bfloat16",
    "16 points, pixels to masks",
)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:'benchmarks.__main__' found:RuntimeWarning")
def test_quick_prints_and_writes_every_row(tmp_path, monkeypatch, capsys):
    """Without the rows of whole runs, which have tests of their own."""
    target = tmp_path / "new" / "bench.json"
    monkeypatch.setattr(measure, "TURN_SECONDS", 1e-9)  # each function is called once a turn
    words = ["--quick", "--only", *IN_PROCESS, "--json", str(target)]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *words])
    with pytest.raises(SystemExit) as finished:
        runpy.run_module("benchmarks", run_name="__main__")
    printed = capsys.readouterr()
    assert finished.value.code == 0, printed.err
    assert "GFLOP/s, copy" in printed.out
    for said in SAID:
        assert said in printed.out
    found = json.loads(target.read_text("utf-8"))
    assert found["quick"] is True
    assert {"cores", "cpu", "torch", "matmul_gflops", "copy_gbs"} <= found["machine"].keys()
    assert len(found["rows"]) >= 63  # one more with each that is added
    for row in found["rows"]:
        assert row.keys() == FIELDS
        assert row["measured"]
        assert row["met"] is None  # tiny sizes are not judged
    assert list(target.parent.iterdir()) == [target]


@pytest.fixture
def registry(monkeypatch):
    rows = {
        "good": lambda quick: [Row("a goal", "≤ 1 s", "0.5 s", 2.0, "0.1 s", not quick)],
        "broken": lambda quick: 1 / 0,
    }
    monkeypatch.setattr(bench, "REGISTRY", rows)
    measured = Machine(2, 2, "some CPU", "2", "3", 8.0, 0.0, matmul_gflops=100, copy_gbs=10)
    monkeypatch.setattr(bench, "machine", lambda: measured)
    return rows


def test_a_row_that_fails_is_shown_and_the_others_measured(registry, tmp_path, capsys):
    target = tmp_path / "bench.json"
    assert bench.main(["--json", str(target)]) == 1
    printed = capsys.readouterr().out
    assert "failed: ZeroDivisionError: division by zero" in printed
    assert "a goal" in printed
    good, broken = json.loads(target.read_text("utf-8"))["rows"]
    assert (good["met"], broken["met"], broken["name"]) == (True, False, "broken")
    assert "ZeroDivisionError" in broken["detail"]["error"]


def test_only_some_rows(registry, tmp_path, capsys):
    assert bench.main(["--only", "good", "--json", str(tmp_path / "bench.json")]) == 0
    assert "failed" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, 137)]
)
def test_what_was_measured_before_a_stop_is_printed_and_written(registry, tmp_path, number, code):
    def slow(quick):
        yield Row("first", "", "0.5 s")
        yield Row("second", "", "0.6 s")
        (tmp_path / "measuring").touch()
        time.sleep(60)

    registry["slow"] = slow
    target = tmp_path / "bench.json"
    child = forked(lambda: bench.main(["--only", "slow", "--json", str(target)]), tmp_path)
    while not (tmp_path / "measuring").exists() and child.running():
        time.sleep(0.01)
    child.send(number)
    ended = child.wait()
    assert ended.code == code
    assert "0.6 s" in ended.out
    assert ("stopped; 2 rows are in" in ended.out) == (number == signal.SIGINT)
    assert [row["name"] for row in json.loads(target.read_text())["rows"]] == ["first", "second"]


def test_an_unknown_row_is_refused(registry):
    with pytest.raises(SystemExit):
        bench.main(["--only", "nothing"])
