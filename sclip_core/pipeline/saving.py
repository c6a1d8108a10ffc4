"""Where ``--save-vis`` puts the pictures and, of images without ground truth, the label maps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from sclip_core.config import Settings, UserError
from sclip_core.datasets import Sample
from sclip_core.store.files import writable_folder

LABEL_MAPS = "labels"  # the subfolder of the label maps


def picture_path(folder: Path, image_id: str) -> Path:
    """The file of an image's picture: an image ``a/b`` becomes ``a/b.png``."""
    return folder / f"{image_id}.png"


def label_map_path(folder: Path, image_id: str) -> Path:
    """The file of an image's label map."""
    return picture_path(folder / LABEL_MAPS, image_id)


def check_place(settings: Settings, samples: Sequence[Sample]) -> None:
    """See that what a run saves has a place, and takes that of nothing else.

    Args:
        settings: of the run.
        samples: of its dataset.

    Raises:
        UserError: nothing is scored and nothing saved, a folder that cannot be written to, the
            folder of the images, or a picture and a label map of one name.
    """
    folder = settings.save_vis
    if folder is None:
        if not settings.scored:
            raise UserError(
                "nothing to score without --labels, and nowhere to save: pass --save-vis DIR "
                "(or --labels DIR)"
            )
        return
    if not settings.scored:
        _refuse_overwriting(settings, folder, samples)
    writable_folder(folder, "--save-vis")


def _refuse_overwriting(settings: Settings, folder: Path, samples: Sequence[Sample]) -> None:
    """Raise where a picture or a label map could replace an image, or one the other."""
    if isinstance(settings.images, Path) and _lie_in_each_other(folder, settings.images):
        raise UserError(
            f"--save-vis {folder} and --images {settings.images} lie in each other: what is "
            "saved would be taken for images, or replace them; pass another folder"
        )
    ids = {sample.image_id for sample in samples}
    both = min((i for i in ids if f"{LABEL_MAPS}/{i}" in ids), default=None)
    if both is not None:
        raise UserError(
            f"the picture of {LABEL_MAPS}/{both} and the label map of {both} would both be "
            f"{label_map_path(folder, both)}: rename the folder {LABEL_MAPS} in --images"
        )


def _lie_in_each_other(folder: Path, images: Path) -> bool:
    """Whether pictures would lie among the images, or images among the label maps."""
    read, place = Path(os.path.realpath(images)), Path(os.path.realpath(folder))
    return place.is_relative_to(read) or read.is_relative_to(place / LABEL_MAPS)
