"""Image, ground truth and prediction side by side, above a legend; overlays of one label map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sclip_core.drawing.colours import palette
from sclip_core.drawing.layout import captioned_rows
from sclip_core.drawing.legend import FAINT, entries_of, hatched
from sclip_core.evaluation.areas import IGNORED

Labels = NDArray[np.integer[Any]]
Map = TypeVar("Map", Labels, NDArray[np.bool_])

PANEL_SIDE = 480  # pixels, the long side of each picture of a panel, small or large
OVERLAY_SIDES = 480, 1280  # pixels, the long side of a single overlay stays within
ALPHA = 0.6  # opacity of the colours
LINE = 3.0  # factor by which outlines are strengthened where the picture shrinks
OUTLINE = 255, 214, 10  # its colour
WRONG = 213, 62, 0  # of wrongly labelled pixels: distinct from grey for colour-blind eyes too
WRONG_ALPHA = 0.8  # its opacity
EDGE = 0.75  # opacity of the white lines between regions
NARROWEST = 190  # pixels that a caption needs


def panel(
    image: NDArray[np.uint8],
    label: NDArray[np.int32] | None,
    prediction: Labels,
    class_names: Sequence[str],
    title: str = "",
    outlines: NDArray[np.bool_] | None = None,
    result: str = "prediction",
) -> Image.Image:
    """Image, ground truth (if there is one) and prediction, above a legend of what is in them.

    Args:
        image: (H, W, 3) uint8 RGB.
        label: (H, W) int32 classes, -1 ignored; None: no ground truth.
        prediction: (H, W) classes, -1 without a label.
        class_names: (C,) names.
        title: a line above the pictures, e.g. the name of the image.
        outlines: (H, W) of mask proposals; drawn on the image.
        result: the caption of ``prediction``, which may hold something else.

    Raises:
        ValueError: a map has another size than the image.
    """
    photo = resized(image, PANEL_SIDE)
    shown = photo if outlines is None else _outlined(photo, outlines, image)
    predicted = painted(photo, prediction, image, ALPHA)
    pictures: dict[str, Image.Image] = {"image": shown, result: predicted}
    maps: dict[str, Labels] = {"": prediction}
    if label is not None:
        truth = painted(photo, label, image, ALPHA)
        pictures = {"image": shown, "ground truth": truth, result: predicted}
        maps = {"truth": label, "prediction": prediction}
    row, captions = list(pictures.values()), list(pictures)
    entries, cell = entries_of(class_names, maps), max(NARROWEST, photo.width)
    return captioned_rows([row], captions, entries, cell, title, caption_ink=FAINT)


def overlay(
    image: NDArray[np.uint8], labels: Labels, class_names: Sequence[str], alpha: float = ALPHA
) -> Image.Image:
    """One picture: the image in grey under the colours of its classes, above their legend.

    Args:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) classes, -1 ignored.
        class_names: (C,) names.
        alpha: opacity of the colours, 0..1.

    Raises:
        ValueError: the labels have another size than the image.
    """
    smallest, largest = OVERLAY_SIDES
    photo = resized(image, min(max(*image.shape[:2], smallest), largest))
    shown = painted(photo, labels, image, alpha)
    entries = entries_of(class_names, {"": labels})
    return captioned_rows([[shown]], [""], entries, max(NARROWEST, shown.width))


def _checked(labels: Map, image: NDArray[np.uint8]) -> Map:
    if image.ndim != 3 or image.shape[2] != 3 or labels.shape != image.shape[:2] or not labels.size:
        raise ValueError(
            f"labels of shape {labels.shape} for an image of shape {image.shape}: "
            "expected (height, width) and (height, width, 3)"
        )
    return labels


def resized(image: NDArray[np.uint8], side: int) -> Image.Image:
    """The image with a long side of `side`: averaged to shrink, interpolated to grow."""
    height, width = image.shape[:2]
    how = Image.Resampling.BOX if side < max(height, width) else Image.Resampling.BICUBIC
    return Image.fromarray(image).resize(resized_size(width, height, side), how)


def resized_size(width: int, height: int, side: int) -> tuple[int, int]:
    """Width and height of an image with a long side of `side`."""
    factor = side / max(height, width)
    return max(1, round(width * factor)), max(1, round(height * factor))


def painted(
    photo: Image.Image,
    labels: Labels,
    image: NDArray[np.uint8],
    alpha: float,
    colours: NDArray[np.uint8] | None = None,
    lines: bool = True,
) -> Image.Image:
    """The photo in grey under colours; hatched where ignored, white lines between regions.

    Args:
        photo: the image, resized.
        labels: (H, W) classes, -1 ignored.
        image: (H, W, 3), the image before it was resized.
        alpha: opacity of the colours, 0..1.
        colours: (C, 3) of the classes; None: those of ``palette``.
        lines: whether there are lines between regions.

    Raises:
        ValueError: the labels have another size than the image.
    """
    shown = _sampled(labels, photo, image)
    table = palette(max(1, int(shown.max()) + 1)) if colours is None else colours
    out = (1 - alpha) * in_grey(photo) + np.float32(alpha) * table[shown.clip(0)]
    ignored = shown == IGNORED
    out[ignored] = hatched(*shown.shape)[ignored]
    if lines:
        border = _borders(shown)
        out[border] += EDGE * (255 - out[border])
    return Image.fromarray(out.round().astype(np.uint8))


def mistaken(
    photo: Image.Image, label: Labels, prediction: Labels, image: NDArray[np.uint8]
) -> Image.Image:
    """The photo in grey, wrongly labelled pixels in one colour, hatched where ignored.

    Args:
        photo: the image, resized.
        label: (H, W) classes, -1 ignored.
        prediction: (H, W) classes, -1 no class, which is wrong too.
        image: (H, W, 3), the image before it was resized.

    Raises:
        ValueError: a map has another size than the image.
    """
    truth, predicted = (_sampled(labels, photo, image) for labels in (label, prediction))
    out = np.repeat(in_grey(photo), 3, axis=2)
    wrong = (truth != predicted) & (truth != IGNORED)
    out[wrong] += WRONG_ALPHA * (np.array(WRONG, np.float32) - out[wrong])
    out[truth == IGNORED] = hatched(*truth.shape)[truth == IGNORED]
    return Image.fromarray(out.round().astype(np.uint8))


def in_grey(photo: Image.Image) -> NDArray[np.float32]:
    """The photo's lightness (H, W, 1), to blend colours with.

    Lifted and flattened: in a dark photo the colours would no longer look like the legend's.
    """
    return 70 + np.float32(0.65) * np.asarray(photo.convert("L"), np.float32)[..., None]


def _outlined(
    photo: Image.Image, outlines: NDArray[np.bool_], image: NDArray[np.uint8]
) -> Image.Image:
    """The photo with lines on it, strengthened so that thin ones stay visible when it shrinks."""
    line = Image.fromarray(_checked(outlines, image)).convert("L")
    shown = np.asarray(line.resize(photo.size, Image.Resampling.BOX), np.float32) / 255
    strength = np.minimum(1.0, LINE * shown)[..., None]
    out = (1 - strength) * np.asarray(photo, np.float32) + strength * np.array(OUTLINE, np.float32)
    return Image.fromarray(out.round().astype(np.uint8))


def _sampled(labels: Labels, photo: Image.Image, image: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The labels at the pixels of the photo, each from its centre."""
    given, (width, height) = _checked(labels, image), photo.size
    rows, columns = (
        ((np.arange(shown) + 0.5) * size / shown).astype(np.intp)
        for shown, size in zip((height, width), given.shape, strict=True)
    )
    return given[np.ix_(rows, columns)].astype(np.int64)


def _borders(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """True where the pixel to the right or below is of another class: (H, W)."""
    border = np.zeros(labels.shape, bool)
    border[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    border[:-1] |= labels[:-1] != labels[1:]
    return border
