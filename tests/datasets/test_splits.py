"""Another split's files, by those of the one that is evaluated."""

from __future__ import annotations

import pytest

from sclip_core.datasets.splits import of_split

ADE = {"images": "images/validation/*.jpg", "labels": "annotations/validation/*.png"}


@pytest.mark.parametrize("split", ["val", "validation"])
def test_the_usual_split_by_either_name(split):
    assert of_split(ADE, split) == [ADE]


def test_another_split_may_be_called_training():
    found = [layout["images"] for layout in of_split(ADE, "train")]
    assert found == ["images/train/*.jpg", "images/training/*.jpg"]
