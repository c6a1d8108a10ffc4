"""Label maps that are arrays: files of NumPy, and floats that hold whole numbers."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import ImageError

NPY_START = b"\x93NUMPY"
LARGEST = 2**31 - 1


def read_array(data: bytes, name: str) -> NDArray[np.generic]:
    """The array in a ``.npy`` file, without axes of one entry around height and width.

    Args:
        data: the file's bytes.
        name: what to call it in an error, e.g. its path.

    Raises:
        ImageError: cut short, of Python objects, or of words.
    """
    try:
        array = np.asarray(np.load(io.BytesIO(data), allow_pickle=False))
    except Exception as error:  # NumPy raises several kinds
        raise ImageError(f"{name} cannot be read ({error}): save it again") from None
    if array.dtype.kind not in "biuf":
        raise ImageError(f"{name} is an array of {array.dtype}: expected one class id a pixel")
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    return array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array


def plane(array: NDArray[np.generic], name: str) -> NDArray[np.int32]:
    """Class ids (H, W) of an array of whole numbers of any type.

    Raises:
        ImageError: it has more than two axes, no pixel, or other numbers than whole ones.
    """
    if array.ndim != 2 or not array.size:
        raise ImageError(
            f"{name} is an array of the shape {array.shape}: expected (height, width), one class "
            "id a pixel; scores of classes become ids by argmax over the axis of the classes"
        )
    return whole_numbers(array, name)


def whole_numbers(array: NDArray[np.generic], name: str) -> NDArray[np.int32]:
    """The same values as int32.

    Raises:
        ImageError: some are no whole number, or have more than 31 bits.
    """
    if array.dtype.kind == "f":
        values = array.astype(np.float64)
        fraction = ~(np.isfinite(values) & (values == np.floor(values)))
        if fraction.any():
            first = values[fraction][0]
            raise ImageError(
                f"{name}: {int(fraction.sum()):,} pixels are no whole number, such as {first:g}: "
                "expected one class id a pixel; are they probabilities, or heights? Where nan "
                "means 'not labelled', write 255 in its place"
            )
    high, low = int(array.max(initial=0)), int(array.min(initial=0))
    if high > LARGEST or low < -LARGEST:
        worst = high if high > LARGEST else low
        raise ImageError(f"{name} has the value {worst:,}: expected ids of at most 31 bits")
    return array.astype(np.int32)
