"""Pictures for a person: image, ground truth and prediction side by side, with a legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sclip_core.drawing import legend as keys
from sclip_core.drawing.colours import palette
from sclip_core.drawing.text import readable, write
from sclip_core.evaluation.areas import IGNORED, class_shares

Labels = NDArray[np.integer[Any]]
Map = TypeVar("Map", Labels, NDArray[np.bool_])

PANEL_SIDE = 480  # pixels, the long side of each picture of a panel, small or large
OVERLAY_SIDES = 480, 1280  # pixels, the long side of a single overlay stays within
ALPHA = 0.6  # opacity of the colours
LINE = 3.0  # how much an outline is widened where the picture shrinks
OUTLINE = 255, 214, 10  # its colour
WRONG = 213, 62, 0  # of pixels that are labelled wrongly: told from grey by everyone
WRONG_ALPHA = 0.8  # its opacity
EDGE = 0.75  # opacity of the white lines between regions
NARROWEST = 190  # pixels that a caption needs
MARGIN, GAP = 20, 16  # pixels
CAPTION, TITLE = 17, 21  # font sizes, pixels


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
        title: a line above all, e.g. the name of the image.
        outlines: (H, W) of mask proposals; drawn on the image.
        result: the caption of the prediction, where it is none.

    Raises:
        ValueError: a map has another size than the image.
    """
    photo = resized(image, PANEL_SIDE)
    shown = photo if outlines is None else _outlined(photo, outlines, image)
    predicted = painted(photo, prediction, image, ALPHA)
    if label is None:
        pictures = {"image": shown, result: predicted}
        return _composed(title, pictures, _entries(class_names, {"": prediction}))
    truth = painted(photo, label, image, ALPHA)
    pictures = {"image": shown, "ground truth": truth, result: predicted}
    entries = _entries(class_names, {"truth": label, "prediction": prediction})
    return _composed(title, pictures, entries)


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
    return _composed("", {"": shown}, _entries(class_names, {"": labels}))


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
    photo: Image.Image, labels: Labels, image: NDArray[np.uint8], alpha: float
) -> Image.Image:
    """The photo in grey under colours; hatched where ignored, white lines between regions.

    Args:
        photo: the image, resized.
        labels: (H, W) classes, -1 ignored.
        image: (H, W, 3), as large as the labels have to be.
        alpha: opacity of the colours, 0..1.

    Raises:
        ValueError: the labels have another size than the image.
    """
    labels = _checked(labels, image)
    width, height = photo.size
    rows, columns = _nearest(height, labels.shape[0]), _nearest(width, labels.shape[1])
    shown = labels[np.ix_(rows, columns)].astype(np.int64)
    colours = palette(max(1, int(shown.max()) + 1))[shown.clip(0)]
    out = (1 - alpha) * in_grey(photo) + np.float32(alpha) * colours
    ignored = shown == IGNORED
    out[ignored] = keys.hatched(height, width)[ignored]
    border = _borders(shown)
    out[border] += EDGE * (255 - out[border])
    return Image.fromarray(out.round().astype(np.uint8))


def mistaken(
    photo: Image.Image, label: Labels, prediction: Labels, image: NDArray[np.uint8]
) -> Image.Image:
    """The photo in grey, what is labelled wrongly in one colour, hatched where nothing is asked.

    Args:
        photo: the image, resized.
        label: (H, W) classes, -1 ignored.
        prediction: (H, W) classes, -1 without one, which is wrong too.
        image: (H, W, 3), as large as the maps have to be.

    Raises:
        ValueError: a map has another size than the image.
    """
    label, prediction = _checked(label, image), _checked(prediction, image)
    width, height = photo.size
    grid = np.ix_(_nearest(height, label.shape[0]), _nearest(width, label.shape[1]))
    truth, said = label[grid], prediction[grid]
    out = np.repeat(in_grey(photo), 3, axis=2)
    wrong = (truth != said) & (truth != IGNORED)
    out[wrong] += WRONG_ALPHA * (np.array(WRONG, np.float32) - out[wrong])
    out[truth == IGNORED] = keys.hatched(height, width)[truth == IGNORED]
    return Image.fromarray(out.round().astype(np.uint8))


def in_grey(photo: Image.Image) -> NDArray[np.float32]:
    """The photo's lightness (H, W, 1), as colours are laid over it.

    Lifted and flattened: in a dark photo the colours would no longer look like the legend's.
    """
    return 70 + np.float32(0.65) * np.asarray(photo.convert("L"), np.float32)[..., None]


def _outlined(
    photo: Image.Image, outlines: NDArray[np.bool_], image: NDArray[np.uint8]
) -> Image.Image:
    """The photo with lines on it, thin ones widened so that they are seen where it is smaller."""
    line = Image.fromarray(_checked(outlines, image)).convert("L")
    shown = np.asarray(line.resize(photo.size, Image.Resampling.BOX), np.float32) / 255
    strength = np.minimum(1.0, LINE * shown)[..., None]
    out = (1 - strength) * np.asarray(photo, np.float32) + strength * np.array(OUTLINE, np.float32)
    return Image.fromarray(out.round().astype(np.uint8))


def _nearest(shown: int, given: int) -> NDArray[np.intp]:
    """For each row (or column) shown, the given one at its centre."""
    return ((np.arange(shown) + 0.5) * given / shown).astype(np.intp)


def _borders(labels: Labels) -> NDArray[np.bool_]:
    """True where the pixel to the right or below is of another class: (H, W)."""
    border = np.zeros(labels.shape, bool)
    border[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    border[:-1] |= labels[:-1] != labels[1:]
    return border


def _entries(class_names: Sequence[str], maps: Mapping[str, Labels]) -> list[keys.Entry]:
    highest = max(int(labels.max()) for labels in maps.values())
    num_classes = max(len(class_names), highest + 1)
    shares = {name: class_shares(labels, num_classes) for name, labels in maps.items()}
    return keys.legend_entries(class_names, shares)


def _composed(
    title: str, pictures: Mapping[str, Image.Image], entries: Sequence[keys.Entry]
) -> Image.Image:
    """Title, captioned pictures in a row, legend: each part is left out where it is empty."""
    cell = max(NARROWEST, *(picture.width for picture in pictures.values()))
    inner = max(len(pictures) * (cell + GAP) - GAP, keys.WIDEST)
    below = keys.legend(entries, inner)
    title = readable(title)
    top = MARGIN + (TITLE + GAP if title else 0)
    bottom = top + (CAPTION + 10 if any(pictures) else 0)
    height = max(picture.height for picture in pictures.values())
    size = inner + 2 * MARGIN, bottom + height + GAP + below.height + MARGIN
    page = Image.new("RGB", size, keys.PAPER)
    draw = ImageDraw.Draw(page)
    write(draw, (MARGIN, MARGIN - 4), title, TITLE, keys.INK, inner)
    for k, (caption, picture) in enumerate(pictures.items()):
        left = MARGIN + k * (cell + GAP)
        write(draw, (left, top), caption, CAPTION, keys.FAINT, cell)
        page.paste(picture, (left, bottom))
    page.paste(below, (MARGIN, bottom + height + GAP))
    return page
