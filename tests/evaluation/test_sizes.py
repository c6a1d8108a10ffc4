"""Objects by size against SciPy's components, and against a flood that spreads by hand."""

import numpy as np
import pytest
from scipy import ndimage

from sclip_core.evaluation import Areas, SparseAreas
from sclip_core.evaluation.measures import MEASURES
from sclip_core.evaluation.resampling import resample
from sclip_core.evaluation.sizes import size_areas

from .test_boundary import CLASSES, maps

SHAPE = (150, 190)  # in which some patches are small and some are large


def by_scipy(guess, truth):
    found = {}
    for k in range(CLASSES):
        labelled, count = ndimage.label(truth == k, np.ones((3, 3)))
        for number in range(1, count + 1):
            pixels = labelled == number
            area = int(pixels.sum())
            size = 0 if area < 32 * 32 else 1 if area < 96 * 96 else 2
            before = found.get((k, size), (0, 0, 0))
            new = (1, int((guess[pixels] == k).sum()), area)
            found[k, size] = tuple(a + b for a, b in zip(before, new, strict=True))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_objects_are_those_of_scipy(seed):
    guess, truth = maps(SHAPE, seed)
    if seed == 2:
        truth[:120, :120] = 1  # a large one
        truth[120:] = np.repeat([2, 0], 15)[:, None]  # and two of middle size
    found = size_areas(guess, truth, CLASSES, 9)
    ours = {(k, size): tuple(rest) for k, size, *rest in np.stack(found, axis=1).tolist()}
    assert ours == by_scipy(guess, truth)
    assert {size for _, size in ours} >= ({0, 1, 2} if seed == 2 else {0})


def flood(truth, y, x):
    """The pixels that are connected with one, its diagonal neighbours among them."""
    seen, todo = {(y, x)}, [(y, x)]
    while todo:
        y, x = todo.pop()
        for near in ((y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)):
            inside = 0 <= near[0] < truth.shape[0] and 0 <= near[1] < truth.shape[1]
            if inside and near not in seen and truth[near] == truth[y, x]:
                seen.add(near)
                todo.append(near)
    return seen


def test_objects_are_those_of_a_flood():
    guess, truth = maps((30, 40), 8)
    truth[np.random.default_rng(0).random(truth.shape) < 0.1] = -1
    found, counted = size_areas(guess, truth, CLASSES, 9), set()
    objects = [0] * CLASSES
    for y, x in np.ndindex(*truth.shape):
        if truth[y, x] >= 0 and (y, x) not in counted:
            counted |= flood(truth, y, x)
            objects[truth[y, x]] += 1
    for k in range(CLASSES):
        assert found.objects[found.class_id == k].sum() == objects[k]
    assert found.label.sum() == (truth >= 0).sum()


@pytest.mark.parametrize(("side", "size"), [(31, 0), (32, 1), (95, 1), (96, 2)])
def test_the_ranges_are_those_of_coco(side, size):
    truth = np.full((100, 100), -1, np.int32)
    truth[:side, :side] = 0
    assert size_areas(np.zeros((100, 100), np.uint8), truth, 1).size.tolist() == [size]


def test_recall_by_size_is_a_mean_over_classes():
    guess, truth = maps(SHAPE, 1)
    found = size_areas(guess, truth, CLASSES, 9)
    label, right = np.zeros((2, 1, 3 * CLASSES), np.int64)
    label[0, found.size * CLASSES + found.class_id] = found.label
    right[0, found.size * CLASSES + found.class_id] = found.intersect
    areas = SparseAreas.of(Areas(right, np.zeros_like(label), label))
    wanted = by_scipy(guess, truth)
    for size, name in enumerate(("small", "medium", "large")):
        recalls = [100 * r / area for (_, s), (_, r, area) in wanted.items() if s == size]
        ours = resample([areas], {name: MEASURES[f"acc_{name}"]}, 0)[name][0, 0]
        assert ours == pytest.approx(np.mean(recalls) if recalls else np.nan, nan_ok=True)


def test_an_image_without_evaluated_pixels_has_no_objects():
    found = size_areas(np.zeros((3, 3), np.uint8), np.full((3, 3), -1, np.int32), 2)
    assert [len(each) for each in found] == [0] * 5
