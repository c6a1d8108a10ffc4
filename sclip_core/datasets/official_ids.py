"""The numbers that publishers give to the classes of benchmarks, where label maps have others.

Label maps of these benchmarks are made of the published ones (docs/protocol.md, section 7).
"""

from __future__ import annotations

from typing import NamedTuple

# Cityscapes' label ids of the 19 classes that are evaluated, in the order of their train ids.
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
CITYSCAPES_LABELS = 34  # label ids 0..33
# COCO-Stuff's raw maps hold (category id - 1): 0..181, of which 11 categories were never used.
STUFF_IDS = 182
STUFF_UNUSED = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
THINGS = 90  # ids 0..89 are COCO's things


class Numbers(NamedTuple):
    """Which number stands for which class, and which for none."""

    of_classes: tuple[int | None, ...]  # of each class, in order; None: it has no number
    of_none: tuple[int, ...] = ()


def pixel_values(dataset: str) -> Numbers | None:
    """The values of a benchmark's published maps; None: those of its label maps.

    >>> pixel_values("cityscapes").of_classes[:3]
    (7, 8, 11)
    """
    if dataset == "cityscapes":
        void = (i for i in range(CITYSCAPES_LABELS) if i not in CITYSCAPES_IDS)
        return Numbers(CITYSCAPES_IDS, tuple(void))
    if dataset == "coco_stuff":
        return Numbers(tuple(i for i in range(STUFF_IDS) if i not in STUFF_UNUSED))
    return None


def category_ids(dataset: str) -> Numbers | None:
    """COCO's category ids of a benchmark's classes; None: it is none of COCO.

    >>> category_ids("coco_object").of_classes[:3]
    (None, 1, 2)
    """
    kept = [i + 1 for i in range(STUFF_IDS) if i not in STUFF_UNUSED]
    if dataset == "coco_stuff":
        return Numbers(tuple(kept))
    if dataset == "coco_object":  # the background has no category
        return Numbers((None, *(i for i in kept if i <= THINGS)))
    return pixel_values(dataset)
