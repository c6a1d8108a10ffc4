"""``sclip sweep``: a grid in one command, which point is best, and what that is worth."""

from __future__ import annotations

import re
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure
from PIL import Image

from flows.cli.points import points_table, verdict
from sclip_core import results
from sclip_core.config import resolve_several
from sclip_core.evaluation import Resampled, bootstrap
from sclip_core.report.sweep_plot import Chart, axis_of, lines_of
from sclip_core.results.points import Points

from .conftest import flags

GRID = {"pamr_steps": "0,2", "pamr_dilations": "8,16;1,2", "prob_thd": "0.3,0.1"}
ROW = re.compile(
    r"│ (\d+) +│ (\S+) +│ (\S+) +│ +(\*?) *([\d.]+) │ +\[ *([\d.]+), +([\d.]+)\] │.*│ (\S+) │"
)


def test_every_point_is_the_run_that_it_names(own, tmp_path, sclip, windows):
    artifacts = tmp_path / "artifacts"
    code, out, err = sclip("sweep", "--direct", *flags(own, artifacts, **GRID))
    assert code == 0, err
    rows = [match.groups() for match in map(ROW.match, out.splitlines()) if match]
    assert [row[:3] for row in rows] == [
        (steps, dilations, threshold)
        for steps, dilations in (("0", "-"), ("2", "8,16"), ("2", "1,2"))
        for threshold in ("0.3", "0.1")
    ]
    once = sum(windows)
    windows.clear()
    for steps, dilations, threshold, _, miou, *_, run_id in rows[1::2]:
        values = {"pamr_steps": steps, "prob_thd": threshold}
        values |= {} if dilations == "-" else {"pamr_dilations": dilations}
        assert sclip("run", "--direct", *flags(own, tmp_path / "alone", **values))[0] == 0
        row = pq.read_table(tmp_path / "alone" / "results" / "runs" / f"{run_id}.parquet")
        assert f"{row['miou'][0].as_py():.2f}" == miou
    assert sum(windows) == once > 0  # one run encodes as much as the sweep
    assert err.count("is scored") == 6
    (best,) = [row for row in rows if row[3]]
    assert float(best[4]) == max(float(row[4]) for row in rows)
    assert f"best: pamr_steps {best[0]}, " in out
    assert f"mIoU {best[4]} [{best[5]}, {best[6]}]" in out
    assert next((artifacts / "sweeps").iterdir()).suffix == ".png"


def test_a_wider_grid_encodes_nothing(own, tmp_path, sclip, windows):
    artifacts = tmp_path / "artifacts"
    assert sclip("run", "--direct", *flags(own, artifacts))[0] == 0
    assert windows
    windows.clear()
    grid = {"pamr_steps": "0,1", "area_thd": "0,0.1", "proposals": "felzenszwalb"}
    grid |= {"hybrid_rule": "vote,pool"}
    code, out, err = sclip("sweep", "--direct", *flags(own, artifacts, **grid))
    assert code == 0, err
    assert "8 points" in out
    assert not windows
    assert err.count("proposals       computed") == 1


def test_intervals_and_the_difference_are_those_of_compare(own, tmp_path, sclip):
    artifacts = tmp_path / "artifacts"
    given = flags(own, artifacts, pamr_steps="0,2,5", prob_thd=0)
    code, out, _ = sclip("sweep", "--direct", *given)
    assert code == 0
    runs = {row["pamr_steps"]: row for row in results.runs(artifacts).to_pylist()}
    best, following, _ = sorted(runs.values(), key=lambda row: -row["miou"])
    row = results.compare(following["run_id"], best["run_id"], artifacts=artifacts).to_pylist()[0]
    (line,) = [line for line in out.splitlines() if line.startswith("next: ")]
    said = f"pamr_steps {following['pamr_steps']}: mIoU {following['miou']:.2f}; the best has "
    assert f"{said}{row['difference']:+.2f} [" in line
    pairs = results.paired([best["run_id"], following["run_id"]], artifacts)
    gain = bootstrap(pairs.areas).difference("miou", 0, 1)
    assert f" [{gain.low:+.2f}, {gain.high:+.2f}]" in line


