"""Checks of what users' functions return in the place of label maps."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from sclip_core.config import UserError
from sclip_core.segmentation.decision import Labels


def kind_of(found: Any) -> str:
    """Shape and dtype of an array or a tensor; of anything else the type."""
    if not isinstance(found, Tensor | np.ndarray):
        return type(found).__name__
    return f"{tuple(found.shape)} {str(found.dtype).removeprefix('torch.')}"


def checked_labels(
    what: str,
    found: Any,
    size: tuple[int, ...],
    dtype: np.dtype[Any],
    num_classes: int | None,
    none: int | None = None,
) -> Labels:
    """Labels that a user's function returned.

    Args:
        what: the function, such as ``step 'mine'``.
        found: what it returned.
        size: (H, W).
        dtype: of the labels in the pipeline.
        num_classes: C; None: not known here.
        none: a value for pixels without a class, where there are such.

    Returns:
        (H, W) of the dtype, contiguous.

    Raises:
        UserError: it is no array of integers of this size, or has values that are no classes.
    """
    array = found.numpy(force=True) if isinstance(found, Tensor) else found
    fits = isinstance(array, np.ndarray) and array.shape == size and array.dtype.kind in "iu"
    if not fits:
        raise UserError(
            f"{what} returned {kind_of(found)}: expected labels (H, W) {size}, integers"
        )
    classes = num_classes or np.iinfo(dtype).max + 1
    strange = (array < 0) | (array >= classes)
    if none is not None:
        strange &= array != none
    if strange.any():
        value = int(array[strange].flat[0])
        raise UserError(f"{what} returned the label {value}: expected 0 to {classes - 1}")
    labels: Labels = np.ascontiguousarray(array.astype(dtype))
    return labels
