"""The mistakes that are made with label maps, told by their values."""

from __future__ import annotations

import numpy as np
import pytest

from sclip_core.config import ImageError
from sclip_core.datasets.causes import BY_HIGHEST, likely_cause, suspicion
from sclip_core.datasets.labels import label_classes


@pytest.mark.parametrize(
    ("values", "classes", "says"),
    [
        ({0, 181, 255}, 171, "ids up to 181: these are raw stuff maps, run `sclip data prepare"),
        ({172}, 171, "raw stuff maps"),
        ({0, 171}, 171, "shifted by one"),
        ({182}, 171, "shifted by one"),
        ({0, 181}, 81, "`sclip data prepare coco_object`"),
        ({0, 81, 255}, 81, "`sclip data prepare coco_object`"),
        ({7, 33}, 19, "Cityscapes' labelIds, run `sclip data prepare cityscapes`"),
        ({7, 19}, 19, "labelIds"),
        ({0, 459}, 59, "`sclip data prepare context60`"),
        ({0, 60}, 60, "raw maps of PASCAL Context"),
        ({0, 220, 255}, 21, "take the palette PNGs"),
        ({0, 220}, 20, "take the palette PNGs"),
        ({0, 3000}, 150, "ADEChallengeData2016"),
        ({0, 151}, 150, "ADEChallengeData2016"),
    ],
)
def test_a_known_mistake_is_told_by_the_highest_value(values, classes, says):
    line = likely_cause(values, classes)
    assert line is not None
    assert says in line


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (set(), 171),
        ({255}, 171),
        ({0, 170, 255}, 171),
        ({0, 183}, 171),
        ({0, 80}, 81),
        ({0, 18, 255}, 19),
        ({0, 34}, 19),
        ({0, 59}, 60),
        ({0, 20}, 21),
        ({0, 150}, 150),
        ({0, 181}, 7),  # a vocabulary of one's own
    ],
)
def test_what_fits_or_is_not_known_has_no_cause(values, classes):
    assert likely_cause(values, classes) is None


def test_every_cause_is_beyond_the_classes_it_is_told_of():
    for cause in BY_HIGHEST:
        assert cause.lowest <= cause.highest
        assert all(cause.lowest >= classes for classes in cause.classes)


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
    with pytest.raises(ImageError, match="run `sclip data prepare cityscapes`"):
        label_classes(np.array([[7, 26], [33, 255]]), 19)
