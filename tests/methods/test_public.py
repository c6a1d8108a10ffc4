"""Every method through the public API: logits and labels of the golden images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sclip_core import SCLIP

from ..conftest import IMAGES
from .cases import CASES, CLIP, rgb

PORTRAIT = IMAGES[1]
QUICK = {  # sets of the portrait image in the fast suite, of different windows and decisions
    "sc-clip": ("voc21", "ade20k"),
    "pearl": ("voc21", "coco_object", "cityscapes"),
    "resclip": ("voc20", "voc21"),
    "itaclip": (),
    "proxyclip": ("voc21_thd0", "cityscapes"),
    "gla-clip": ("voc21_thd0",),
    "corrclip": ("coco_object", "voc21_thd0"),
    "ov-stitcher": ("voc21_thd0",),
    "trident": ("voc20", "voc21_thd0"),
}


@pytest.fixture(scope="module")
def models(weights12: Path, weights12_head: Path) -> Callable[[str], SCLIP]:
    """The model of a method, loaded once."""
    loaded: dict[str, SCLIP] = {}

    def load(method: str) -> SCLIP:
        if method not in loaded:
            case = CASES[method]
            weights = weights12_head if case.head else weights12
            loaded[method] = SCLIP.load(
                str(CLIP), str(weights), device="cpu", method=method, **case.networks()
            )
        return loaded[method]

    return load


def assert_golden(model: SCLIP, found, image: np.ndarray, name: str, masks) -> None:
    """Labels, and logits where there are any, are those of the arrays."""
    case = CASES[model.method]
    protocol = case.protocol(name)
    labels = model.segment(image, protocol=protocol, masks=masks).labels
    assert (labels != found[f"labels_{case.array}_{name}"]).mean() <= 1e-4
    name = name.removesuffix("_thd0")  # logits know no threshold
    key = f"logits16_{case.array}_{name}"
    every = 5 if case.dino and name == "coco_stuff164k" else 1
    arrays = {every: found.get(key), 5: found.get(f"{key}.every5"), 4: found.get(f"{key}.every4")}
    for step, expected in arrays.items():
        if expected is None:
            continue
        logits = model.logits(image, protocol=protocol, masks=masks)[::step, ::16, ::16]
        assert logits.shape == expected.shape
        off = np.abs(logits.numpy() - expected)
        assert np.quantile(off, 0.99) <= case.logits
        assert off.max() <= case.largest


def masks_of(arrays, method: str, image: str):
    """The id map of a method that reads masks."""
    return arrays("corrclip", image)["ids"] if CASES[method].masks else None


@pytest.mark.parametrize(
    ("method", "name"), [(method, name) for method, names in QUICK.items() for name in names]
)
def test_portrait(models, arrays, golden, method, name):
    found = arrays(CASES[method].arrays, PORTRAIT)
    masks = masks_of(arrays, method, PORTRAIT)
    assert_golden(models(method), found, rgb(golden(PORTRAIT)), name, masks)


@pytest.mark.slow
@pytest.mark.parametrize(
    "image", [IMAGES[0], *(pytest.param(i, marks=pytest.mark.long) for i in IMAGES[1:])]
)
@pytest.mark.parametrize("method", CASES)
def test_all_sets(models, arrays, golden, method, image):
    found = arrays(CASES[method].arrays, image)
    names = CASES[method].sets(found)
    assert names
    for name in names:
        masks = masks_of(arrays, method, image)
        assert_golden(models(method), found, rgb(golden(image)), name, masks)


def test_the_order_of_ids_and_proposals_are_one(models, arrays, golden):
    """An id map, the same with other numbers, and as proposals: one result."""
    from sclip_core.masks.id_maps import proposals_of

    ids = arrays("corrclip", PORTRAIT)["ids"].astype(np.int64)
    image, model = rgb(golden(PORTRAIT)), models("corrclip")
    protocol = CASES["corrclip"].protocol("cityscapes")
    expected = model.segment(image, protocol=protocol, masks=ids).labels
    for masks in (ids * 1000 - 5, proposals_of(ids)):
        assert np.array_equal(model.segment(image, protocol=protocol, masks=masks).labels, expected)
