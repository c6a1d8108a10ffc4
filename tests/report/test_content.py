"""What the report says is what was measured: against the tables, label maps and a slow loop."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from sclip_core import results
from sclip_core.evaluation import Areas, image_areas, scores
from sclip_core.report.confusion import confused_run
from sclip_core.report.content import gather
from sclip_core.report.pictures import EACH, Painter, choose
from sclip_core.results import paired
from sclip_core.results.files import read_run
from sclip_core.results.past_run import LabelMaps, Source
from sclip_core.results.ranking import image_scores

from ..results.runs import made_run

KINDS = {"baseline": "latest", "hybrid": "latest~1", "pamr": "latest~2", "csa": "latest~3"}


@pytest.fixture(params=KINDS)
def run(request, scenes_runs):
    """The row of a run of each kind."""
    return read_run(scenes_runs, results.find_run(KINDS[request.param], scenes_runs))[0]


def test_stored_label_maps_are_those_that_were_scored(run, scenes_runs):
    source, maps = Source(scenes_runs, run), LabelMaps(scenes_runs, run)
    stored = results.image_areas(run["run_id"], scenes_runs).to_pylist()
    for image in {row["image_id"] for row in stored}:
        said, truth = maps.read(source.digest(image)), source.truth(image)
        assert source.image(image).shape[:2] == truth.shape == said.shape
        filled = np.where(said < 0, 99, said).astype(np.uint8)
        again = image_areas(filled, truth, 15, unlabelled=99)
        for row in (row for row in stored if row["image_id"] == image):
            assert [area[row["class_id"]] for area in again] == [
                row[name] for name in Areas._fields
            ]
    assert maps.provenance["versions"]["torch"]


def test_confusions_by_a_slow_loop(run, scenes_runs):
    source, maps = Source(scenes_runs, run), LabelMaps(scenes_runs, run)
    pairs = paired([run["run_id"]], scenes_runs)
    names = [*pairs.class_names, "no label"]
    counted: Counter[tuple[str, str]] = Counter()
    for image in pairs.images:
        said, truth = maps.read(source.digest(image)), source.truth(image)
        for pair, count in Counter(zip(truth.flat, said.flat, strict=True)).items():
            if pair[0] >= 0:
                counted[names[pair[0]], names[pair[1]]] += count
    found = confused_run(0, pairs, scenes_runs)
    assert found is not None
    for line in found.lines:
        mine = {said: n for (is_, said), n in counted.items() if is_ == line.name}
        assert line.pixels == sum(mine.values())
        assert line.right == pytest.approx(100 * mine.pop(line.name, 0) / line.pixels)
        largest = sorted(mine.values(), reverse=True)[:3]
        shares = [mistake.percent for mistake in line.mistakes]
        assert shares == pytest.approx([100 * n / line.pixels for n in largest])
        total = line.right + sum(shares) + line.rest
        assert total == pytest.approx(100)
    place = {name: k for k, name in enumerate(found.matrix.names)}
    for (is_, said), n in counted.items():
        line = next(line for line in found.lines if line.name == is_)
        if {is_, said} <= set(place):
            share = found.matrix.shares[place[is_], place[said]]
            assert share == pytest.approx(100 * n / line.pixels)


def test_the_page_tells_the_tables(scenes_runs):
    names = [KINDS[kind] for kind in ("csa", "pamr", "hybrid")]
    content = gather(names, scenes_runs)
    assert [run.letter for run in content.runs] == ["A", "B", "C"]
    for run in content.runs:
        for name, score in (("mIoU", "miou"), ("mAcc", "macc"), ("aAcc", "aacc")):
            value, low, high = run.scores[name]
            assert value == pytest.approx(run.row[score])
            assert low <= value <= high
    assert content.runs[0].gains == {}
    table = results.compare(*names, artifacts=scenes_runs).to_pylist()
    second = [row for row in table if row["run_id"] == content.runs[1].row["run_id"]]
    assert content.runs[1].gains["mIoU"][0] == pytest.approx(second[0]["difference"])
    for line in content.classes:
        row = next(row for row in second if row["class_name"] == line.name)
        assert line.ious[1].value == pytest.approx(row["value"])
        assert (line.gains[1] is None) == (row["low"] is None)
        if line.gains[1]:
            assert line.gains[1] == pytest.approx((row["difference"], row["low"], row["high"]))
    assert sum(line.share for line in content.classes) == pytest.approx(100)
    assert "pamr_steps 3" in content.runs[1].what
    differing = [setting.name for setting in content.settings if setting.differs]
    assert differing[:2] == ["mode", "pamr_steps"]
    assert [s.name for s in content.settings[: len(differing)]] == differing
    stages = {stage.name: stage for stage in content.stages}
    assert stages["refine"].states[:2] == ["computed", "computed"]
    assert stages["hybrid"].states == [None, None, "computed"]
    few, rare = content.notes
    assert few == "8 images: intervals of so few say little."
    assert rare.startswith(f"{sum(line.images < 5 for line in content.classes)} of the ")


def test_the_score_of_an_image():
    areas = Areas(*np.random.default_rng(0).integers(1, 90, (3, 6, 4)))
    areas.label[2] = areas.prediction[2] = areas.intersect[2] = 0
    found = image_scores([areas])
    for image in range(6):
        alone = scores(Areas(*(area[image] for area in areas)))
        np.testing.assert_equal(found[0, image], alone.miou)


def test_which_images_are_shown():
    rng = np.random.default_rng(1)
    values = rng.permutation(100.0 * np.arange(40) / 40)
    values[7] = np.nan
    other = values.copy()
    other[[3, 4]] += 50
    images = [f"i{n}" for n in range(40)]
    chosen = {
        choice.title: choice.image_ids for choice in choose(images, np.stack([values, other]))
    }
    moved, worst, best, lot = chosen.values()
    assert set(moved[:2]) == {"i3", "i4"}
    order = [images[i] for i in np.argsort(values) if not np.isnan(values[i])]
    assert worst == order[:EACH]
    assert best == order[::-1][:EACH]
    assert not {*lot} & {*moved, *worst, *best}
    assert len(lot) == EACH
    assert "i7" not in [image for each in chosen.values() for image in each]
    alone = choose(images[:3], values[None, :3])
    assert [choice.title for choice in alone] == ["worst images"]


def test_no_more_pictures_than_there_is_room(scenes_runs):
    run_id = results.find_run("latest~3", scenes_runs)
    row = read_run(scenes_runs, run_id)[0]
    pairs = paired([run_id], scenes_runs)
    scored = image_scores(pairs.areas)
    by_image = dict(zip(pairs.images, scored.T.tolist(), strict=True))
    runs = [("A", LabelMaps(scenes_runs, row))]
    truths = dict(zip(pairs.images, pairs.areas[0].label, strict=True))
    painter = Painter(Source(scenes_runs, row), runs, pairs.class_names, by_image, truths)
    sizes = []
    for budget in (10, 100_000, 10_000_000):
        choices = choose(pairs.images, scored)
        assert painter.draw(choices, budget) == []
        drawn = [panel for choice in choices for panel in choice.panels]
        size = sum(len(uri) for panel in drawn for _, uri in panel.pictures)
        assert size <= budget
        sizes.append(len(drawn))
    assert sizes[0] == 0 < sizes[1] < sizes[2] == len(pairs.images)


def test_too_few_images_have_no_interval(tmp_path):
    """As `compare` says: neither of a score nor of a class."""
    for run_id, gain in (("a", 0), ("b", 5)):
        images = {str(n): [(10 + n + gain, 40, 40), (5, 9, 9), (0, 0, 0)] for n in range(4)}
        made_run(tmp_path, run_id, images, versions="{}")
    content = gather(["a", "b"], tmp_path)
    for run in content.runs:
        for value, low, high in [*run.scores.values(), *run.gains.values()]:
            assert not np.isnan(value)
            assert np.isnan(low)
            assert np.isnan(high)
    assert {line.gains[1] for line in content.classes} == {None}
    assert all(np.isnan(iou.low) for line in content.classes for iou in line.ious)
    table = results.compare("a", "b", artifacts=tmp_path)
    assert set(table["low"].to_pylist()) == {None}


def test_more_numbers_are_those_of_the_library(scenes_runs):
    names = [results.find_run(f"latest~{k}", scenes_runs) for k in (3, 2)]
    content = gather(names, scenes_runs)
    tables = [results.scores(name, groups="scenes", artifacts=scenes_runs) for name in names]
    for place, table in enumerate(tables):
        rows = {row["name"]: row for row in table.to_pylist()}
        assert {"fwIoU", "mIoU-I5", "mIoU things"} < {line.name for line in content.numbers}
        for line in content.numbers:
            found, row = line.values[place], rows[line.name]
            wanted = row["value"], row["low"], row["high"]
            assert (found.value, found.low, found.high) == pytest.approx(wanted)
        assert (content.numbers[0].gains[place] is None) == (place == 0)
