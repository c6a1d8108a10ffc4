"""Panels of the report: image, ground truth, and each run's prediction and errors."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from sclip_core.config import ImageError
from sclip_core.drawing.colours import palette
from sclip_core.drawing.panels import ALPHA, mistaken, painted, resized
from sclip_core.evaluation.areas import class_shares
from sclip_core.results.past_run import LabelMaps, Source
from sclip_core.results.ranking import ranked

SIDE = 320  # pixels, the long side of a picture
EACH = 5  # images in each choice
BUDGET = 3_000_000  # bytes of all pictures
WEBP: dict[str, Any] = {"quality": 72, "method": 4}
LEGEND = 12  # classes in the legend of a panel


@dataclass(frozen=True)
class Swatch:
    """A class in the legend of a panel."""

    colour: str
    name: str
    share: float  # percent of the image's pixels


@dataclass
class Panel:
    """One image of the page: its scores, its pictures and their legend."""

    image_id: str
    scores: list[float]  # mIoU of the image in percent, by run
    pictures: list[tuple[str, str]]  # caption and data URI
    legend: list[Swatch] = field(default_factory=list)


@dataclass
class Choice:
    """Images that are shown under one title."""

    title: str
    image_ids: list[str]
    panels: list[Panel] = field(default_factory=list)
    above: list[str] = field(default_factory=list)  # images that an earlier choice already shows


def pairs_abreast(pairs: int, most: int) -> int:
    """How many pairs of pictures stand beside each other, so that the rows are alike.

    Args:
        pairs: of an image: its own (image, truth) and one of each run (prediction, errors).
        most: that have room.

    >>> [pairs_abreast(n, 4) for n in (2, 3, 4, 5, 6, 7, 8)]  # 5 as 3 + 2, 7 as 4 + 3
    [2, 3, 4, 3, 3, 4, 4]
    """
    rows = -(-pairs // most)
    even = (n for n in range(min(pairs, most), 2, -1) if pairs % n == 0)
    return next(even, -(-pairs // rows))


def choose(
    images: Sequence[str] | pa.StringArray, scores: NDArray[np.float64], seed: int = 0
) -> list[Choice]:
    """Images to look at: the worst, the best, a random sample, and the most changed between runs.

    Args:
        images: N ids.
        scores: (K, N) mIoU of each, in percent; the first run decides what is worst and best.
        seed: of the random sample.
    """
    worst = ranked("worst", scores)[:EACH].tolist()
    best = [i for i in ranked("best", scores)[:EACH].tolist() if i not in worst]
    chosen = {"worst images": worst, "best images": best}
    if len(scores) > 1:
        most = ranked("changed", scores)[:EACH].tolist()
        chosen = {"images that changed most between the runs": most, **chosen}
    taken = {i for places in chosen.values() for i in places}
    chosen["random images"] = sorted(ranked("random", scores, seed, taken)[:EACH].tolist())
    return [
        Choice(title, [str(images[i]) for i in places])
        for title, places in chosen.items()
        if places
    ]


class Shown(NamedTuple):
    """What pictures of an image are drawn from."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB
    truth: NDArray[np.int32]  # (H, W); -1 ignored
    predictions: list[NDArray[np.int32]]  # of each run (H, W); -1 where a pixel has no class


def read_shown(
    source: Source, maps: Sequence[LabelMaps], image_id: str, truth_areas: NDArray[np.int64]
) -> Shown:
    """Read an image, its ground truth and the label maps of some runs.

    Args:
        source: the dataset.
        maps: of the runs.
        image_id: of the image.
        truth_areas: (C,) pixels of each class that were scored.

    Raises:
        ImageError: one of them cannot be read or has changed.
    """
    if image_id not in source:
        raise ImageError(f"{image_id} is no longer in the dataset")
    digest = source.digest(image_id)
    if any(digest not in each for each in maps):
        raise ImageError(f"{image_id} has changed since it was segmented")
    image, truth = source.image(image_id), source.truth(image_id)
    found = np.bincount(truth[truth >= 0], minlength=len(truth_areas))
    if not np.array_equal(found, truth_areas):
        raise ImageError(f"{image_id}: its label map has changed since it was scored")
    return Shown(image, truth, [each.read(digest) for each in maps])


