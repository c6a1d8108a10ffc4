"""Label maps of the user's own images, drawn once from COCO, LabelMe or YOLO annotations."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sclip_core.config import ImageError, UserError
from sclip_core.config.counts import number_of
from sclip_core.config.errors import few, shown
from sclip_core.datasets import IGNORED, Vocabulary, image_size, read_sample
from sclip_core.datasets.annotations import (
    Annotations,
    has_background,
    match,
    open_annotations,
)
from sclip_core.datasets.causes import IGNORE_LABEL
from sclip_core.datasets.headers import Header, read_header
from sclip_core.datasets.images import turned
from sclip_core.datasets.label_names import plain_form
from sclip_core.datasets.samples import files_of, own_folder
from sclip_core.datasets.suffixes import IMAGE_SUFFIXES
from sclip_core.store.digests import State
from sclip_core.store.files import write_whole, written_to
from sclip_core.store.keys import artifact_key, canonical_json

VERSION = 1  # of the drawing; a higher one draws all maps again
MARKER = "complete.json"  # written last: the state of each image whose map is drawn
MOST_THREADS = 8
IGNORE_LABEL_16 = 65535  # value of pixels that are not evaluated, in maps of 16 bits
SHOWN = 3  # faults given in an error


class Job(NamedTuple):
    """A label map to draw."""

    image_id: str
    known_as: str  # the id of the image in the annotations
    image: Path
    target: Path


class How(NamedTuple):
    """How images are read, and those whose annotations were turned with them."""

    exif: str
    turned: list[Path]

    def report(self, say: Callable[[str], None]) -> None:
        """Say which annotations were turned."""
        if self.turned:
            say(
                f"the annotations of {number_of(len(self.turned), 'image')} fit the pixels "
                "before EXIF turns them, and are turned with them: "
                f"{few(sorted(self.turned))}"
            )


def label_maps(
    labels: Path,
    images: Path,
    vocabulary: Vocabulary,
    folder: Path,
    workers: int | None = None,
    limit: int | None = None,
    say: Callable[[str], None] = lambda line: None,
    elsewhere: Path | None = None,
    all_listed: bool = True,
    exif: str = "apply",
) -> Path:
    """Draw a label map for each image that has annotations.

    Pixels that no annotation covers are background, or have the value of `unlabelled`. Maps of
    an earlier call are kept, unless annotations, vocabulary or image have changed.

    Args:
        labels: a COCO file, or a folder of LabelMe or YOLO files.
        images: the folder of the images.
        vocabulary: the classes, whose words are the names of the categories.
        folder: where the maps are kept, each set in a folder of its own.
        workers: threads; None: as many as the machine has cores, up to eight.
        limit: only the first so many images have to be annotated.
        say: called with a line on what a user should know.
        elsewhere: where all maps are drawn if ``folder`` lacks some; None: in ``folder``.
        all_listed: whether an image that the annotations do not list is a mistake.
        exif: whether images are turned as EXIF asks for: ``apply`` or ``ignore``.

    Returns:
        The folder of the maps; the map of ``a/b.jpg`` is ``a/b.png`` in it.

    Raises:
        UserError: the annotations cannot be used, have a category without a class, or lack
            images; some maps cannot be drawn (all others are); or the disk is full.
    """
    annotations = open_annotations(labels)
    classes_of = match(annotations.used, vocabulary, str(labels))
    rest = vocabulary.numbers[0] if has_background(vocabulary) else unlabelled(vocabulary)
    threads = workers or min(MOST_THREADS, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads, thread_name_prefix="sclip-maps") as pool:
        maps = folder / _key(annotations, vocabulary, pool, exif)
        there = files_of(own_folder(images, "--images"), IMAGE_SUFFIXES)
        jobs = _jobs(annotations, labels, there, maps, limit, say, all_listed)
        done = _done(maps)
        states = {job.image_id: _state(job.image) for job in jobs}
        kept = {i for i, state in states.items() if done.get(i) == state}
        todo = [job for job in jobs if job.image_id not in kept or not job.target.is_file()]
        if not todo:
            return maps
        if elsewhere is not None:
            more: Any = {"all_listed": all_listed, "exif": exif}
            return label_maps(labels, images, vocabulary, elsewhere, workers, limit, **more)
        how = How(exif, [])
        faults = _draw_all(pool, todo, partial(_draw, annotations, classes_of, rest, how), done)
    how.report(say)
    if faults:
        raise _undrawn(faults, len(jobs), labels)
    _finish(maps, {**done, **states})
    return maps


def _finish(maps: Path, states: Mapping[str, Any]) -> None:
    """Note the state of each image whose map is drawn."""
    text = canonical_json({"images": states})
    write_whole(maps / MARKER, lambda path: path.write_text(text, encoding="utf-8"))


def _undrawn(faults: Sequence[ImageError], total: int, labels: Path) -> UserError:
    """The error for maps that cannot be drawn."""
    more = f"; and {len(faults) - SHOWN:,} more" if len(faults) > SHOWN else ""
    return UserError(
        f"{len(faults):,} of {total:,} label maps cannot be drawn from {labels}: "
        f"{'; '.join(map(str, faults[:SHOWN]))}{more}"
    )


def _jobs(
    annotations: Annotations,
    labels: Path,
    images: Mapping[str, Path],
    maps: Path,
    limit: int | None,
    say: Callable[[str], None],
    all_listed: bool,
) -> list[Job]:
    """The maps to be drawn, of all images or of those with annotations, as the format demands.

    Raises:
        UserError: there are no annotations, or images lack some in a format in which that does
            not mean that they have no objects.
    """
    if not annotations.used:
        raise UserError(
            f"{labels} ({annotations.format}) holds no annotation, so that nothing could be "
            "scored: is it the right one?"
        )
    known_as = _matched(annotations, labels, images)
    unlisted = [i for i in list(images)[:limit] if i not in known_as]
    if unlisted:
        found = f"{number_of(len(unlisted), 'image', 'are')} not in {labels} ({annotations.format})"
        if not annotations.unlisted_is_empty and all_listed:
            other = next((i for i in annotations.ids() if i.endswith(f"/{unlisted[0]}")), None)
            alike = f" (it lists {shown(other)}: subfolders must be the same)" if other else ""
            advice = "annotate them, or pass --missing-labels skip or empty"
            raise UserError(f"{found}: {few(unlisted)}{alike}; {advice}")
        if annotations.unlisted_is_empty:
            say(f"{found}, and taken for images without objects: {few(unlisted)}")
    drawn = images if annotations.unlisted_is_empty else known_as
    return [Job(i, known_as.get(i, i), images[i], maps / f"{i}.png") for i in drawn]


def _draw_all(
    pool: ThreadPoolExecutor,
    jobs: Sequence[Job],
    draw: Callable[..., None],
    done: Mapping[str, Any],
) -> list[ImageError]:
    """Draw maps in threads, and return the errors of those that cannot be drawn.

    Args:
        pool: the threads.
        jobs: the maps.
        draw: draws the map of a job; ``seen_before`` tells it whether one was drawn before.
        done: the images whose maps were drawn before.
    """
    for above in {job.target.parent for job in jobs}:
        with written_to(above):
            above.mkdir(parents=True, exist_ok=True)

    def fault_of(job: Job) -> ImageError | None:
        try:
            draw(job, seen_before=job.image_id in done)
        except ImageError as error:
            return error
        return None

    return [fault for fault in pool.map(fault_of, jobs) if fault is not None]


def unlabelled(vocabulary: Vocabulary) -> int:
    """The value of pixels that no annotation covers, for a vocabulary without background.

    It is 255, or 65535 from 255 classes on, whose maps have 16 bits; a run over those needs
    ``ignore_label`` 65535.

    Raises:
        UserError: there are so many classes that 65535 is one of them.
    """
    if vocabulary.highest >= IGNORE_LABEL_16:
        raise UserError(
            f"{vocabulary.num_classes:,} classes leave no value for pixels without annotation: "
            "make the first class 'background'"
        )
    return IGNORE_LABEL if vocabulary.highest < IGNORE_LABEL - 1 else IGNORE_LABEL_16


def _draw(
    annotations: Annotations,
    classes_of: Mapping[str | int, int],
    rest: int,
    how: How,
    job: Job,
    seen_before: bool,
) -> None:
    """Draw one map, unless an interrupted call has; ``seen_before``: the image has changed."""
    header = _header(job.image)
    size_hw = header.shown if how.exif == "apply" else header.size
    if not seen_before and job.target.is_file():
        with suppress(ImageError):
            if _size(job.target) == size_hw:
                return
    try:
        classes = annotations.draw(job.known_as, classes_of, size_hw)
    except ImageError as error:
        classes = _drawn_as_stored(annotations, classes_of, job, header, error)
        how.turned.append(job.image)
    values: NDArray[np.int32] = np.where(classes == IGNORED, rest, classes)
    deep = max(rest, *classes_of.values(), 0) > IGNORE_LABEL
    image = Image.fromarray(values.astype(np.uint16 if deep else np.uint8))
    write_whole(job.target, lambda path: image.save(path, format="PNG"))


def _drawn_as_stored(
    annotations: Annotations,
    classes_of: Mapping[str | int, int],
    job: Job,
    header: Header,
    error: ImageError,
) -> NDArray[np.int32]:
    """The map of annotations that have the size of an image before EXIF turns it, turned with it.

    Raises:
        ImageError: the one given, where that is not so.
    """
    if header.size == header.shown:
        raise error
    try:
        return turned(annotations.draw(job.known_as, classes_of, header.size), header.orientation)
    except ImageError:
        raise error from None


def _header(path: Path) -> Header:
    """Of an image that is not damaged."""
    data = read_sample(path)
    return read_header(data) or Header("unknown", image_size(data, str(path)))


def _size(path: Path) -> tuple[int, int]:
    return image_size(read_sample(path), str(path))


def _key(
    annotations: Annotations, vocabulary: Vocabulary, pool: ThreadPoolExecutor, exif: str
) -> str:
    """The key of all that the maps depend on, apart from the sizes of the images."""
    names = sorted(annotations.files)
    digests = pool.map(_digest, [annotations.files[name] for name in names])
    identity = {
        "version": VERSION,
        "format": annotations.format,
        "annotations": dict(zip(names, digests, strict=True)),
        "class_names": vocabulary.class_names,
        "words": vocabulary.words,
    }
    if vocabulary.labels or vocabulary.ignored:
        identity |= {"labels": vocabulary.labels, "ignored": vocabulary.ignored}
    if exif != "apply":
        identity["exif"] = exif
    return artifact_key(identity)


def _digest(path: Path) -> str:
    """The SHA-256 of a file; empty for a missing file, about which drawing raises an error."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise UserError(f"cannot read the annotations {path}: {error.strerror}") from None


