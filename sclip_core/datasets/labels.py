"""Label maps as they are in the file, and the classes that their values stand for."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import BmpImagePlugin, ImageFile, PngImagePlugin, TiffImagePlugin

from sclip_core.config import ImageError
from sclip_core.datasets.causes import likely_cause
from sclip_core.datasets.images import read_sample
from sclip_core.datasets.integrity import refuse_damaged

IGNORED = -1  # class of a pixel that is not evaluated
STRAY = -2  # class of a value that the vocabulary has no class for
TABLE_SIZE = 1 << 16  # values of a 16-bit label map
SHOWN = 5  # values named in an error
MOST_PIXELS = 1 << 30  # as OpenCV takes of an image: a few KB may claim to be more than memory

# Opened by their own class: `PIL.Image.open` warns of a decompression bomb above 89 megapixels.
READERS: dict[bytes, type[ImageFile.ImageFile]] = {
    b"\x89PNG": PngImagePlugin.PngImageFile,
    b"II*\0": TiffImagePlugin.TiffImageFile,
    b"MM\0*": TiffImagePlugin.TiffImageFile,
    b"BM": BmpImagePlugin.BmpImageFile,
}
SINGLE_CHANNEL = {"1", "L", "P", "I", "I;16", "I;16B", "I;16L"}


class StrayValueError(ImageError):
    """A label map holds values without a class; most likely others of its set do, too."""


def read_label(path: str | Path) -> NDArray[np.int32]:
    """Read a label map, as `decode_label` does.

    Args:
        path: a PNG, TIFF or BMP with one channel of 1, 8, 16 or 32 bits.

    Returns:
        (H, W) int32, the values in the file.

    Raises:
        ImageError: no such file, cut short, another format, or more than one channel.
    """
    return decode_label(read_sample(path), str(path))


def decode_label(data: bytes, name: str = "label map") -> NDArray[np.int32]:
    """Decode a label map as it is: of a palette image the indices, not the colours.

    EXIF orientation is not applied.

    Args:
        data: the file's bytes.
        name: what to call it in an error, e.g. its path.

    Returns:
        (H, W) int32, the values in the file.

    Raises:
        ImageError: cut short, another format, or more than one channel.
    """
    refuse_damaged(data, name)
    reader = next((READERS[start] for start in READERS if data.startswith(start)), None)
    if reader is None:
        raise ImageError(
            f"{name} is not a label map (it starts {data[:8]!r}): "
            "expected a single-channel PNG, TIFF or BMP; JPEG would blur the labels"
        )
    try:
        image = reader(io.BytesIO(data))
        width, height = image.size
        if width * height > MOST_PIXELS:
            raise ImageError(
                f"{name} has {width:,}x{height:,} pixels: expected at most {MOST_PIXELS:,}"
            )
        if image.mode in SINGLE_CHANNEL:
            return np.asarray(image).astype(np.int32)
    except ImageError:
        raise
    except Exception as error:  # Pillow's readers raise a dozen kinds
        raise ImageError(f"{name} cannot be decoded ({error}): copy or download it again") from None
    raise ImageError(
        f"{name} is not single-channel (Pillow mode {image.mode}): "
        "expected one class id a pixel, as grey or palette PNG"
    )


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
        found = raw[classes == STRAY]
        raise _stray_error(found, values, reduce_zero_label, ignore_label, name, layout)
    return classes


def counted_values(values: Sequence[int], pixels: Sequence[int]) -> str:
    """Values of a label map and how many pixels have them, as an error names them.

    >>> counted_values([171, 180], [1024, 3])
    '171 (1,024 px), 180 (3 px)'
    """
    pairs = list(zip(values, pixels, strict=True))[:SHOWN]
    more = f" and {len(values) - SHOWN} more values" if len(values) > SHOWN else ""
    return ", ".join(f"{value} ({count:,} px)" for value, count in pairs) + more


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
    raise ImageError(f"{sizes}: expected the same size; is it the label map of another image?")


def _stray_error(
    found: NDArray[np.integer],
    numbers: NDArray[np.integer],
    reduce_zero_label: bool,
    ignore_label: tuple[int, ...],
    name: str,
    layout: str | None,
) -> StrayValueError:
    """The error for values without a class; ``found`` holds those pixels."""
    num_classes = len(numbers)
    values, counts = np.unique(found, return_counts=True)
    stray = counted_values(values.tolist(), counts.tolist())
    allowed = f"0..{num_classes - (not reduce_zero_label)}"
    if num_classes and numbers.max() >= num_classes:
        allowed = ranges([*range(reduce_zero_label), *(numbers + reduce_zero_label).tolist()])
    zero = ", of which 0 is not evaluated" if reduce_zero_label else ""
    ignored = f", or ignored {', '.join(map(str, ignore_label))}" if ignore_label else ""
    advice = likely_cause(values.tolist(), layout)
    if advice is None:
        keep = ",".join(map(str, [*ignore_label, *values.tolist()[:SHOWN]]))
        advice = f"if they mean 'not labelled', pass --ignore-label {keep}"
    return StrayValueError(
        f"{name}: {found.size:,} pixels have a value without a class: {stray}; "
        f"expected {allowed}{zero} ({num_classes} classes){ignored}; {advice}"
    )
