"""Numbers beside mIoU against torchmetrics, loops over images, and the public code's rules."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import (
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
)

from sclip_core.evaluation import Areas, SparseAreas, bootstrap, image_areas, scores, sum_areas
from sclip_core.evaluation.measures import MEASURES, group_measures, measured
from sclip_core.evaluation.resampling import resample

CLASSES, IMAGES = 6, 23


@pytest.fixture(scope="module")
def maps():
    """Label maps with ignored pixels; class 4 is only predicted, class 5 is nowhere."""
    rng = np.random.default_rng(4)
    found = []
    for k in range(IMAGES):
        truth = rng.integers(-1, 4, (7, 9)).astype(np.int32)
        if k % 3:
            truth[truth == k % 4] = -1
        guess = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, 5, truth.shape))
        found.append((np.where(guess < 0, 0, guess).astype(np.uint8), truth))
    found.append((np.zeros((3, 3), np.uint8), np.full((3, 3), -1, np.int32)))  # nothing evaluated
    return found


@pytest.fixture(scope="module")
def areas(maps):
    each = [image_areas(guess, truth, CLASSES) for guess, truth in maps]
    return Areas(*(np.stack(kind) for kind in zip(*each, strict=True)))


def flat(maps):
    return [torch.tensor(np.concatenate([m[k].ravel() for m in maps]).astype(int)) for k in (0, 1)]


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("acc", multiclass_recall),
        ("precision", multiclass_precision),
        ("dice", multiclass_f1_score),
    ],
)
def test_scores_of_classes_are_those_of_torchmetrics(maps, areas, name, theirs):
    found = getattr(scores(sum_areas(Areas(*one) for one in zip(*areas, strict=True))), name)
    wanted = theirs(*flat(maps), CLASSES, average=None, ignore_index=-1)
    defined = ~np.isnan(found)
    np.testing.assert_allclose(found[defined], 100 * wanted.numpy()[defined], rtol=1e-5)
    assert not wanted[torch.tensor(~defined)].any()  # theirs are 0 where ours are undefined
    assert np.isnan(found[5])


def test_frequency_weighted_iou_is_the_formula_of_the_paper(maps, areas):
    guess, truth = (each.numpy() for each in flat(maps))
    guess, truth = guess[truth >= 0], truth[truth >= 0]
    n = np.zeros((CLASSES, CLASSES))  # n_ij: pixels of class i that were called j
    for i, j in zip(truth, guess, strict=True):
        n[i, j] += 1
    t = n.sum(axis=1)
    wanted = sum(
        t[i] * n[i, i] / (t[i] + n[:, i].sum() - n[i, i]) for i in range(CLASSES) if t[i]
    ) / sum(t)
    assert measured(areas, "fwiou")["fwiou"] == pytest.approx(100 * wanted)
    assert scores(sum_areas([Areas(*a) for a in zip(*areas, strict=True)])).fwiou == pytest.approx(
        100 * wanted
    )


def by_loops(maps, q=None):
    """The mIoU of images and of classes as the paper's code lists, sorts and averages them."""
    of_images, of_classes = [], [[] for _ in range(CLASSES)]
    for guess, truth in maps:
        kept = truth != -1
        if not kept.any():
            continue
        found = []
        for c in sorted(set(truth[kept].tolist())):
            ours, true = (guess == c) & kept, (truth == c) & kept
            found.append((ours & true).sum() / (ours | true).sum())
            of_classes[c].append(found[-1])
        of_images.append(sum(found) / len(found))

    def lowest(values):
        count = len(values) if q is None else max(1, int(q / 100 * len(values)))
        return sum(sorted(values)[:count]) / count

    classes = [lowest(each) for each in of_classes if each]
    return 100 * lowest(of_images), 100 * sum(classes) / len(classes)


@pytest.mark.parametrize(
    ("names", "q"), [(("miou_i", "miou_c"), None), (("miou_i5", "miou_c5"), 5)]
)
def test_scores_by_image_are_those_of_loops(maps, areas, names, q):
    several = maps * 3  # enough that 5 % are more than one image
    found = measured(Areas(*(np.concatenate([each] * 3) for each in areas)), *names)
    assert list(found.values()) == pytest.approx(by_loops(several, q))
    if q is None:
        assert SparseAreas.of(areas).fine_grained() == pytest.approx(by_loops(maps))


@pytest.mark.parametrize("name", ["miou", "macc", "aacc"])
def test_the_bootstrap_is_the_one_of_the_usual_scores(areas, name):
    whole = resample([areas, areas], {name: MEASURES[name]}, 50, seed=3)[name]
    np.testing.assert_allclose(whole[1], getattr(bootstrap([areas], 50, seed=3), name)[0])
    grouped = resample([areas], {name: MEASURES[name]}, 50, groups=6)[name]
    wanted = getattr(bootstrap([areas], 50, groups=6), name)
    np.testing.assert_allclose(grouped, wanted)


@pytest.mark.parametrize("name", ["miou_i", "miou_i5", "miou_c", "miou_c5", "fwiou"])
def test_a_draw_is_scored_like_a_dataset_of_the_images_drawn(areas, name):
    drawn = resample([areas], {name: MEASURES[name]}, 8, seed=1)[name][0]
    rng = np.random.default_rng(1)
    chosen = rng.integers(IMAGES + 1, size=(8, IMAGES + 1))
    for draw, images in zip(drawn[1:], chosen, strict=True):
        one = Areas(*(kind[images] for kind in areas))
        if (one.label.sum(axis=0)[:4] > 0).all():  # else a class keeps what it has in the dataset
            assert draw == pytest.approx(measured(one, name)[name])


def test_groups_of_classes_are_means_over_their_classes(areas):
    iou = scores(sum_areas([Areas(*a) for a in zip(*areas, strict=True)])).iou
    chosen = group_measures({"one": [0, 2], "two": [1, 4, 5], "none": [5]}, CLASSES)
    found = {name: values[0, 0] for name, values in resample([areas], chosen, 0).items()}
    assert found["miou:one"] == pytest.approx(iou[[0, 2]].mean())
    assert found["miou:two"] == pytest.approx(iou[[1, 4]].mean())  # class 5 occurs nowhere
    assert np.isnan(found["miou:none"])


def test_sparse_areas_and_groups_of_images_give_the_same(areas):
    names = {name: each for name, each in MEASURES.items() if each.kind == "image_areas"}
    dense, sparse = (resample([a], names, 5) for a in (areas, SparseAreas.of(areas)))
    grouped = resample([areas], names, 5, groups=4)
    for name in names:
        np.testing.assert_array_equal(dense[name], sparse[name])
        assert grouped[name][0, 0] == pytest.approx(dense[name][0, 0])
        assert np.isnan(grouped[name][0, 1:]).all() == (name in ("miou_i5", "miou_c5"))


@pytest.mark.parametrize(
    ("name", "first"),
    [
        *((name, 0) for name in ("miou", "macc", "mprec", "mdice", "miou_c", "miou_c5", "biou")),
        ("acc_small", 0),
        ("acc_medium", 2),
        ("acc_large", 4),
    ],
)
def test_a_class_that_no_drawn_image_has_counts_as_in_the_dataset(name, first):
    """Two images; one class is right in both, the other one is in the second alone."""
    areas = np.zeros((3, 2, 6), np.int64)  # intersect, prediction, label; images; classes
    areas[:, :, first] = 10
    areas[:, 1, first + 1] = 5, 20, 10
    drawn = resample([Areas(*areas)], {name: MEASURES[name]}, 20)[name][0]
    assert drawn[0] < 100
    np.testing.assert_array_equal(drawn, drawn[0])
