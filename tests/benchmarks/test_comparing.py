"""``python -m benchmarks --compare``: old and new figures of the rows that both have."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import benchmarks.__main__ as bench
from benchmarks.comparing import Figure, Old, compared, differences, left_out
from benchmarks.measure import Machine, Row

HERE = Machine(2, 2, "some CPU", "2.15", "3", 8.0, 0.0, matmul_gflops=100, copy_gbs=10)


@pytest.mark.parametrize(
    ("measured", "kind", "value"),
    [
        ("583 ms, 126 MB (eager 76.7 s, 7.1 GB)", "seconds", 0.583),
        ("1.45 s (theirs 9 s)", "seconds", 1.45),
        ("74 µs", "seconds", 74e-6),
        ("1.2 GB at 17 s", "memory", 1200.0),
        ("1/10.4, 3.5 s, full 64 s", "1/", 10.4),
        ("+1.3%, 1267 MB", "%", 1.3),
        ("158 images/s", "images/s", 158.0),
        ("431 TFLOP/s", "rate", 431e3),
        ("worst IoU 0.99999", "", 0.99999),
    ],
)
def test_the_first_figure(measured, kind, value):
    found = Figure.of(measured)
    assert (found.kind, found.value) == (kind, pytest.approx(value))
    assert found.text in measured


@pytest.mark.parametrize(
    "measured", ["failed: IndexError: 3", "not measured: no CUDA device here", "the same"]
)
def test_no_figure(measured):
    assert Figure.of(measured) is None


@pytest.fixture
def old(tmp_path):
    """The file of an earlier call."""
    path = tmp_path / "old.json"
    bench.write_rows(
        path,
        False,
        [Row("time", "", "900 ms, 3 MB"), Row("gone", "", "1 s"), Row("kind", "", "3 MB")],
    )
    return path


@pytest.fixture(autouse=True)
def here(monkeypatch):
    monkeypatch.setattr(bench, "machine", lambda: HERE)


NOW = [Row("new", "", "1 s"), Row("time", "", "1.35 s, 9 MB"), Row("kind", "", "3 s")]


def test_rows_of_both(old):
    before = Old.read(old)
    assert list(compared(before, NOW)) == [("time", "900 ms", "1.35 s", "1.50×")]
    assert list(left_out(before, NOW)) == [
        f"1 rows only in {old}",
        "1 rows only measured now",
        "1 rows without figures of one kind",
    ]


def test_what_differs_is_said(old):
    before = Old.read(old)
    assert list(differences(before, HERE, quick=False)) == []
    other = replace(HERE, torch="2.16", threads=8, matmul_gflops=3.0)
    assert list(differences(before, other, quick=True)) == [
        f"{old} was measured without --quick",
        f"PyTorch's threads: 2 in {old}, 8 now",
        f"PyTorch: 2.15 in {old}, 2.16 now",
    ]


def test_it_is_printed_even_of_the_file_that_is_replaced(old, monkeypatch, capsys):
    monkeypatch.setattr(bench, "REGISTRY", {"some": lambda quick: NOW})
    assert bench.main(["--compare", str(old), "--json", str(old)]) == 0
    printed = capsys.readouterr().out
    assert ["time", "900", "ms", "1.35", "s", "1.50×"] in map(str.split, printed.splitlines())
    assert "NOT THE SAME" not in printed
    assert [row["name"] for row in json.loads(old.read_text())["rows"]] == ["new", "time", "kind"]


def test_it_is_printed_of_what_was_measured_before_a_stop(old, tmp_path, monkeypatch, capsys):
    def stopped(quick):
        yield NOW[1]
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "REGISTRY", {"some": stopped})
    words = ["--compare", str(old), "--json", str(tmp_path / "new.json")]
    assert bench.main(words) == 130
    printed = capsys.readouterr().out
    assert "stopped; 1 rows are in" in printed
    assert "1.50×" in printed


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file or directory"),
        (b"\xff\x00", "is no JSON"),
        (b"{", "is no JSON"),
        (b"[1, 2]", "holds no rows"),
        (b'{"machine": {}, "quick": false, "rows": [{"name": "a"}]}', "holds no rows"),
        (b'{"machine": 3, "quick": false, "rows": []}', "holds no rows"),
    ],
)
def test_a_file_of_something_else(tmp_path, monkeypatch, capsys, content, said):
    """One line, before anything is measured."""
    monkeypatch.setattr(bench, "REGISTRY", {"some": lambda quick: 1 / 0})
    path = tmp_path / "old.json"
    if content is not None:
        path.write_bytes(content)
    assert bench.main(["--compare", str(path), "--json", str(tmp_path / "new.json")]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    assert f"--compare {path}" in line
    assert said in line
    assert "python -m benchmarks --json" in line
    assert not (tmp_path / "new.json").exists()
