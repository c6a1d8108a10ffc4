"""Areas of very many images: only of the classes that an image has or was given.

A million images of 171 classes are 4 GB as arrays of all classes, and have some 10 classes each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sclip_core.evaluation.areas import COUNTED, NO_PREDICTION, Areas, Confusion

Integers = NDArray[np.integer[Any]]
ENTRIES_AT_ONCE = 1 << 21  # whose keys are held at a time
CELLS_AT_ONCE = 1 << 20  # images times classes that are counted at a time


@dataclass(frozen=True, eq=False)
class SparseAreas:
    """Areas of N images and C classes in pixels, M of which are not zero throughout.

    Attributes:
        shape: (N, C).
        image: (M,) places of the images, ascending.
        class_id: (M,) ascending within an image; no pair of image and class occurs twice.
        intersect: (M,) predicted and labelled as the class, and so on as in `Areas`.
        prediction: (M,).
        label: (M,).
    """

    shape: tuple[int, int]
    image: Integers
    class_id: Integers
    intersect: Integers
    prediction: Integers
    label: Integers

    @classmethod
    def of(cls, areas: Areas) -> Self:
        """The same as areas (N, C) of all classes."""
        image, class_id = np.nonzero(areas.prediction + areas.label)
        shape = areas.label.shape
        return cls((shape[0], shape[1]), image, class_id, *(a[image, class_id] for a in areas))

    @property
    def areas(self) -> tuple[Integers, Integers, Integers]:
        """Intersect, prediction and label, each (M,)."""
        return self.intersect, self.prediction, self.label

    def dense(self, first: int = 0, stop: int | None = None) -> Areas:
        """Areas (n, C) of all classes, of the images first..stop-1; int64."""
        stop = self.shape[0] if stop is None else min(stop, self.shape[0])
        low, high = np.searchsorted(self.image, [first, stop])
        rows, columns = self.image[low:high] - first, self.class_id[low:high]
        found = Areas(*np.zeros((3, stop - first, self.shape[1]), np.int64))
        for into, area in zip(found, self.areas, strict=True):
            into[rows, columns] = area[low:high]
        return found

    def blocks(self) -> Iterator[Areas]:
        """Areas (n, C) of all classes, of a few thousand images at a time, in order."""
        step = max(1, CELLS_AT_ONCE // max(1, self.shape[1]))
        return (self.dense(first, first + step) for first in range(0, self.shape[0], step))

    def summed(self) -> Areas:
        """The sums (C,) over all images."""
        everything = self.grouped(np.zeros(self.shape[0], np.int32), 1)
        return Areas(*(area[0].astype(np.int64) for area in everything))

    def grouped(self, group: Integers, groups: int) -> Areas:
        """The sums (groups, C) over the images of each group, as whole float64.

        Args:
            group: (N,) of each image, 0..groups-1.
            groups: how many there are.
        """
        classes = self.shape[1]
        total = np.zeros((3, groups * classes))
        for low in range(0, len(self.image), ENTRIES_AT_ONCE):
            part = slice(low, low + ENTRIES_AT_ONCE)
            cell = group[self.image[part]].astype(np.int64) * classes + self.class_id[part]
            for into, area in zip(total, self.areas, strict=True):
                into += np.bincount(cell, area[part], minlength=groups * classes)
        return Areas(*total.reshape(3, groups, classes))

    def images_with_label(self) -> NDArray[np.int64]:
        """The number (C,) of images that have a class."""
        return np.bincount(self.class_id[self.label > 0], minlength=self.shape[1])

    def occurs(self) -> NDArray[np.bool_]:
        """Whether a class (C,) is in an image or was found in one."""
        found: NDArray[np.bool_] = np.bincount(self.class_id, minlength=self.shape[1]) > 0
        return found

    def fine_grained(self) -> tuple[float, float]:
        """The mIoU by image and by class, of classes that images have: ``miou_i``, ``miou_c``."""
        there = self.label > 0
        image, class_id = self.image[there], self.class_id[there]
        union = self.prediction[there].astype(np.int64) + self.label[there] - self.intersect[there]
        iou = 100 * self.intersect[there].astype(np.int64) / union
        found = []
        for place in (image, class_id):
            count = np.bincount(place)
            means = np.bincount(place, iou)[count > 0] / count[count > 0]
            found.append(float(means.mean()) if len(means) else float("nan"))
        return found[0], found[1]

    def only(self, kept: NDArray[np.bool_]) -> SparseAreas:
        """Of the images for which `kept` (N,) holds, with new places."""
        place = np.cumsum(kept) - 1
        rows = kept[self.image]
        image = place[self.image[rows]].astype(self.image.dtype)
        shape = int(kept.sum()), self.shape[1]
        return SparseAreas(shape, image, self.class_id[rows], *(a[rows] for a in self.areas))

    def same_label(self, other: SparseAreas) -> NDArray[np.bool_]:
        """For each image (N,), whether its labels have the same areas in another run."""
        same = np.ones(self.shape[0], bool)
        for one, another in ((self, other), (other, self)):
            same[one.image[~one._in(another)]] = False
        return same

    def _in(self, other: SparseAreas) -> NDArray[np.bool_]:
        """For each entry (M,), whether its label has the same area in another run, or is 0."""
        theirs = other._keys()
        found: NDArray[np.bool_] = self.label == 0
        for low in range(0, len(self.image), ENTRIES_AT_ONCE):
            part = slice(low, low + ENTRIES_AT_ONCE)
            mine = self._keys(part)
            at = np.minimum(np.searchsorted(theirs, mine), max(0, len(theirs) - 1))
            if len(theirs):
                found[part] |= (theirs[at] == mine) & (other.label[at] == self.label[part])
        return found

    def _keys(self, part: slice = slice(None)) -> NDArray[np.int64]:
        """A number for each pair of image and class, ascending."""
        return self.image[part].astype(np.int64) * self.shape[1] + self.class_id[part]


def narrow(values: Integers) -> Integers:
    """The same whole numbers in 32 bits, where they fit."""
    fits = not len(values) or (values.min() >= -(2**31) and values.max() < 2**31)
    return values.astype(np.int32, copy=False) if fits else values


class Tally:
    """Confusions of images, summed up as they come: areas by image, pairs over the dataset."""

    def __init__(self, num_images: int, num_classes: int) -> None:
        """Begin with nothing.

        Args:
            num_images: N, of which some may never come.
            num_classes: C.
        """
        self._shape = num_images, num_classes
        self._width = num_classes + 1  # the last column: pixels without a prediction
        self._parts: list[tuple[Integers, ...]] = []  # image, class, areas
        self._codes = np.zeros(0, np.int64)  # of pairs that occurred, ascending
        self._pixels = np.zeros(0, np.int64)

    def add(self, places: Integers, counts: Integers, pairs: Confusion) -> None:
        """Take some images.

        Args:
            places: (n,) of the images, 0..N-1; each comes once.
            counts: (n,) pairs of each.
            pairs: of all of them, end to end.
        """
        step = max(1, CELLS_AT_ONCE // self._width)
        stops = np.concatenate([[0], np.cumsum(counts)])
        for first in range(0, len(places), step):
            some = slice(first, first + step)
            low, high = stops[first], stops[min(first + step, len(places))]
            part = Confusion(*(values[low:high] for values in pairs))
            self._add(places[some], counts[some], part)

    def _add(self, places: Integers, counts: Integers, pairs: Confusion) -> None:
        label, prediction, pixels = pairs
        classes = self._shape[1]
        cells = len(places) * classes
        start = np.repeat(np.arange(len(places), dtype=np.int64) * classes, counts)
        right, said = prediction == label, prediction != NO_PREDICTION
        areas = [
            np.bincount(cell, weight, minlength=cells).astype(np.int64)
            for cell, weight in (
                (start[right] + label[right], pixels[right]),
                (start[said] + prediction[said], pixels[said]),
                (start + label, pixels),
            )
        ]
        there = np.flatnonzero(areas[1] + areas[2])
        rows, class_id = np.divmod(there, classes)
        image = places[rows].astype(np.int32)
        self._parts.append(
            (image, class_id.astype(np.int32), *(narrow(area[there]) for area in areas))
        )
        self._add_codes(label.astype(np.int64) * self._width + prediction % self._width, pixels)

    def _add_codes(self, codes: NDArray[np.int64], pixels: Integers) -> None:
        if self._shape[1] * self._width <= COUNTED:
            total = np.bincount(codes, pixels)  # exact: whole numbers below 2^53
            found = np.flatnonzero(total)
            counted = total[found].astype(np.int64)
        else:
            found, places = np.unique(codes, return_inverse=True)
            counted = np.bincount(places, pixels).astype(np.int64)
        both, places = np.unique(np.concatenate([self._codes, found]), return_inverse=True)
        summed = np.zeros(len(both), np.int64)
        np.add.at(summed, places, np.concatenate([self._pixels, counted]))
        self._codes, self._pixels = both, summed

    def areas(self) -> SparseAreas:
        """By image."""
        if not self._parts:
            nothing = np.zeros(0, np.int32)
            return SparseAreas(self._shape, *[nothing] * 5)
        columns = [np.concatenate(parts) for parts in zip(*self._parts, strict=True)]
        return SparseAreas(self._shape, *in_order(columns[0], columns[1], self._shape[1], columns))

    def confusion(self) -> Confusion:
        """Over all images."""
        label, prediction = np.divmod(self._codes, self._width)
        unsaid = prediction == self._width - 1
        return Confusion(label, np.where(unsaid, NO_PREDICTION, prediction), self._pixels)


def in_order(
    image: Integers, class_id: Integers, classes: int, columns: list[Integers]
) -> list[Integers]:
    """Columns ordered by image, then by class; the same where they are already."""
    key = image.astype(np.int64) * classes + class_id
    if (key[1:] > key[:-1]).all():
        return columns
    order = np.argsort(key, kind="stable")
    return [column[order] for column in columns]
