"""Label maps of the user's own images, drawn once from COCO, LabelMe or YOLO annotations."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo

from sclip_core.config import ImageError, UserError
from sclip_core.config.counts import number_of
from sclip_core.config.errors import few
from sclip_core.datasets import IGNORED, Vocabulary, image_size, read_sample
from sclip_core.datasets.annotations.categories import (
    NOT_EVALUATED,
    Category,
    has_background,
    match,
    special,
)
from sclip_core.datasets.annotations.identity import maps_key
from sclip_core.datasets.annotations.listing import Listed, listed
from sclip_core.datasets.annotations.marker import Drawn, is_lines
from sclip_core.datasets.annotations.opening import Annotations, open_annotations
from sclip_core.datasets.causes import IGNORE_LABEL
from sclip_core.datasets.headers import Header, read_header
from sclip_core.datasets.images import turned
from sclip_core.datasets.integrity import refuse_damaged
from sclip_core.datasets.sample import Sample
from sclip_core.datasets.samples import files_of, own_folder
from sclip_core.datasets.suffixes import IMAGE_SUFFIXES
from sclip_core.store.file_states import State
from sclip_core.store.files import write_whole, written_to

MARKER = "complete.json"  # written last: the state of each image whose map is drawn
FAULTS = "faults"  # key of a PNG's text: lines on shapes that are not in it, as JSON
MOST_THREADS = 8
IGNORE_LABEL_16 = 65535  # value of pixels that are not evaluated, in maps of 16 bits
TURNED = "turned"  # in place of a line: the annotations were turned with their image
SHOWN = 3  # faults given in a line


class Job(NamedTuple):
    """A label map to draw."""

    image_id: str
    known_as: str  # the id of the image in the annotations
    image: Path
    target: Path


class Values(NamedTuple):
    """What is written in the maps."""

    classes_of: Mapping[Category, int]
    rest: int  # of pixels without annotation
    ignored: int  # of pixels that are not evaluated
    exif: str  # whether images are turned as EXIF asks for: ``apply`` or ``ignore``


class Maps(NamedTuple):
    """Label maps that were drawn, now or earlier."""

    folder: Path  # the map of ``a/b.jpg`` is ``a/b.png`` in it
    left_out: tuple[tuple[Sample, str], ...]  # images that have no map, and why
    faults: tuple[str, ...]  # lines on annotations that are not in the maps


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
    """Draw the label maps of all images, as `draw_maps` does, and give their folder.

    Raises:
        UserError: as `draw_maps`; or an image has no map.
    """
    given = (labels, images, vocabulary, folder, workers, lambda ids: list(ids)[:limit])
    return draw_maps(*given, say, elsewhere, all_listed, True, exif).folder


def draw_maps(
    labels: Path,
    images: Path,
    vocabulary: Vocabulary,
    folder: Path,
    workers: int | None = None,
    choose: Callable[[Sequence[str]], list[str]] = list,
    say: Callable[[str], None] = lambda line: None,
    elsewhere: Path | None = None,
    all_listed: bool = True,
    every: bool = False,
    exif: str = "apply",
) -> Maps:
    """Draw a label map for each image that has annotations.

    Pixels without annotation are background if that is a class, else `unlabelled`, as are those not
    to be evaluated. Maps are kept unless annotations, vocabulary or image have changed.

    Args:
        labels: a COCO file, or a folder of COCO, LabelMe or YOLO files.
        images: the folder of the images.
        vocabulary: the classes, whose words are the names of the categories.
        folder: where the maps are kept, each set in a folder of its own.
        workers: threads; None: as many as the machine has cores, up to eight.
        choose: gives the images that have to be annotated.
        say: called with a line for each thing to know.
        elsewhere: where all maps are drawn if ``folder`` lacks some, which then stays as it is.
        all_listed: whether an image that the annotations do not list is a mistake.
        every: whether every listed image must have a map.
        exif: whether images are turned as EXIF asks for: ``apply`` or ``ignore``.

    Raises:
        UserError: annotations that cannot be used; no map can be drawn, or the disk is full.
    """
    annotations = open_annotations(labels)
    values = _values(annotations, vocabulary, labels, exif)
    there = files_of(own_folder(images, "--images"), IMAGE_SUFFIXES)
    found = listed(annotations, labels, there, choose(list(there)), all_listed)
    with _threads(workers) as pool:
        maps = folder / maps_key(annotations, vocabulary, pool, exif, found.known_as)
        jobs = [Job(i, one, there[i], maps / f"{i}.png") for i, one in found.known_as.items()]
        done = Drawn.read(maps / MARKER)
        states = {job.image_id: _state(job.image) for job in jobs}
        todo = [job for job in jobs if not _is_done(job, states[job.image_id], done)]
        if elsewhere is not None:
            if not all(done.known_to_fail(job.image_id, states[job.image_id]) for job in todo):
                given = (labels, images, vocabulary, elsewhere, workers, choose, say)
                return draw_maps(*given, None, all_listed, every, exif)
            todo = []
        results = _draw_all(pool, todo, partial(_draw, annotations, values), done.states)
    done = done.with_results(results, states)
    for line in (*special(values.classes_of), *found.notes, *_turned(done.faults, there, found)):
        say(line)
    result = _result(Maps(maps, (), annotations.faults), found, done, labels, there, every)
    if todo:
        done.write(maps / MARKER)
    return result


def _threads(workers: int | None) -> ThreadPoolExecutor:
    threads = workers or min(MOST_THREADS, os.cpu_count() or 1)
    return ThreadPoolExecutor(threads, thread_name_prefix="sclip-maps")


def _result(
    maps: Maps,
    found: Listed,
    done: Drawn,
    labels: Path,
    there: Mapping[str, Path],
    every: bool,
) -> Maps:
    """The maps, with what is not in them of the images that are wanted.

    Raises:
        UserError: no map can be drawn, or not all if ``every``.
    """
    wanted = found.wanted
    failed = {i: done.failed[i][1] for i in wanted if i in done.failed}
    if failed and (every or len(failed) == len([i for i in wanted if i in found.known_as])):
        raise _cannot_be_drawn(list(failed.values()), len(found.known_as), labels)
    samples = tuple((Sample(i, there[i], None), _unnamed(i, why)) for i, why in failed.items())
    return Maps(maps.folder, samples, maps.faults + _faults(done.faults, wanted, labels))


def _turned(
    found: Mapping[str, Sequence[str]], there: Mapping[str, Path], of: Listed
) -> tuple[str, ...]:
    """The note on annotations that were turned with their images, if there are any."""
    paths = [there[i] for i in of.wanted if TURNED in found.get(i, ())]
    line = (
        f"the annotations of {number_of(len(paths), 'image')} fit the pixels before EXIF "
        f"turns them, and are turned with them: {few(paths)}"
    )
    return (line,) if paths else ()


def _unnamed(image_id: str, why: str) -> str:
    """A line on an image without its id, with which a run begins it anyway."""
    return why.removeprefix(f"{image_id} ")


def _values(annotations: Annotations, vocabulary: Vocabulary, labels: Path, exif: str) -> Values:
    classes_of, ignored = match(annotations.used, vocabulary, str(labels)), unlabelled(vocabulary)
    rest = vocabulary.numbers[0] if has_background(vocabulary) else ignored
    return Values(classes_of, rest, ignored, exif)


def _is_done(job: Job, state: list[int], done: Drawn) -> bool:
    return done.states.get(job.image_id) == state and job.target.is_file()


def _cannot_be_drawn(faults: Sequence[str], of: int, labels: Path) -> UserError:
    return UserError(
        f"{len(faults):,} of {of:,} label maps cannot be drawn from {labels}: {_first(faults)}"
    )


def _faults(
    found: Mapping[str, Sequence[str]], wanted: Collection[str], labels: Path
) -> tuple[str, ...]:
    """One line on all shapes that are not in the maps of the images that are wanted."""
    parts = [[line for line in found.get(i, ()) if line != TURNED] for i in wanted]
    parts = [part for part in parts if part]
    lines = [line for part in parts for line in part]
    if not lines:
        return ()
    shapes = number_of(len(lines), "annotation")
    of = number_of(len(parts), "image")
    return (f"{labels}: faults in {shapes} of {of}: {_first(lines)}",)


def _first(lines: Sequence[str]) -> str:
    more = f"; and {len(lines) - SHOWN:,} more" if len(lines) > SHOWN else ""
    return f"{'; '.join(lines[:SHOWN])}{more}"


def _draw_all(
    pool: ThreadPoolExecutor,
    jobs: Sequence[Job],
    draw: Callable[..., list[str]],
    seen: Collection[str],
) -> dict[str, list[str] | ImageError]:
    """Draw maps in threads; gives the lines on their shapes, or why an image has no map.

    Args:
        pool: the threads.
        jobs: the maps.
        draw: draws the map of a job; ``seen_before`` tells it whether one was drawn before.
        seen: the images whose maps were drawn before.
    """
    for above in {job.target.parent for job in jobs}:
        with written_to(above):
            above.mkdir(parents=True, exist_ok=True)

    def result_of(job: Job) -> list[str] | ImageError:
        try:
            return draw(job, seen_before=job.image_id in seen)
        except ImageError as error:
            return error

    return dict(zip((job.image_id for job in jobs), pool.map(result_of, jobs), strict=True))


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


def _draw(annotations: Annotations, values: Values, job: Job, seen_before: bool) -> list[str]:
    """Draw one map, unless an interrupted call has; ``seen_before``: the image has changed.

    Returns:
        Lines on shapes that are not in it.
    """
    header = _header(job.image)
    size_hw = header.shown if values.exif == "apply" else header.size
    if not seen_before and job.target.is_file():
        with suppress(ImageError):
            if _size(job.target) == size_hw:
                return _faults_in(job.target)
    lines: list[str] = []
    try:
        classes = annotations.draw(job.known_as, values.classes_of, size_hw, lines.append)
    except ImageError as error:
        lines = [TURNED]
        classes = _drawn_as_stored(annotations, values, job, header, error, lines)
    drawn = np.where(classes == IGNORED, values.rest, classes)
    drawn[classes == NOT_EVALUATED] = values.ignored
    deep = max(values.rest, *values.classes_of.values(), drawn.max(initial=0)) > IGNORE_LABEL
    image = Image.fromarray(drawn.astype(np.uint16 if deep else np.uint8))
    text = PngInfo()
    if lines:  # should this call be interrupted, the next one will know
        text.add_text(FAULTS, json.dumps(lines), zip=True)
    write_whole(job.target, lambda path: image.save(path, format="PNG", pnginfo=text))
    return lines


def _faults_in(path: Path) -> list[str]:
    """The lines on shapes that are not in a map, which are in its file."""
    with suppress(OSError, ValueError, SyntaxError), PngImageFile(path) as image:
        found = json.loads(str(image.text.get(FAULTS, "[]")))
        return found if is_lines(found) else []
    return []


def _drawn_as_stored(
    annotations: Annotations,
    values: Values,
    job: Job,
    header: Header,
    error: ImageError,
    lines: list[str],
) -> NDArray[np.int32]:
    """The map of annotations that have the size of an image before EXIF turns it, turned with it.

    Raises:
        ImageError: the one given, where that is not so; another, where they have the size after
            the turn, which the user has asked to ignore.
    """
    if header.size == header.shown:
        raise error
    ignored = values.exif != "apply"
    other, tell = header.shown if ignored else header.size, lines.append
    try:
        drawn = annotations.draw(job.known_as, values.classes_of, other, tell)
    except ImageError:
        raise error from None
    if ignored:
        raise ImageError(
            f"{job.image_id}: its annotations fit the pixels after EXIF turns them, which "
            "--exif ignore prevents: leave that out"
        ) from None
    return turned(drawn, header.orientation)


def _header(path: Path) -> Header:
    """Of an image that is not damaged."""
    data = read_sample(path)
    refuse_damaged(data, str(path))
    return read_header(data) or Header("unknown", image_size(data, str(path)))


def _size(path: Path) -> tuple[int, int]:
    return image_size(read_sample(path), str(path))


def _state(path: Path) -> list[int]:
    """Size, times and inode of a file, which tell whether it has changed."""
    try:
        return [*State.of(path.stat())]
    except OSError as error:
        raise UserError(f"cannot read the image {path}: {error.strerror}") from None
