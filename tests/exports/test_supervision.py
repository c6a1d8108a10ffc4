"""supervision's Detections of a label map, drawn by its own annotator."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from sclip_core import Segmentation, UserError
from sclip_core.exports import to_supervision

NAMES = ("sky", "grass", "cat")
LABELS = np.array([[0, 0, 2, 2], [0, 0, 2, 255], [0, 0, 0, 255]], np.uint8)


@pytest.fixture
def sv():
    return pytest.importorskip("supervision")


def test_a_detection_for_each_class(sv):
    found = Segmentation(LABELS, NAMES).to_supervision()
    assert isinstance(found, sv.Detections)
    assert found.class_id.tolist() == [0, 2]
    assert found.data["class_name"].tolist() == ["sky", "cat"]
    np.testing.assert_array_equal(found.mask, np.stack([LABELS == 0, LABELS == 2]))
    np.testing.assert_array_equal(found.xyxy, [[0, 0, 2, 2], [2, 0, 3, 1]])
    np.testing.assert_array_equal(found.area, [7, 3])


def test_its_annotator_paints_the_masks(sv):
    found = to_supervision(LABELS, NAMES)
    palette = sv.ColorPalette.from_hex(["#ff0000", "#00ff00", "#0000ff"])
    annotator = sv.MaskAnnotator(palette, opacity=1, color_lookup=sv.ColorLookup.CLASS)
    shown = annotator.annotate(np.zeros((*LABELS.shape, 3), np.uint8), found)  # BGR
    expected = np.zeros_like(shown)
    expected[LABELS == 0] = (0, 0, 255)
    expected[LABELS == 2] = (255, 0, 0)
    np.testing.assert_array_equal(shown, expected)


def test_of_a_stored_label_map(sv, gappy):
    for image in gappy:
        found = to_supervision(image.labels, gappy.class_names)
        assert found.area.sum() == (image.labels >= 0).sum()


def test_without_any_class(sv):
    assert len(to_supervision(np.full((2, 2), -1), NAMES)) == 0


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(UserError, match=r"^supervision is not installed: .*\[supervision\]'$"):
        Segmentation(LABELS, NAMES).to_supervision()
