"""More numbers on the command line: columns, rows of comparisons, and errors of one line."""

from __future__ import annotations

import shutil

import pytest

from sclip_core import results


def test_results_have_the_columns_that_are_asked_for(sclip, scenes_runs):
    code, out, _ = sclip(
        "results", "--scores", "fwiou,mIoU-I,biou", "--groups", "scenes", "--artifacts", scenes_runs
    )
    assert code == 0
    head = next(line for line in out.splitlines() if "fwIoU" in line)
    shown = [cell.strip() for cell in head.split("┃")]
    assert [c for c in shown if "IoU" in c] == [
        "fwIoU", "mIoU-I", "mBIoU", "mIoU stuff", "mIoU things"
    ]  # fmt: skip
    newest = results.runs(scenes_runs).to_pylist()[0]
    line = next(line for line in out.splitlines() if newest["run_id"] in line)
    cells = [cell.strip() for cell in line.split("│")]
    assert f"{newest['fwiou']:.2f}" in cells
    assert f"{newest['miou_i']:.2f}" in cells
    assert "-" in cells  # nobody asked for its boundaries


def test_a_run_whose_tables_are_damaged_has_no_score(sclip, scenes_runs, tmp_path):
    """Not those of the run before it; where no run has any, a line says why."""
    artifacts = shutil.copytree(scenes_runs, tmp_path / "a")
    rows = results.runs(artifacts).to_pylist()
    words = ("results", "--scores", "mdice", "--artifacts", artifacts)
    for row in rows[1:]:
        (artifacts / "results" / "class_iou" / f"{row['run_id']}.parquet").write_bytes(b"x")
    code, out, _ = sclip(*words)
    assert code == 0
    for row in rows:
        line = next(line for line in out.splitlines() if row["run_id"] in line)
        assert (line.split("│")[-2].strip() == "-") == (row is not rows[0])
    (artifacts / "results" / "class_iou" / f"{rows[0]['run_id']}.parquet").write_bytes(b"x")
    code, out, err = sclip(*words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "cannot be read" in err


def test_a_comparison_of_other_scores(sclip, scenes_runs, tmp_path):
    groups = tmp_path / "mine.csv"
    groups.write_text("class,group\nsky,above\ngrass,below\nsea,below\n")
    code, out, _ = sclip(
        "compare", "latest~3", "latest~2", "--scores", "mdice,miou_c5", "--groups", groups,
        "--artifacts", scenes_runs,
    )  # fmt: skip
    assert code == 0
    rows = [line.split("│")[1].strip() for line in out.splitlines() if line.startswith("│")]
    assert rows[:4] == ["mDice", "mIoU-C5", "mIoU above", "mIoU below"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--scores", "miuo"), "unknown score 'miuo'. Did you mean 'miou'?"),
        (("--scores", "biou"), "run it again with --boundary, which computes only these"),
        (("--groups", "voc21"), "unknown class in voc21.csv: 'aeroplane'"),
        (("--groups", "no.csv"), "no groups 'no.csv': expected a file of lines `class,group`"),
    ],
)
def test_what_there_is_not(sclip, scenes_runs, options, said):
    code, _, err = sclip("compare", "latest", "latest~1", *options, "--artifacts", scenes_runs)
    assert code == 2
    assert said in err
    assert len(err.splitlines()) == 1