@dataclass(frozen=True)
class Painter:
    """Draws panels of runs over one dataset."""

    source: Source
    runs: Sequence[tuple[str, LabelMaps]]  # letter and label maps
    class_names: Sequence[str]
    scores: dict[str, list[float]]  # by image, by run
    truths: Mapping[str, NDArray[np.int64]]  # by image: pixels of each class that were scored

    def draw(self, choices: Sequence[Choice], budget: int = BUDGET) -> list[str]:
        """Draw panels within a budget, the first images of every choice first.

        Args:
            choices: the panels are added to them.
            budget: bytes of all pictures.

        Returns:
            The reasons why images are not shown, a line each.
        """
        skipped: dict[str, None] = {}
        left, smallest = budget, 0
        shown_in: dict[str, Choice] = {}
        for choice in choices:
            for image_id in choice.image_ids:
                shown_in.setdefault(image_id, choice)
        for choice, image_id in _in_turn(choices):
            if shown_in[image_id] is not choice or smallest > left:
                continue
            try:
                panel = self.panel(image_id)
            except ImageError as error:
                skipped[str(error)] = None
                continue
            size = sum(len(uri) for _, uri in panel.pictures)
            smallest = min(smallest or size, size)
            if size <= left:
                left -= size
                choice.panels.append(panel)
        shown = {panel.image_id for choice in choices for panel in choice.panels}
        for choice in choices:
            others = (i for i in choice.image_ids if shown_in[i] is not choice)
            choice.above = [image_id for image_id in others if image_id in shown]
        return list(skipped)

    def panel(self, image_id: str) -> Panel:
        """The panel of an image.

        Raises:
            ImageError: the image, its ground truth or a label map cannot be read or has changed.
        """
        maps = [each for _, each in self.runs]
        image, truth, predictions = read_shown(self.source, maps, image_id, self.truths[image_id])
        photo = resized(image, SIDE)
        try:
            pictures = [
                ("image", data_uri(photo)),
                ("truth", data_uri(painted(photo, truth, image, ALPHA))),
            ]
            for (letter, _), prediction in zip(self.runs, predictions, strict=True):
                name = f"{letter} " if len(self.runs) > 1 else ""
                pictures += [
                    (f"{name}prediction", data_uri(painted(photo, prediction, image, ALPHA))),
                    (f"{name}errors", data_uri(mistaken(photo, truth, prediction, image))),
                ]
        except ValueError as error:
            raise ImageError(f"{image_id}: {error}") from None
        return Panel(image_id, self.scores[image_id], pictures, self._legend(truth))

    def _legend(self, truth: NDArray[np.int32]) -> list[Swatch]:
        """The classes of the truth, largest first."""
        shares = class_shares(truth, len(self.class_names))
        order = [int(i) for i in np.argsort(-shares, kind="stable") if shares[i] > 0][:LEGEND]
        return [Swatch(hex_colour(i), self.class_names[i], 100 * float(shares[i])) for i in order]


def _in_turn(choices: Sequence[Choice]) -> Iterator[tuple[Choice, str]]:
    """The first image of each choice, then the second of each."""
    for row in zip_longest(*(choice.image_ids for choice in choices)):
        yield from ((c, i) for c, i in zip(choices, row, strict=True) if i is not None)


def hex_colour(class_id: int) -> str:
    """The colour of a class in CSS notation."""
    return "#" + bytes(palette(class_id + 1)[class_id]).hex()


def data_uri(picture: Image.Image) -> str:
    """A picture as a data URI, in WebP."""
    into = BytesIO()
    picture.save(into, "WEBP", **WEBP)
    return "data:image/webp;base64," + base64.b64encode(into.getvalue()).decode()
