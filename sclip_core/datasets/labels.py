"""Label maps as they are in the file, and the classes that their values stand for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import ImageError
from sclip_core.config.counts import number_of
from sclip_core.datasets.causes import counted_values, likely_cause, own_cause, shades_cause
from sclip_core.datasets.images import read_sample
from sclip_core.datasets.label_files import stored_values

IGNORED = -1  # class of a pixel that is not evaluated
STRAY = -2  # class of a value that the vocabulary has no class for
SAME_SHAPE = 1.05  # ratio of ratios up to which two sizes are one shape
FEW_PIXELS = 4
TABLE_SIZE = 1 << 16  # values of a 16-bit label map


class StrayValueError(ImageError):
    """A label map holds values without a class; most likely others of its set do, too."""


def decode_label(data: bytes, name: str = "label map") -> NDArray[np.int32]:
    """Decode a label map as it is stored: of a palette image the indices, not the colours.

    Grey of 2 and 4 bits is not spread over 0..255, as most readers do. EXIF orientation is not
    applied. Colours whose three channels are equal are the grey that they show.

    Args:
        data: the file's bytes.
        name: what to call it in an error, e.g. its path.

    Returns:
        (H, W) int32, the values in the file.

    Raises:
        ImageError: cut short, another format, or more than one channel.
    """
    return stored_values(data, name)


def read_label(path: str | Path) -> NDArray[np.int32]:
    """Read a label map, as `decode_label` does.

    Args:
        path: a PNG, TIFF or BMP with one channel of 1, 8, 16 or 32 bits, or an NPY of numbers.

    Returns:
        (H, W) int32, the values in the file.

    Raises:
        ImageError: no such file, cut short, another format, or more than one channel.
    """
    return decode_label(read_sample(path), str(path))


def label_classes(
    raw: NDArray[np.integer],
    num_classes: int,
    reduce_zero_label: bool = False,
    ignore_label: tuple[int, ...] = (255,),
    name: str = "label map",
    layout: str | None = None,
    numbers: Sequence[int] | None = None,
) -> NDArray[np.int32]:
    """Turn the values of a label map into classes.

    Args:
        raw: (H, W) values as `read_label` gives them.
        num_classes: classes of the vocabulary.
        reduce_zero_label: value 0 is not evaluated and value k means class k-1.
        ignore_label: values that are not evaluated, looked up before the reduction.
        name: what to call the map in an error, e.g. its path.
        layout: the benchmark's layout, whose known mistakes the error names; None for the user's
            own images.
        numbers: the value of each class, before the reduction; None: that of class k is k.

    Returns:
        (H, W) int32, classes 0..num_classes-1, or `IGNORED` (-1).

    Raises:
        StrayValueError: a value that is neither a class nor ignored.

    >>> label_classes(np.array([[0, 1, 2, 255]]), 2, reduce_zero_label=True)
    array([[-1,  0,  1, -1]], dtype=int32)
    """
    first = 1 if reduce_zero_label else 0
    in_table = [value for value in ignore_label if 0 <= value < TABLE_SIZE - 1]
    values = np.arange(num_classes) if numbers is None else np.asarray(numbers)
    table = np.full(max([int(values.max(initial=0)) + first, *in_table]) + 2, STRAY, np.int32)
    table[values + first] = np.arange(num_classes)
    table[in_table] = IGNORED
    if reduce_zero_label:
        table[0] = IGNORED
    classes = table.take(raw, mode="clip")  # the last entry stands for all larger values
    if raw.dtype.kind == "i" and raw.size and raw.min() < 0:
        classes[raw < 0] = STRAY
    for value in set(ignore_label).difference(in_table):
        classes[raw == value] = IGNORED
    if classes.size and classes.min() == STRAY:
        without = classes == STRAY
        raise _stray_error(raw, without, values, reduce_zero_label, ignore_label, name, layout)
    return classes


def ranges(values: Sequence[int]) -> str:
    """Values in ascending order, those that follow one another as a range.

    >>> ranges([0, 2, 3, 4, 7])
    '0, 2..4, 7'
    """
    parts: list[list[int]] = []
    for value in values:
        if parts and value == parts[-1][-1] + 1:
            parts[-1][1:] = [value]
        else:
            parts.append([value])
    return ", ".join("..".join(map(str, part)) for part in parts)


def check_sizes(image_hw: tuple[int, int], label_hw: tuple[int, int], name: str) -> None:
    """Refuse a label map that has another size than its image.

    Args:
        image_hw: height and width of the image, in pixels.
        label_hw: height and width of the label map, in pixels.
        name: what to call the image in the error, e.g. its id.

    Raises:
        ImageError: the sizes differ.
    """
    if image_hw == label_hw:
        return
    sizes = (
        f"{name}: the image is {image_hw[1]}x{image_hw[0]} pixels (width x height), "
        f"its label map {label_hw[1]}x{label_hw[0]}"
    )
    if image_hw == label_hw[::-1]:
        raise ImageError(
            f"{sizes}: width and height are swapped, most likely by an EXIF rotation, which is "
            "applied to the image only; if the label map is drawn on the image as it is stored, "
            "pass --exif ignore; else rotate the label map, or save the image upright"
        )
    raise ImageError(f"{sizes}: expected the same size; {_why_of_size(image_hw, label_hw)}")


def _why_of_size(image_hw: tuple[int, int], label_hw: tuple[int, int]) -> str:
    """Why a label map most likely has another size than its image, and what to do."""
    ratios = [label / image for label, image in zip(label_hw, image_hw, strict=True)]
    if max(ratios) / min(ratios) > SAME_SHAPE:
        return "is it the label map of another image?"
    larger = max(label_hw) > max(image_hw)
    factor = max(ratios) if larger else 1 / min(ratios)
    how = f"it is {factor:.3g} times as {'large' if larger else 'small'}"
    if max(abs(a - b) for a, b in zip(label_hw, image_hw, strict=True)) <= FEW_PIXELS:
        how = "one was cropped, or rounded when it was resized"
    return (
        f"{how}: bring both to the size of one of them, a label map by its nearest pixels, without "
        "smoothing"
    )


def _stray_error(
    raw: NDArray[np.integer],
    without: NDArray[np.bool_],
    numbers: NDArray[np.integer],
    reduce_zero_label: bool,
    ignore_label: tuple[int, ...],
    name: str,
    layout: str | None,
) -> StrayValueError:
    """The error for values without a class; ``without`` says which pixels have one."""
    num_classes, found = len(numbers), raw[without]
    values, counts = np.unique(found, return_counts=True)
    stray = counted_values(values.tolist(), counts.tolist())
    allowed = f"0..{num_classes - (not reduce_zero_label)}"
    plain = not num_classes or numbers.max() < num_classes
    if not plain:
        allowed = ranges([*range(reduce_zero_label), *(numbers + reduce_zero_label).tolist()])
    zero = ", of which 0 is not evaluated" if reduce_zero_label else ""
    ignored = f", or ignored {', '.join(map(str, ignore_label))}" if ignore_label else ""
    advice = likely_cause(values.tolist(), layout)
    every, pixels = np.unique(raw, return_counts=True)
    all_found = dict(zip(every.tolist(), pixels.tolist(), strict=True))
    if advice is None and plain:
        advice = own_cause(all_found, num_classes, reduce_zero_label, ignore_label)
    elif advice is None:
        off_by_one = set(all_found).difference(ignore_label) == set((numbers - 1).tolist())
        advice = shades_cause(all_found) or (
            "the values are one less than the numbers of the classes: do those count from 1, and "
            "the label maps from 0? Then leave the numbers out, or write them from 0"
            if off_by_one
            else "give each a class of its own, or pass them to --ignore-label if they mean "
            "'not labelled'"
        )
    return StrayValueError(
        f"{name}: {number_of(int(found.size), 'pixel', 'have')} a value without a class: {stray}; "
        f"expected {allowed}{zero} ({num_classes} classes){ignored}; {advice}"
    )
