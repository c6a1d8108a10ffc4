"""The mistakes that are made with label maps, told by their values."""

from __future__ import annotations

import numpy as np
import pytest

from sclip_core.config import tables
from sclip_core.datasets import StrayValueError, Vocabulary, label_classes
from sclip_core.datasets.causes import likely_cause, own_cause, suspicion


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
    """However many classes it has, a value that may be a class is never simply to be ignored."""
    assert likely_cause({0, highest}, None) is None
    for classes in (19, 20, 21, 59, 60, 81, 150, 171):
        if highest == classes:
            said = f"pass --reduce-zero-label; if {highest} means 'not labelled', pass --ignore"
        else:
            said = "1000 x class" if highest == 3000 else "classes that the vocabulary lacks"
        if highest >= classes:
            with pytest.raises(StrayValueError, match=said):
                label_classes(np.array([[0, highest]]), classes)


@pytest.mark.parametrize(
    ("values", "num_classes", "says", "never"),
    [
        ({0: 9, 128: 5, 255: 3}, 3, "pass --label-values 0,128,255", "--ignore-label"),
        ({0: 9, 10: 5, 20: 3}, 3, "pass --label-values 0,10,20", "--ignore-label"),
        ({0: 9, 65535: 5}, 2, "as many values as classes", "nothing"),
        ({0: 9, 1: 9, 2: 9, 4: 5}, 4, "if 4 means 'not labelled', pass --ignore-label", "as many"),
        ({0: 9, 2: 5}, 2, "as many values as classes", "nothing"),
        ({0: 9, 1: 5, 65535: 5}, 5, "pass --ignore-label 255,65535", "--label-values"),
        ({0: 9, -1: 5}, 5, "pass --ignore-label 255,-1", "--label-values"),
        ({0: 9, 1007: 5, 2007: 5}, 19, "1000 x class + instance", "--ignore-label"),
        ({7: 9, 26001: 5, 26002: 5}, 19, "1000 x class + instance", "--ignore-label"),
        ({256: 9, 513: 5, 700: 1}, 66, "256 x class + instance", "--ignore-label"),
        ({0: 9, 10_000_000: 5}, 9, "ids of segments", "--ignore-label"),
        ({0: 9, -1_294_967_296: 5}, 9, "ids of segments in 32 bits", "--ignore-label"),
        ({0: 9, 1: 5, 2: 5, 3: 5, 4: 5}, 3, "give each value up to 4 a line", "--ignore-label"),
        ({1: 9, 2: 5, 3: 5}, 3, "1 is the first class, pass --reduce-zero-label", "nothing"),
        (dict.fromkeys(range(256), 40), 2, "smoothed; export", "--ignore-label"),
        ({0: 9000, 255: 900, **dict.fromkeys(range(9, 99), 1)}, 2, "smoothed", "--ignore-label"),
    ],
)
def test_what_values_beyond_the_classes_of_ones_own_most_likely_are(
    values, num_classes, says, never
):
    line = own_cause(values, num_classes)
    assert says in line
    assert never not in line
    assert "\n" not in line


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
