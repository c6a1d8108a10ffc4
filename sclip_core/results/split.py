"""A part of the images, by their bytes alone: to choose settings on, and not to report on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import UserError
from sclip_core.config.places import Place
from sclip_core.results.files import read_run
from sclip_core.results.past_run import Source

PARTS = 1 << 64  # values of the first eight bytes of a digest


def in_part(digest: str, part: float, seed: int = 0) -> bool:
    """Whether an image belongs to the tuning part.

    It follows from the image's bytes, the share and the seed: not from its name, its place or
    which other images there are. A larger share contains a smaller one.

    Args:
        digest: sha256 of the image file's bytes, as hex digits.
        part: the share of images that belong to it, on average.
        seed: another one gives another division.
    """
    found = hashlib.sha256(f"{seed}:{digest}".encode()).digest()
    return int.from_bytes(found[:8], "big") < part * PARTS


def parts_of(
    ids: Iterable[str], digests: Mapping[str, str], part: float, seed: int = 0
) -> NDArray[np.bool_]:
    """Which images (N,) belong to the tuning part.

    Args:
        ids: N, of the images.
        digests: by the id of the image.
        part: see ``in_part``.
        seed: see ``in_part``.

    Raises:
        UserError: the share is not between 0 and 1, or one of the two parts has no image.
    """
    if not 0 < part < 1:
        raise UserError(f"--part {part:g}: expected a share of the images between 0 and 1")
    found = np.array([in_part(digests[image_id], part, seed) for image_id in ids], bool)
    if found.all() or not found.any():
        which = "other" if found.any() else "tuning"
        raise UserError(
            f"the {which} part has none of the {len(found)} images (--part {part:g}, --seed "
            f"{seed}): take more images, another share or another seed"
        )
    return found


def digests_of(run_id: str, ids: Iterable[str], root: Place) -> dict[str, str]:
    """The digests of the bytes of a run's images, read where they were when it was run.

    Raises:
        UserError: they are not there any more.
    """
    source = Source(root, read_run(root, run_id)[0])
    wanted = list(ids)
    gone = next((image_id for image_id in wanted if image_id not in source), None)
    if gone is not None:
        raise UserError(f"the dataset of {run_id} has no image {gone} any more: run it again")
    return {image_id: source.digest(image_id) for image_id in wanted}
