"""Boundary IoU against the paper's way with masks, and against distances from pixel to pixel."""

import numpy as np
import pytest
from scipy import ndimage

from sclip_core.config import ImageError
from sclip_core.evaluation import image_areas
from sclip_core.evaluation.boundary import boundary_areas, boundary_distance, near_boundary

CLASSES = 5
SHAPES = [(1, 1), (1, 7), (3, 40), (40, 61), (75, 110), (130, 60)]


def blobs(shape, seed, values):
    """A map of large patches."""
    noise = np.random.default_rng(seed).random((len(values), *shape))
    smooth = ndimage.gaussian_filter(noise, (0, 3, 3))
    return np.array(values)[smooth.argmax(axis=0)]


def maps(shape, seed):
    """A label map with ignored pixels, without class 3; a prediction, where 9 is no class."""
    truth = blobs(shape, seed, [-1, 0, 1, 2, 4]).astype(np.int32)
    guess = np.where(
        blobs(shape, seed + 50, [0, 1, 1]) == 1, truth, blobs(shape, seed + 90, [0, 2, 9])
    )
    return np.where(guess < 0, 1, guess).astype(np.uint8), truth


def mask_boundary(mask, ratio=0.02):
    """What the paper's code does, with SciPy: pad with zeros, erode by 3 x 3, and subtract."""
    distance = round(ratio * np.sqrt(mask.shape[0] ** 2 + mask.shape[1] ** 2))
    padded = np.pad(mask, 1)
    eroded = ndimage.binary_erosion(
        padded, np.ones((3, 3)), iterations=max(distance, 1), border_value=1
    )
    return mask & ~eroded[1:-1, 1:-1]


@pytest.mark.parametrize("ratio", [0.02, 0.05])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_areas_are_those_of_the_boundaries_of_each_mask(shape, seed, ratio):
    guess, truth = maps(shape, seed)
    found = boundary_areas(guess, truth, CLASSES, 9, ratio)
    evaluated = truth != -1
    for k in range(CLASSES):
        predicted = mask_boundary((guess == k) & evaluated, ratio)
        labelled = mask_boundary(truth == k, ratio)
        assert found.intersect[k] == (predicted & labelled).sum()
        assert found.union[k] == (predicted | labelled).sum()
        assert (found.prediction[k], found.label[k]) == (predicted.sum(), labelled.sum())


def test_a_boundary_is_what_is_near_in_rows_and_columns():
    labels = blobs((23, 31), 3, [0, 1, 70000])
    for distance in (1, 3):
        found = near_boundary(labels, distance)
        for y in range(23):
            for x in range(31):
                rows = range(y - distance, y + distance + 1)
                columns = range(x - distance, x + distance + 1)
                inside = rows[0] >= 0 and rows[-1] < 23 and columns[0] >= 0 and columns[-1] < 31
                alone = inside and all(labels[r, c] == labels[y, x] for r in rows for c in columns)
                assert found[y, x] == (not alone)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_predicted_at_ignored_pixels_changes_nothing(seed):
    guess, truth = maps((60, 80), seed)
    other = np.where(truth == -1, (guess + 1) % 3, guess).astype(np.uint8)
    both = [boundary_areas(each, truth, CLASSES, 9) for each in (guess, other)]
    for one, another in zip(*both, strict=True):
        np.testing.assert_array_equal(one, another)
    right = boundary_areas(np.where(truth < 0, 2, truth).astype(np.uint8), truth, CLASSES)
    np.testing.assert_array_equal(right.intersect, right.union)


def test_a_wide_boundary_is_the_whole_mask():
    guess, truth = maps((60, 80), 1)
    wide, usual = (
        boundary_areas(guess, truth, CLASSES, 9, 1.0),
        image_areas(guess, truth, CLASSES, 9),
    )
    for one, another in zip(wide, usual, strict=True):
        np.testing.assert_array_equal(one, another)


def test_the_distance_is_two_percent_of_the_diagonal():
    assert [boundary_distance(*s) for s in ((512, 512), (1024, 2048), (10, 10))] == [14, 46, 1]


def test_maps_of_two_sizes_are_refused():
    with pytest.raises(ImageError, match="shape"):
        boundary_areas(np.zeros((3, 4), np.uint8), np.zeros((4, 3), np.int32), 2)
