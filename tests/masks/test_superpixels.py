"""Superpixels against scikit-image called directly."""

from __future__ import annotations

import sys
from typing import get_args

import numpy as np
import pytest
from skimage import segmentation

from sclip_core import propose_masks
from sclip_core.config import UserError
from sclip_core.config.masks import MaskSettings, Source
from sclip_core.masks import SOURCES, open_source, superpixels

METHODS = ("felzenszwalb", "slic")


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Patches of 10×10 of one colour each, with noise on them."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(30, 220, (-(-height // 10), -(-width // 10), 3))
    fine = coarse.repeat(10, 0).repeat(10, 1)[:height, :width]
    return (fine + rng.integers(-20, 20, (height, width, 3))).astype(np.uint8)


def directly(method: str, image: np.ndarray, **settings) -> np.ndarray:
    """scikit-image's own segments, with its names and this project's defaults."""
    ours = MaskSettings()
    if method == "slic":
        usual = {"n_segments": ours.slic_segments, "compactness": ours.slic_compactness}
        return segmentation.slic(image, start_label=0, **{**usual, **settings})
    usual = {
        "scale": ours.felzenszwalb_scale,
        "sigma": ours.felzenszwalb_sigma,
        "min_size": ours.felzenszwalb_min_size,
    }
    return segmentation.felzenszwalb(image, **{**usual, **settings})


def proposed(method: str, image: np.ndarray, **settings):
    return open_source(MaskSettings(proposals=method, **settings))(image)


def assert_are_segments(found, segments: np.ndarray) -> None:
    """One mask for each number, in ascending order."""
    numbers = sorted(set(segments.ravel().tolist()))
    assert found.size == segments.shape
    assert len(found) == len(numbers)
    for mask, number in zip(found.masks(), numbers, strict=True):
        np.testing.assert_array_equal(mask, segments == number)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [(70, 90), (90, 40), (1, 1), (1, 7), (7, 1), (3, 2), (2, 200)])
def test_every_pixel_is_in_exactly_one_mask(method, size):
    for image in (picture(*size), np.full((*size, 3), 128, np.uint8)):
        found = proposed(method, image)
        assert (found.masks().sum(axis=0) == 1).all()
        assert found.size == size
        assert found.areas.sum() == size[0] * size[1]
        assert found.areas.min() > 0
        assert np.isnan(found.predicted_iou).all()


@pytest.mark.parametrize("method", METHODS)
def test_are_scikit_images_segments(method):
    image = picture(70, 90)
    assert_are_segments(proposed(method, image), directly(method, image))


@pytest.mark.parametrize("method", METHODS)
def test_grey_images(method):
    image = picture(70, 90)[..., :1].repeat(3, axis=2)
    found = proposed(method, image)
    assert len(found) > 1
    assert_are_segments(found, directly(method, image))


@pytest.mark.parametrize(
    ("ours", "theirs", "value"),
    [
        ("felzenszwalb_scale", "scale", 5.0),
        ("felzenszwalb_sigma", "sigma", 0.0),
        ("felzenszwalb_min_size", "min_size", 900),
        ("slic_segments", "n_segments", 20),
        ("slic_compactness", "compactness", 0.5),
    ],
)
def test_settings_reach_the_library(ours, theirs, value):
    method, image = ours.split("_")[0], picture(70, 90)
    segments = directly(method, image, **{theirs: value})
    assert (segments != directly(method, image)).any()
    assert_are_segments(proposed(method, image, **{ours: value}), segments)


@pytest.mark.parametrize("method", METHODS)
def test_large_images_are_segmented_smaller(method, monkeypatch):
    """Each of their pixels is four here, so that averaging and enlarging lose nothing."""
    small = picture(70, 90)
    monkeypatch.setattr(superpixels, "MOST_PIXELS", 70 * 90)
    found = proposed(method, small.repeat(2, 0).repeat(2, 1))
    assert_are_segments(found, directly(method, small).repeat(2, 0).repeat(2, 1))


def test_an_image_of_four_million_pixels():
    small = picture(1024, 1024)
    found = proposed("slic", small.repeat(2, 0).repeat(2, 1), slic_segments=6)
    segments = directly("slic", small, n_segments=6)
    assert_are_segments(found, segments.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [(61, 83), (83, 61), (1, 900), (900, 1)])
def test_large_images_of_odd_sizes_are_covered_too(method, size, monkeypatch):
    monkeypatch.setattr(superpixels, "MOST_PIXELS", 500)
    found = proposed(method, picture(*size))
    assert found.size == size
    assert (found.masks().sum(axis=0) == 1).all()


@pytest.mark.parametrize("numbers", [(-3, 0, 7, 8, 70_000), (-1, 0), (5,)])
def test_any_numbers_are_masks_in_ascending_order(numbers):
    segments = np.random.default_rng(0).choice(numbers, (11, 6))
    assert_are_segments(superpixels.of_segments(segments), segments)


def test_more_segments_than_a_byte_counts():
    segments = np.arange(600).reshape(20, 30)
    assert_are_segments(superpixels.of_segments(segments), segments)


def test_masks_of_one_image_in_one_call():
    image = picture(70, 90)
    segments = directly("slic", image, n_segments=20)
    assert_are_segments(propose_masks(image, "slic", slic_segments=20), segments)
    with pytest.raises(UserError, match="slick"):
        propose_masks(image, "slick")


@pytest.mark.parametrize("method", METHODS)
def test_without_scikit_image(method, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    command = r"not installed: pip install 'sclip-benchmark\[superpixels\]'"
    with pytest.raises(UserError, match=command):
        proposed(method, picture(20, 30))


def test_sources_are_those_of_the_settings():
    assert set(SOURCES) == set(get_args(Source))
