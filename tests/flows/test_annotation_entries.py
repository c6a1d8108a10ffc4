"""One faulty image, category or annotation in COCO's lists costs only itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from .annotated import CATEGORIES, RIGHT, H, W, coco, drawn, images_scored, own, run

__all__ = ["coco", "own", "run"]  # fixtures

ENTRIES: dict[str, tuple[Callable[[dict[str, Any]], object], str, int]] = {
    "an image twice, the same": (lambda d: d["images"].append({**d["images"][0]}), "", 3),
    "an image under two numbers": (
        lambda d: d["images"].append({**d["images"][0], "id": 50}),
        "left out: 0: SET, image '0.png' is there twice, with other numbers or sizes",
        2,
    ),
    "an image in two sizes": (
        lambda d: d["images"].append({**d["images"][0], "width": W + 1}),
        "left out: 0: SET, image '0.png' is there twice, with other numbers or sizes",
        2,
    ),
    "two images of one number": (
        lambda d: d["images"].append({**d["images"][0], "id": 2}),
        "left out: 1: SET: '1' and '0' are both image 2",
        1,
    ),
    "an image without a number": (
        lambda d: d["images"][0].pop("id"),
        "left out: 0: SET, image '0.png': 'id' is None; expected a whole number",
        2,
    ),
    "no size": (
        lambda d: d["images"][0].update(height=0, width=0),
        "left out: 0: SET, image '0.png': the image's size is [0, 0] (height, width); expected",
        2,
    ),
    "sizes as texts": (
        lambda d: [i.update(height=str(H), width=str(W)) for i in d["images"]],
        "",
        3,
    ),
    "an annotation of no image": (
        lambda d: d["annotations"].append({**d["annotations"][0], "id": 99, "image_id": None}),
        "note: SET: 1 annotation of images that it does not list: annotation 99 of image None",
        3,
    ),
    "an annotation of no category": (
        lambda d: d["annotations"][2].pop("category_id"),
        "annotation 3: category None is not listed: left out of the evaluation",
        3,
    ),
    "a category twice, the same": (
        lambda d: d["categories"].append({"id": 9, "name": "Road"}),
        "",
        3,
    ),
    "a category whose name is a number": (
        lambda d: d["categories"].append({"id": 10, "name": 12}),
        "",
        3,
    ),
    "a category without a name": (
        lambda d: (
            d["categories"].append({"id": 10, "name": None}),
            d["annotations"][2].update(category_id=10),
        ),
        "annotation 3: category 10 is not listed: left out of the evaluation",
        3,
    ),
}


@pytest.mark.parametrize("fault", ENTRIES)
def test_a_faulty_entry_costs_only_itself(fault, coco, run, tmp_path):
    change, says, scored = ENTRIES[fault]
    labels = coco()
    loaded = json.loads(labels.read_text())
    change(loaded)
    labels.write_text(json.dumps(loaded))
    for _ in range(2):
        code, err = run(labels)
        assert code == (1 if says else 0), err
        assert not says or any(says.replace("SET", str(labels)) in line for line in err)
        assert says or not any(str(labels) in line for line in err)
        assert images_scored(tmp_path) == scored
    if scored == 3 and "categor" not in fault:
        np.testing.assert_array_equal(drawn(tmp_path), RIGHT)


def test_a_category_of_two_names_is_refused(coco, run):
    code, err = run(coco(categories=[*CATEGORIES, {"id": 9, "name": "sky"}]))
    assert code == 2
    assert "category 9 is there twice; remove or rename one" in err[-1]
