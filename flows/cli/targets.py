"""Where the images that a command is given are, and where what is made of each goes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from flows.cli.pictures import ELSEWHERE, check_target
from sclip_core.config import UserError
from sclip_core.datasets.samples import IMAGE_SUFFIXES, by_suffix
from sclip_core.store.files import writable_folder

PICTURE, LABELS = ".sclip.png", ".png"  # endings of what is made


class Found(NamedTuple):
    """An image that was given."""

    path: Path
    name: str  # below the folder that was given, or that it lies in


class Job(NamedTuple):
    """An image, and the files to be made of it."""

    image: Path
    picture: Path
    labels: Path | None


def one_job(image: Path, picture: Path | None, labels: Path | None) -> Job:
    """For a single image: files by name.

    Args:
        image: that was read.
        picture: None: beside it.
        labels: None: no label map.

    Raises:
        UserError: a file that cannot be written, or that is read.
    """
    job = Job(image, picture or image.with_suffix(PICTURE), labels)
    check_target(job.picture, taken=[image])
    if labels is not None:
        check_target(labels, exact=True, taken=[image, job.picture])
    return job


def several_jobs(given: Sequence[Path], pictures: Path | None, labels: Path | None) -> list[Job]:
    """For images and folders of images: files in folders, which are made.

    Args:
        given: images, and folders whose images are taken, with subfolders, in the order of names.
        pictures: the folder; None: each beside its image.
        labels: the folder; None: no label maps.

    Raises:
        UserError: a folder without images, two files of one name, a file that cannot be written or
            that is read.
    """
    images = find_images(given)
    for folder, option in ((pictures, "-o"), (labels, "--labels-out")):
        if folder is not None and os.path.exists(folder) and not os.path.isdir(folder):
            raise UserError(f"{option} {folder} is a file: of several images, pass a folder")
    if labels is not None:
        _refuse_inside(labels, given)
    targets = _named(images, pictures, PICTURE)
    maps = _named(images, labels, LABELS) if labels is not None else [None] * len(images)
    paths = zip((image.path for image in images), targets, maps, strict=True)
    jobs = [Job(image, picture, label_map) for image, picture, label_map in paths]
    _refuse_twice(jobs)
    _check(jobs, pictures is not None)
    return jobs


def find_images(given: Iterable[Path]) -> list[Found]:
    """The images, each once, as given; those of a folder as the dataset's reader sorts them.

    Raises:
        UserError: a folder without images, or one that cannot be listed.
    """
    found: dict[str, Found] = {}
    for path in given:
        if os.path.isdir(path):
            listed = sorted(by_suffix(path, IMAGE_SUFFIXES), key=lambda file: (file[1], file[0]))
            names = [name for name, _, _ in listed if not name.lower().endswith(PICTURE)]
            if not names:
                raise UserError(f"no image in {path}: expected {' '.join(IMAGE_SUFFIXES)}")
            images = [Found(path / name, name) for name in names]
        else:
            images = [Found(path, path.name)]
        for image in images:
            found.setdefault(_place(image.path), image)
    return list(found.values())


def _place(path: Path) -> str:
    """The same for every spelling of a path; a link is not what it leads to."""
    return os.path.join(os.path.realpath(path.parent), path.name)


def _named(images: Sequence[Found], folder: Path | None, ending: str) -> list[Path]:
    """A file for each image: in the folder, or beside it; with its own ending where stems agree."""
    bases = [image.path if folder is None else folder / image.name for image in images]
    short = [base.with_suffix(ending) for base in bases]
    times = Counter(short)
    return [
        path if times[path] == 1 else base.with_name(base.name + ending)
        for path, base in zip(short, bases, strict=True)
    ]


def _refuse_inside(labels: Path, given: Iterable[Path]) -> None:
    """Raise where the next command would take the label maps for images."""
    for folder in filter(os.path.isdir, given):
        if Path(os.path.realpath(labels)).is_relative_to(os.path.realpath(folder)):
            raise UserError(
                f"--labels-out {labels} lies in {folder}: label maps there would be taken for "
                "images; pass another folder"
            )


def _refuse_twice(jobs: Iterable[Job]) -> None:
    """Raise where two files would be one."""
    made: dict[str, Path] = {}
    for job in jobs:
        for target in filter(None, (job.picture, job.labels)):
            other = made.setdefault(_place(target), job.image)
            if other is not job.image:
                raise UserError(
                    f"{target} would be made of both {other} and {job.image}: rename one, or "
                    "take two commands"
                )


def _check(jobs: Sequence[Job], in_folder: bool) -> None:
    """Make the folders, then refuse what cannot be written. An image may still be missing."""
    images = {os.path.realpath(job.image): job.image for job in jobs}
    targets = [(job.labels, "--labels-out") for job in jobs if job.labels is not None]
    targets += [(job.picture, "-o") for job in jobs if in_folder or os.path.exists(job.image)]
    for target, _ in targets:
        taken = images.get(os.path.realpath(target))
        if taken is not None:
            raise UserError(f"{target} would replace {taken}: {ELSEWHERE}")
    for folder, option in dict.fromkeys((target.parent, option) for target, option in targets):
        writable_folder(folder, option)
    for target, _ in targets:
        check_target(target)
