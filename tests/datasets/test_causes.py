"""The mistakes that are made with label maps, told by their values."""

from __future__ import annotations

import numpy as np
import pytest

from sclip_core.config import tables
from sclip_core.datasets import StrayValueError, Vocabulary, label_classes
from sclip_core.datasets.causes import likely_cause, suspicion


@pytest.mark.parametrize(
    ("values", "layout", "says"),
    [
        ({0, 181, 255}, "coco_stuff", "ids up to 181: these are raw stuff maps, run `sclip data"),
        ({172}, "coco_stuff", "raw stuff maps"),
        ({0, 171}, "coco_stuff", "shifted by one"),
        ({182}, "coco_stuff", "shifted by one"),
        ({0, 181}, "coco_object", "`sclip data prepare coco_object`"),
        ({0, 81, 255}, "coco_object", "`sclip data prepare coco_object`"),
        ({7, 33}, "cityscapes", "Cityscapes' labelIds, run `sclip data prepare cityscapes`"),
        ({7, 19}, "cityscapes", "labelIds"),
        ({0, 459}, "voc2010", "`sclip data prepare context60`"),
        ({0, 60}, "voc2010", "raw maps of PASCAL Context"),
        ({0, 220, 255}, "voc2012", "take the palette PNGs"),
        ({0, 3000}, "ade20k", "ADEChallengeData2016"),
        ({0, 151}, "ade20k", "ADEChallengeData2016"),
    ],
)
def test_a_known_mistake_is_told_by_the_highest_value(values, layout, says):
    line = likely_cause(values, layout)
    assert line is not None
    assert says in line


@pytest.mark.parametrize(
    ("values", "layout"),
    [
        (set(), "coco_stuff"),
        ({255}, "coco_stuff"),
        ({0, 170, 255}, "coco_stuff"),
        ({0, 183}, "coco_stuff"),
        ({0, 80}, "coco_object"),
        ({0, 18, 255}, "cityscapes"),
        ({0, 34}, "cityscapes"),
        ({0, 59}, "voc2010"),
        ({0, 20}, "voc2012"),
        ({0, 150}, "ade20k"),
        ({0, 181}, "scenes"),
    ],
)
def test_what_fits_or_is_not_known_has_no_cause(values, layout):
    assert likely_cause(values, layout) is None


@pytest.mark.parametrize("highest", [20, 25, 33, 70, 171, 181, 3000])
def test_a_set_of_ones_own_is_no_benchmark(highest):
    """However many classes it has: what helps is to say which value is not labelled."""
    assert likely_cause({0, highest}, None) is None
    for classes in (19, 20, 21, 59, 60, 81, 150, 171):
        if highest >= classes:
            with pytest.raises(StrayValueError, match=f"pass --ignore-label 255,{highest}"):
                label_classes(np.array([[0, highest]]), classes)


def test_every_cause_is_beyond_the_classes_of_its_layout():
    known = {
        name: row["mistakes"] for name, row in tables()["layouts"].items() if "mistakes" in row
    }
    assert len(known) == 6
    for layout, mistakes in known.items():
        rows = [r for r in tables()["benchmarks"].items() if r[1]["layout"] == layout]
        last = [
            Vocabulary.named(name).num_classes - 1 + row["reduce_zero_label"] for name, row in rows
        ]
        for mistake in mistakes:
            lowest, highest = mistake["highest"]
            assert max(last) < lowest <= highest


@pytest.mark.parametrize(
    ("layout", "says"),
    [
        ("ade20k", "taken away already"),
        ("voc2010", "taken away already"),
        ("coco_object", "count them as background"),
    ],
)
def test_255_is_odd_where_the_published_maps_have_none(layout, says):
    line = suspicion(layout, [0, 1, 255])
    assert line is not None
    assert line.startswith("value 255 occurs: ")
    assert says in line
    assert suspicion(layout, [0, 1, 80]) is None


@pytest.mark.parametrize("layout", ["voc2012", "coco_stuff", "cityscapes", "scenes"])
def test_255_is_expected_elsewhere(layout):
    assert suspicion(layout, [0, 1, 255]) is None


def test_a_run_names_the_cause_too():
    with pytest.raises(StrayValueError, match="run `sclip data prepare cityscapes`"):
        label_classes(np.array([[7, 26], [33, 255]]), 19, layout="cityscapes")