def test_values_that_change_nothing_are_said_to(own, tmp_path, sclip):
    given = flags(own, tmp_path / "artifacts", logit_scale="30,40,50", prob_thd=0)
    code, out, err = sclip("sweep", "--direct", *given)
    assert code == 0
    assert "note: logit_scale changes no label without prob_thd: 30, 40 and 50 are one" in err
    assert "1 point" in out
    assert "no plot: there is one point" in out
    assert "best" not in out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--attention=csa,kk"], ["several values of attention", "pamr_steps", "`sclip run`"]),
        (["--mode=dense,hybrid", "--use-sam"], ["several values of mode", "encodes no image"]),
        (["--short-side=336,448"], ["--short-side", "'336,448'", "pamr_steps", "area_thd"]),
        (["--model=ViT-B-16,ViT-L-14"], ["several values of model", "logit_scale"]),
        (["--dtype=fp32,fp16"], ["several values of dtype", "give one"]),
        (["--stability-score-thresh=0.8,0.9"], ["--stability-score-thresh", "'0.8,0.9'"]),
        (["--prob-thd=0,2"], ["prob_thd=2", "less than or equal to 1"]),
        (["--plot=plot.jpg"], ["plot.jpg", ".png, .svg"]),
        (["--plot=nowhere/plot.png"], ["no folder nowhere"]),
    ],
)
def test_refused(small, tmp_path, sclip, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    given = flags(small, tmp_path / "artifacts", pamr_steps="0,1")
    kept = [f for f in given if not f.startswith(options[0].split("=")[0] + "=")]
    code, _, err = sclip("sweep", "--direct", *kept, *options)
    line = err.splitlines()[-1]
    assert code == 2
    assert line.startswith("sclip: ")
    assert not [word for word in words if word not in line], line
    assert not list((tmp_path / "artifacts").glob("*/*/ledger.jsonl"))


def test_several_in_a_file_are_refused_too(small, tmp_path, sclip):
    (tmp_path / "pipeline.yaml").write_text("sclip: {attention: [csa, kk]}")
    given = flags(small, tmp_path / "artifacts", config=tmp_path / "pipeline.yaml")
    code, _, err = sclip("sweep", "--direct", *given)
    assert code == 2
    assert "several values of attention" in err


def test_without_ground_truth(small, tmp_path, sclip):
    given = [f for f in flags(small, tmp_path / "artifacts") if not f.startswith("--labels=")]
    code, _, err = sclip("sweep", "--direct", *given, "--pamr-steps=0,1")
    assert code == 2
    assert "no ground truth: pass --labels DIR" in err.splitlines()[-1]


def test_without_matplotlib(small, tmp_path, sclip, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    given = flags(small, tmp_path / "artifacts", pamr_steps="0,1")
    code, out, err = sclip("sweep", "--direct", *given)
    assert code == 0, err
    assert "2 points" in out
    assert "no plot: matplotlib is not installed: pip install 'sclip-benchmark[plot]'" in out


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_plot(small, tmp_path, sclip, ending):
    target = tmp_path / f"plot.{ending}"
    given = flags(small, tmp_path / "artifacts", pamr_steps="0,1", prob_thd="0,0.1", plot=target)
    code, out, err = sclip("sweep", "--direct", *given)
    assert code == 0, err
    assert f"plot: {target}" in out
    if ending == "png":
        picture = np.asarray(Image.open(target).convert("L"))
        assert (picture < 128).mean() > 0.001
    else:
        assert "<svg" in target.read_text()
    assert not (tmp_path / "artifacts" / "sweeps").exists()


def points(miou: dict[tuple, list[float]], *names: str, **others: object) -> Points:
    """Points by the values of their settings, with the mIoU of the set and of a few draws."""
    settings, scores = [], []
    for values, drawn in miou.items():
        given = {"dataset": "voc21", "data_root": "nowhere", **others}
        settings += resolve_several(**given, **dict(zip(names, values, strict=True)))
        scores.append(drawn)
    array = np.array(scores, float)
    resampled = Resampled(array, array, array, np.zeros((*array.shape, 0)))
    ids = tuple(f"voc21-{number}" for number in range(len(settings)))
    return Points(tuple(settings), ids, (None,) * len(ids), 50, resampled)


class TestVerdict:
    def test_of_one_point(self):
        assert list(verdict(points({(0,): [50, 49, 51]}, "pamr_steps"))) == []

    def test_what_cannot_be_told_apart(self):
        near = {(0,): [50, 40, 60], (5,): [60, 50, 70], (10,): [61, 48, 72]}
        best, following, usual, caution = verdict(points(near, "pamr_steps"))
        assert best.startswith("best: pamr_steps 10: mIoU 61.00 [")
        assert following.startswith("next: pamr_steps 5: mIoU 60.00; the best has +1.00 [-1.")
        assert following.endswith("these images cannot tell the two apart")
        assert usual.startswith("the protocol's own: pamr_steps 0: mIoU 50.00; the best has +11.0")
        assert "tell" not in usual
        assert caution.endswith("they do not tell it from 1 of the 2 others.")

    def test_the_same_scores(self):
        same = {(0,): [50, 40, 60], (0.1,): [50, 40, 60], (0.2,): [50, 40, 60], (0.5,): [9, 8, 9]}
        lines = list(verdict(points(same, "prob_thd")))
        assert lines[0].startswith("best: prob_thd 0: ")
        assert lines[1] == "the same mIoU: prob_thd 0.1, and 1 more"
        assert lines[2].startswith("next: prob_thd 0.5: mIoU 9.00; the best has +41.00")

    def test_the_best_is_the_usual_one(self):
        lines = list(verdict(points({(65,): [9, 9], (30,): [8, 8]}, "logit_scale", prob_thd=0.1)))
        assert "the best is the protocol's own" in lines
        assert lines[-1].endswith("they tell it from all others.")

    def test_few_images_are_said_to_be_few(self):
        few = points({(0,): [1, 1], (1,): [2, 2]}, "pamr_steps")
        few = Points(few.settings, few.run_ids, few.seconds, 7, few.scores)
        assert list(verdict(few))[-1] == "7 images: intervals of so few say little"

    def test_undefined_is_not_the_best(self):
        odd = points({(0,): [np.nan, np.nan], (1,): [2, 2]}, "pamr_steps")
        assert next(verdict(odd)).startswith("best: pamr_steps 1: ")
        assert points_table(odd).row_count == 2


STEPS_AND_DILATIONS = {
    (0, "8,16"): [50, 49, 51],
    (5, "8,16"): [60, 59, 62],
    (5, "1,2"): [55, 54, 56],
    (10, "8,16"): [61, 58, 62],
    (10, "1,2"): [57, 55, 58],
}


class TestLines:
    def test_a_point_without_a_choice_is_on_every_line(self):
        found = points(STEPS_AND_DILATIONS, "pamr_steps", "pamr_dilations")
        assert axis_of(found) == "pamr_steps"
        lines = lines_of(found, "pamr_steps")
        assert [(line.label, line.points) for line in lines] == [
            ("pamr_dilations 8,16", (0, 1, 3)),
            ("pamr_dilations 1,2", (0, 2, 4)),
        ]

    def test_a_point_that_the_axis_does_not_move_is_a_flat_line(self):
        grid = {(65, 0): [50, 49], (30, 0.1): [51, 50], (65, 0.1): [52, 50]}
        found = points(grid, "logit_scale", "prob_thd")
        assert axis_of(found) == "logit_scale"
        sloping, flat = lines_of(found, "logit_scale")
        assert (sloping.label, sloping.points, sloping.flat) == ("prob_thd 0.1", (1, 2), False)
        assert (flat.label, flat.points, flat.flat) == ("prob_thd 0", (0,), True)

    def test_what_is_drawn_are_the_scores(self):
        found = points(STEPS_AND_DILATIONS, "pamr_steps", "pamr_dilations")
        axis = Figure().subplots()
        lines = lines_of(found, "pamr_steps")
        chart = Chart(axis, found, "pamr_steps", len(lines))
        for number, line in enumerate(lines):
            chart.draw(line, number)
        chart.label(0)
        first, ring, second = (line.get_xydata().tolist() for line in axis.lines)
        assert first == [[0, 50], [5, 60], [10, 61]]
        assert second == [[0, 50], [5, 55], [10, 57]]
        assert ring == [[10, 61]]
        assert axis.get_xticks().tolist() == [0, 5, 10]
        assert "the best of 5 points is ringed" in axis.get_title("left")

    def test_names_stand_side_by_side(self):
        found = points({("8,16",): [60, 59], ("1,2",): [55, 50]}, "pamr_dilations", pamr_steps=5)
        axis = Figure().subplots()
        (line,) = lines_of(found, axis_of(found))
        chart = Chart(axis, found, "pamr_dilations", 1)
        chart.draw(line, 0)
        chart.label(3)
        assert axis.lines[0].get_xydata().tolist() == [[1, 55], [0, 60]]
        assert [label.get_text() for label in axis.get_xticklabels()] == ["8,16", "1,2"]
        assert "the 1 best of 4 lines" in axis.get_title("left")
