"""The files that a command is to write: named after its images, and checked beforehand."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sclip_core.config import UserError
from sclip_core.datasets.samples import by_suffix
from sclip_core.datasets.suffixes import IMAGE_SUFFIXES
from sclip_core.store.files import writable_folder, write_whole, written_to

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURE, LABELS = ".sclip.png", ".png"  # endings of the files that are made of an image
FORMATS = {"": "PNG", ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
# Of PNG, and of the others. Pillow's own level 6 takes three times as long to save a twentieth.
QUALITY = {"compress_level": 4, "quality": 95}
EXACT = ("", ".png")  # of label maps: the other formats change pixels
GEOTIFF = (".tif", ".tiff")  # of label maps, with the georeference of the image
ELSEWHERE = "choose another path"


class Found(NamedTuple):
    """An image that was given."""

    path: Path
    name: str  # relative to the folder that was given, or to its own


class Job(NamedTuple):
    """An image, and the files to be made of it."""

    image: Path
    picture: Path
    labels: Path | None
    heat: Path | None = None


def check_target(
    target: Path,
    endings: Sequence[str] = tuple(FORMATS),
    taken: Iterable[Path] = (),
    what: str = "a picture",
) -> None:
    """Refuse a file that cannot be written, before there is anything to write.

    Args:
        target: the file.
        endings: those that its name may have.
        taken: files, and folders with everything in them, that it must not replace.
        what: the file is, for the message.

    Raises:
        UserError: the folder is missing or not writable; the target is a folder, a device, a pipe,
            a broken link or one of ``taken``; or its ending is of another format.
    """
    if os.path.isdir(target):
        raise UserError(f"{target} is a folder: pass the name of {what} in it")
    if not os.path.isdir(target.parent):
        raise UserError(f"no folder {target.parent} to write {target.name} to: create it first")
    if os.path.islink(target) and not os.path.exists(target):
        missing = os.readlink(target)
        raise UserError(f"{target} is a link to {missing}, which is not there: {ELSEWHERE}")
    if os.path.exists(target) and not os.path.isfile(target):
        raise UserError(f"{target} is a device or a pipe: {ELSEWHERE}")
    real = Path(os.path.realpath(target))
    for other in taken:
        if real.is_relative_to(os.path.realpath(other)):
            raise UserError(f"{target} would replace {other}, or a file in it: {ELSEWHERE}")
    if target.suffix.lower() not in endings:
        known = ", ".join(filter(None, endings))
        raise UserError(f"{target}: {what} is written as {known}; change the ending")
    with written_to(target.parent, ELSEWHERE), tempfile.TemporaryFile(dir=target.parent):
        pass


def save(picture: Image, target: Path) -> None:
    """Write a picture, whole or not at all.

    Args:
        picture: to write.
        target: a name that ``check_target`` accepted.

    Raises:
        DiskError: it cannot be written.
    """
    kind = FORMATS[target.suffix.lower()]
    with written_to(target, ELSEWHERE):
        write_whole(target, lambda path: picture.save(path, kind, **QUALITY))


def one_job(image: Path, picture: Path | None, labels: Path | None) -> Job:
    """The files of a single image.

    Args:
        image: that is read.
        picture: to write; None: beside the image.
        labels: the label map to write; None: no label map.

    Raises:
        UserError: a file cannot be written, or is one that is read.
    """
    job = Job(image, picture or image.with_suffix(PICTURE), labels)
    check_target(job.picture, taken=[image])
    if labels is not None:
        check_target(labels, (*EXACT, *GEOTIFF), [image, job.picture], "a label map")
    return job


def several_jobs(
    given: Sequence[Path], pictures: Path | None, labels: Path | None, heat: Path | None = None
) -> list[Job]:
    """The files of images and of folders of images; folders that are missing are made.

    Args:
        given: images, and folders whose images are taken, with subfolders, in the order of names.
        pictures: the folder to write to; None: each picture beside its image.
        labels: the folder of the label maps; None: no label maps.
        heat: the folder of the heat maps, a folder for each image; None: no heat maps.

    Raises:
        UserError: a folder without images, two files of one name, a file that cannot be written or
            that is read.
    """
    images = find_images(given)
    for folder, option in ((pictures, "-o"), (labels, "--labels-out")):
        if folder is not None and os.path.exists(folder) and not os.path.isdir(folder):
            raise UserError(f"{option} {folder} is a file: for several images, pass a folder")
    for folder in filter(os.path.isdir, given):
        if labels and Path(os.path.realpath(labels)).is_relative_to(os.path.realpath(folder)):
            raise UserError(
                f"--labels-out {labels} is inside {folder}: label maps there would be taken for "
                "images; pass another folder"
            )
    paths = [image.path for image in images]
    maps = _named(images, labels, LABELS) if labels else [None] * len(images)
    heats = _named(images, heat, "") if heat else [None] * len(images)
    jobs = list(map(Job, paths, _named(images, pictures, PICTURE), maps, heats))
    _refuse_overwriting(jobs)
    targets = [(job.labels, "--labels-out") for job in jobs if job.labels is not None]
    # beside an image that is missing there may be no folder: that one is left out later
    targets += [(job.picture, "-o") for job in jobs if pictures or os.path.exists(job.image)]
    for folder, option in dict.fromkeys((target.parent, option) for target, option in targets):
        writable_folder(folder, option)
    for target, _ in targets:
        check_target(target)
    return jobs


def find_images(given: Iterable[Path]) -> list[Found]:
    """The images, each once, as given; those of a folder as the dataset's reader sorts them.

    Raises:
        UserError: a folder without images, or one that cannot be listed.
    """
    found: dict[str, Found] = {}
    for path in given:
        images = [Found(path, path.name)]
        if os.path.isdir(path):
            listed = sorted(by_suffix(path, IMAGE_SUFFIXES), key=lambda file: (file[1], file[0]))
            names = [name for name, _, _ in listed if not name.lower().endswith(PICTURE)]
            if not names:
                raise UserError(f"no image in {path}: expected {' '.join(IMAGE_SUFFIXES)}")
            images = [Found(path / name, name) for name in names]
        for image in images:
            found.setdefault(_place(image.path), image)
    return list(found.values())


def _place(path: Path) -> str:
    """The same for every spelling of a path; a link is not the file that it points to."""
    return os.path.join(os.path.realpath(path.parent), path.name)


def _named(images: Sequence[Found], folder: Path | None, ending: str) -> list[Path]:
    """A file for each image: in the folder, or beside it; with its own ending where stems agree."""
    bases = [image.path if folder is None else folder / image.name for image in images]
    times = Counter(base.with_suffix(ending) for base in bases)
    return [
        short if times[short] == 1 else base.with_name(base.name + ending)
        for base in bases
        for short in [base.with_suffix(ending)]
    ]


def _refuse_overwriting(jobs: Iterable[Job]) -> None:
    """Raise where two files would be one, or an image would be replaced."""
    read = {os.path.realpath(job.image): job.image for job in jobs}
    made: dict[str, Path] = {}
    for job in jobs:
        for target in filter(None, (job.picture, job.labels)):
            other = made.setdefault(_place(target), job.image)
            if other is not job.image:
                raise UserError(
                    f"{target} would be made of both {other} and {job.image}: rename one, or "
                    "run the command twice"
                )
            taken = read.get(os.path.realpath(target))
            if taken is not None:
                raise UserError(f"{target} would replace {taken}: {ELSEWHERE}")
