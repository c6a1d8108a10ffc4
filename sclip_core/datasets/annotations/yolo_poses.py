"""Lines of YOLO that are boxes with the key points of a pose, told from outlines.

A line of a pose is the centre and size of a box and then n key points, each x, y or x, y and
whether it is seen. All lines of such a set have as many numbers. Read as an outline, it would be
drawn without a word, as its numbers may be even.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BOX = 4  # numbers in front of the key points
MOST_NUMBERS = BOX + 3 * 133  # COCO-WholeBody has 133 key points
COMPARED = 200  # lines of one length that are looked at
MOST_CROSSED = 64  # numbers of a line up to which crossings are sought where nothing else tells
CONTAINED = 0.9  # share of the lines whose points lie in their boxes
CROSSED = 0.25  # share of these that would cross themselves as outlines, which few outlines do
FEW = BOX + 2 * 3  # numbers up to which a pose may cross nowhere
AS_NOTED = 0.5  # share of lines that cross themselves, from which on it is said
ROOM = 0.02  # of the picture: how far a key point may lie outside of its box
OF_A_SET = 0.25  # of all lines are a length that is no chance
SEEN = (0, 1, 2)  # COCO's words for not labelled, hidden, seen


class Poses(NamedTuple):
    """The lines of a set that are poses."""

    sizes: frozenset[int]  # numbers after the category
    notes: tuple[str, ...]  # on lines that may be poses, which are taken for outlines


def poses_in(lines: Iterable[NDArray[np.float64]]) -> Poses:
    """The lengths of lines that are poses, judged by all lines of that length.

    They are, if the first four numbers are a box within the picture with all points in it, and, as
    outlines may do so too, either 0, 1 or 2 follows each point, or the outlines that they would be
    cross themselves: key points do not run around their object. They also are, whatever the box
    holds, if a large part of the set has that length and all of these cross themselves.

    Args:
        lines: the numbers of each line after the category.
    """
    by_size: dict[int, list[NDArray[np.float64]]] = defaultdict(list)
    for numbers in lines:
        if BOX < numbers.size <= MOST_NUMBERS:
            by_size[numbers.size].append(numbers)
    total = sum(map(len, by_size.values()))
    shares = {size: len(found) / total for size, found in by_size.items()}
    groups = {size: np.stack(found[:COMPARED]) for size, found in by_size.items()}
    sizes = frozenset(size for size, group in groups.items() if _are_poses(group, shares[size]))
    rest = [size for size in groups if size not in sizes]
    notes = (_note(groups[size], alone=shares[size] == 1) for size in rest)
    return Poses(sizes, tuple(note for note in notes if note))


def _are_poses(group: NDArray[np.float64], share: float) -> bool:
    """Whether lines (N, numbers) of one length, a share of the set's, are poses."""
    count, size = group.shape
    if (size - BOX) % 3 == 0:
        triples = group[:, BOX:].reshape(count, -1, 3)
        seen = np.isin(triples[..., 2], SEEN)
        if seen.all() and _in_boxes(group, triples[..., :2]).mean() >= CONTAINED:
            return True
    if size % 2:
        return False
    if _share_in_boxes(group) >= CONTAINED:
        return bool(_crossing(group).mean() >= CROSSED)
    chance = count == 1 or share < OF_A_SET or not FEW <= size <= MOST_CROSSED
    return bool(not chance and _boxes(group).all() and _crossing(group).all())


def _share_in_boxes(group: NDArray[np.float64]) -> float:
    pairs = group[:, BOX:].reshape(len(group), -1, 2)
    return float(_in_boxes(group, pairs).mean())


def _boxes(group: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the first four numbers of each line are a box within the picture."""
    centre, half = group[:, :2], group[:, 2:BOX] / 2
    box = (half > 0) & (centre - half >= -ROOM) & (centre + half <= 1 + ROOM)
    found: NDArray[np.bool_] = np.all(box, axis=1)
    return found


def _in_boxes(group: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the points (N, n, 2) of each line lie in its box; 0, 0 is one that is not known."""
    centre, half = group[:, None, :2], group[:, None, 2:BOX] / 2
    known: NDArray[np.bool_] = np.any(points != 0, axis=-1)
    inside: NDArray[np.bool_] = np.all(np.abs(points - centre) <= half + ROOM, axis=-1)
    found: NDArray[np.bool_] = _boxes(group) & (inside | ~known).all(1) & known.any(1)
    return found


def _crossing(group: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each line, read as an outline, crosses itself."""
    return np.array([_crosses(numbers.reshape(-1, 2)) for numbers in group])


def _crosses(outline: NDArray[np.float64]) -> bool:
    """Whether two edges of an outline (N, 2) cross, apart from those that share a corner."""
    start, end = outline, np.roll(outline, -1, 0)

    def side(points: NDArray[np.float64]) -> NDArray[np.float64]:
        """On which side of each edge (rows) each point (columns) lies."""
        along, towards = (end - start)[:, None], points[None] - start[:, None]
        return np.sign(along[..., 0] * towards[..., 1] - along[..., 1] * towards[..., 0])

    apart = side(start) * side(end) < 0
    return bool((apart & apart.T).any())


def _note(group: NDArray[np.float64], alone: bool) -> str:
    """What to say of lines that are taken for outlines and may be none; empty: nothing."""
    count, size = group.shape
    if size % 2 or size > MOST_CROSSED:
        return ""
    crossed = int(_crossing(group).sum())
    if count > 1 and crossed >= AS_NOTED * count:
        why = f"{crossed:,} of {count:,} would cross themselves"
    elif count > 1 and size <= FEW and alone and _share_in_boxes(group) == 1:
        why = "the first four may be a box with all the others in it"
    else:
        return ""
    return (
        f"YOLO's lines of {size + 1} numbers are taken for outlines of {size // 2} points, though "
        f"{why}: if they are boxes with key points, export segments"
    )