def _matched(annotations: Annotations, labels: Path, images: Mapping[str, Path]) -> dict[str, str]:
    """For each image with annotations, its id in these; at least one image has some."""
    known = annotations.ids()
    cut = _folders_above(known, images)
    ids = {"/".join(one.split("/")[cut:]): one for one in known}
    composed = {plain_form(image_id): image_id for image_id in images}
    as_images = {
        i if i in images else composed.get(plain_form(i), i): one for i, one in ids.items()
    }
    found = {image_id: one for image_id, one in as_images.items() if image_id in images}
    if found:
        return found
    there, listed = next(iter(images), None), next(iter(known), None)
    raise UserError(
        f"{labels} ({annotations.format}) has none of the images: it lists {len(known):,}, e.g. "
        f"{shown(listed)}, and --images holds {len(images):,}, e.g. {shown(there)}; names and "
        "subfolders must be the same, only the ending may differ"
    )


def _folders_above(known: Sequence[str], images: Mapping[str, Path]) -> int:
    """How many leading folders of the annotations' names lie above ``--images``.

    It is 1 for ``images/a.jpg`` if ``--images`` is that folder. Only folders that all names share
    are left out, so that no two images become one.
    """
    shared = os.path.commonpath([f"/{os.path.dirname(one)}" for one in known]) if known else "/"
    for cut in range(len(Path(shared).parts)):  # the root itself is a part
        if any("/".join(one.split("/")[cut:]) in images for one in known):
            return cut
    return 0


def _done(maps: Path) -> dict[str, list[int]]:
    """The state, at that time, of the images whose maps earlier calls finished."""
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        done: Any = json.loads((maps / MARKER).read_text("utf-8"))["images"]
        return {image: state for image, state in done.items() if _is_state(state)}
    return {}


def _is_state(value: object) -> bool:
    """Whether a value of the marker file could come from `_state`."""
    return isinstance(value, list) and all(type(number) is int for number in value)


def _state(path: Path) -> list[int]:
    """Size, times and inode of a file, which tell whether it has changed."""
    try:
        return [*State.of(path.stat())]
    except OSError as error:
        raise UserError(f"cannot read the image {path}: {error.strerror}") from None
