"""``sclip table``: where it writes to, and what it refuses."""

from __future__ import annotations

import pytest

from sclip_core import results

from ..results.runs import make_runs


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    return make_runs(tmp_path_factory.mktemp("table"))


def test_each_ending_has_its_format(artifacts, tmp_path, sclip):
    begins = {"md": "| method", "tex": "% in the", "csv": "method,", "typ": "#table("}
    for ending, text in begins.items():
        target = tmp_path / f"table.{ending}"
        code, out, err = sclip("table", "--artifacts", artifacts, "-o", target)
        assert (code, out.strip(), err) == (0, str(target), "")
        assert target.read_text("utf-8").startswith(text)


def test_runs_of_the_pipeline_have_rows_by_what_was_chosen(artifacts, sclip):
    code, out, _ = sclip("table", "--artifacts", artifacts, "--plus-minus", "half")
    assert code == 0
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines()[:6]]
    assert rows[0] == ["method", "mode", "pamr\\_steps", "scenes"]
    assert [row[:3] for row in rows[2:]] == [
        ["csa", "dense", "0"],
        ["csa", "dense", "3"],
        ["csa", "hybrid vote, felzenszwalb", "0"],
        ["baseline, slic", "baseline, slic", "-"],
    ]
    scores = results.runs(artifacts)["miou"].to_pylist()[::-1]
    assert [row[3].strip("*<>u/")[:5] for row in rows[2:]] == [f"{score:.2f}" for score in scores]
    assert "Images: scenes 8." in out
    assert "±: half the width" in out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-o", "table.doc"], "table.doc: a table is written as .md, .tex, .csv, .typ; change the"),
        (["-o", "t.tex", "--format", "csv"], "t.tex: csv is written as .csv; change the ending"),
        (["--intervals", "--plus-minus", "se"], "--intervals and --plus-minus se conflict"),
        (["--reference", "csa"], "--reference csa has 3 rows (csa, mode dense, pamr_steps 0; "),
        (["no-such-run"], "no run 'no-such-run'"),
        (["--score", "fame"], "unknown score 'fame'"),
    ],
)
def test_refused(artifacts, tmp_path, sclip, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = sclip("table", "--artifacts", artifacts, *options)
    assert (code, out) == (2, "")
    assert words in err
    assert err.startswith("sclip: ")
    assert err.count("\n") == 1
