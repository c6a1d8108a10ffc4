"""A run in a few lines of Markdown."""

from __future__ import annotations

import doctest
import shutil

import pytest

from sclip_core import results
from sclip_core.evaluation import bootstrap
from sclip_core.report import page, summary
from sclip_core.report.summary import plain, score_intervals, score_lines, small_panel

from ..results.runs import made_run


def test_the_hardest_classes_come_first(scenes_runs):
    run_id = results.find_run("latest~3", scenes_runs)
    (line,) = [line for line in score_lines(run_id, scenes_runs) if "hardest" in line]
    asked = f"select class_name, iou from class_iou where run_id = '{run_id}' and iou is not null"
    worst = results.query(f"{asked} order by iou limit 5", scenes_runs).to_pylist()
    assert line.endswith(", ".join(f"{row['class_name']} {row['iou']:.1f}" for row in worst))


def test_the_image_in_the_middle_is_shown(scenes_runs):
    run_id = results.find_run("latest~3", scenes_runs)
    found = small_panel(run_id, scenes_runs)
    assert found is not None
    assert found[1].startswith("data:image/webp;base64,")
    assert len(found[1]) < 150_000
    pairs = results.paired([run_id], scenes_runs)
    scored = page.image_scores(pairs.areas)[0]
    middle = scored[pairs.images.index(found[0])]
    assert sum(scored < middle) <= len(scored) / 2
    assert sum(scored > middle) <= len(scored) / 2


def test_what_is_gone_is_not_shown(scenes_runs, tmp_path):
    artifacts = shutil.copytree(scenes_runs, tmp_path / "artifacts")
    shutil.rmtree(artifacts / "refine")
    assert small_panel(results.find_run("latest~3", artifacts), artifacts) is None


@pytest.mark.parametrize("sign", "\\`*_{}[]<>()#+!|~")
def test_names_stay_names(tmp_path, sign):
    made_run(tmp_path, "a", {"one": [(1, 2, 2)] * 3}, names=(f"x{sign}y", "b", "c"))
    lines = score_lines("a", tmp_path)
    assert f"x\\{sign}y 33.3" in "\n".join(lines)


def test_examples_in_docstrings():
    for module in (summary, page):
        found = doctest.testmod(module)
        assert found.attempted
        assert not found.failed
    assert plain("a b") == "a b"


def test_intervals_are_those_of_the_bootstrap(scenes_runs):
    run_id = results.find_run("latest~3", scenes_runs)
    drawn = bootstrap(results.paired([run_id], scenes_runs).areas)
    for name, score in (("mIoU", "miou"), ("mAcc", "macc"), ("aAcc", "aacc")):
        value, low, high = drawn.of(score)
        shown = f"{value:.2f} [{low:.2f}, {high:.2f}]"
        assert score_intervals(run_id, scenes_runs)[name] == shown
        assert f"| {name} | {shown} |" in score_lines(run_id, scenes_runs)


def test_too_few_images_have_none(tmp_path):
    made_run(tmp_path, "a", {str(n): [(1, 2, 2)] * 3 for n in range(4)})
    assert score_intervals("a", tmp_path) == {"mIoU": "33.33", "mAcc": "50.00", "aAcc": "50.00"}
