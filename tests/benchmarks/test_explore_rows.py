"""The times of the page of ``sclip explore``: measured in a browser, or left out with a line."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks import explore_rows


def test_without_a_browser_there_is_a_line(monkeypatch):
    monkeypatch.setattr(explore_rows, "_browser", lambda: None)
    (row,) = explore_rows.explore_rows(quick=True)
    assert row.measured == "skipped: no browser here"
    assert row.met is None


def test_known_words_differ_and_can_be_classes():
    words = explore_rows._words(200)
    assert len(words) == len(set(words)) == 200
    assert not [word for word in words if "," in word or ";" in word]


@pytest.mark.slow
def test_times_are_of_every_list_and_step():
    if explore_rows._browser() is None:
        pytest.skip("no browser")
    # in a thread of its own: in this one another test's browser may be open, and it takes one
    with ThreadPoolExecutor(1) as own:
        rows = own.submit(lambda: list(explore_rows.explore_rows(quick=True))).result()
    assert [len(row.detail["seconds"]) for row in rows] == [explore_rows.FEW_TURNS] * 4
    for row in rows:
        assert 0 < row.detail["median_s"] <= row.detail["p95_s"] < 60
