"""Id maps: disjoint masks of an image as one array of integers, in memory or in a file."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sclip_core.config import ImageError, UserError
from sclip_core.masks.proposals import Proposals

SUFFIXES = (".png", ".npy")


def as_id_map(ids: Any, size: tuple[int, int]) -> NDArray[np.int64]:
    """An id map of an image, checked.

    Args:
        ids: (H, W) integers; a mask is the pixels of one id, and the lowest id is no mask.
        size: (H, W) of the image.

    Raises:
        UserError: it is no such array, or of another size.
    """
    found = np.asarray(ids)
    if found.ndim != 2 or found.dtype.kind not in "iub":
        raise UserError(
            f"masks: expected Proposals, or an id map (H, W) of integers; found an array "
            f"{found.dtype} of shape {found.shape}"
        )
    if found.shape != size:
        raise UserError(f"masks of an image of {found.shape} for one of {size}")
    checked: NDArray[np.int64] = found.astype(np.int64)
    return checked


def proposals_of(ids: NDArray[np.int64]) -> Proposals:
    """The masks of an id map, one for each id but the lowest, in the order of the ids."""
    distinct = np.unique(ids)[1:]
    turned = np.ascontiguousarray(ids.T)
    parts = []
    for some in np.array_split(distinct, -(-len(distinct) // 64) or 1):  # a few at a time
        parts.append(Proposals.of_masks(turned[None] == some[:, None, None]))
    return Proposals.joined(parts, (ids.shape[0], ids.shape[1]))


def id_map_file(folder: Path, image_id: str) -> Path:
    """The file of an image's id map.

    Args:
        folder: with a PNG or npy file for each image.
        image_id: the image's, which may have folders in it.

    Raises:
        ImageError: there is none, or both kinds.
    """
    found = [path for suffix in SUFFIXES if (path := folder / f"{image_id}{suffix}").is_file()]
    if len(found) == 1:
        return found[0]
    names = " or ".join(f"{image_id}{suffix}" for suffix in SUFFIXES)
    what = f"has no {names}" if not found else f"has both {names}"
    raise ImageError(f"{image_id}: the folder of masks {folder} {what}: one id map is needed")


def read_id_map(path: Path, size: tuple[int, int]) -> NDArray[np.int64]:
    """Read an id map from a PNG (8 or 16 bits, or a palette) or an npy file.

    Args:
        path: of the file.
        size: (H, W) of its image.

    Raises:
        ImageError: it cannot be read, is no id map, or of another size.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}") from None
    return decode_id_map(data, path, size)


def decode_id_map(data: bytes, path: Path, size: tuple[int, int]) -> NDArray[np.int64]:
    """The id map in the bytes of a file; see ``read_id_map``."""
    try:
        if path.suffix == ".npy":
            found = np.load(BytesIO(data), allow_pickle=False)
        else:
            with Image.open(BytesIO(data)) as opened:
                found = np.asarray(opened)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ImageError(f"{path} cannot be read as an id map: {error}") from None
    if found.ndim != 2 or found.dtype.kind not in "iub":
        raise ImageError(
            f"{path} is no id map: expected one channel of integers, found {found.dtype} of shape "
            f"{found.shape}"
        )
    if found.shape != size:
        raise ImageError(
            f"{path} has {found.shape[0]}×{found.shape[1]} pixels, its image has "
            f"{size[0]}×{size[1]}"
        )
    ids: NDArray[np.int64] = found.astype(np.int64)
    return ids
