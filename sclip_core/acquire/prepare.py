"""``sclip data prepare``: raw annotations to the label maps that are evaluated, file by file.

Each map is drawn, compared with an existing file, and written whole; a file that differs stays as
it is without ``force``. A second call continues where the first stopped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from sclip_core.acquire import SILENT, Progress, counted
from sclip_core.acquire.conversion import Conversion, Job
from sclip_core.acquire.raw import CONVERSIONS, checked_source
from sclip_core.acquire.sources import source_of
from sclip_core.acquire.trees import find_root, other_trees
from sclip_core.config import ImageError, UserError, tables
from sclip_core.datasets import decode_label, read_sample
from sclip_core.datasets.record import record_of, write_record
from sclip_core.datasets.samples import ids_below
from sclip_core.store.files import write_whole, written_to

COMPRESSION = 1  # of zlib: 5,000 maps in half the time, and a tenth larger

State = Literal["written", "there", "differs"]


@dataclass
class Prepared:
    """What happened to the label maps of a layout.

    Attributes:
        layout: the name of the layout.
        source: what they were made from, e.g. ``"stuff"``.
        written: how many were written.
        there: how many were there already, with the same pixels.
        differing: files that have other pixels, and were left as they are.
        failed: why a map could not be made, by image id.
        alone: maps without a raw annotation, which were left as they are.
    """

    layout: str
    source: str
    written: int = 0
    there: int = 0
    differing: list[Path] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    alone: list[Path] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether all label maps of the layout are those made from the source."""
        return not (self.differing or self.failed or self.alone)


def prepare(
    name: str,
    root: Path,
    source: str | None = None,
    force: bool = False,
    workers: int | None = None,
    progress: Progress = SILENT,
) -> Prepared | None:
    """Make the label maps of a benchmark's validation split.

    Args:
        name: the benchmark, e.g. ``"coco_object"``.
        root: the folder with its tree, or the one above it.
        source: what to make it from, where there is a choice (``"stuff"`` or ``"instances"``,
            ``"labelIds"`` or ``"polygons"``); None: the first of these that is there, but
            COCO-Object always from the stuff maps, as the published numbers are.
        force: replace maps that differ.
        workers: threads; None: one a core.
        progress: shows how far it is.

    Returns:
        What was done; None for a benchmark whose published maps are used as they are.

    Raises:
        UserError: the raw annotations are missing, or maps made from another source are there.
    """
    layout = source_of(name).layout
    said = checked_source(name, source)
    if layout not in CONVERSIONS:
        return None
    conversion = CONVERSIONS[layout]
    tree = find_root(layout, root)
    chosen = said or _chosen(conversion, tree)
    if not conversion.choose_what_is_there:  # else all sources give the same maps
        _refuse_mixture(name, layout, tree, chosen, force)
    jobs = _jobs(layout, root, tree, chosen)
    image_ids = [job.image_id for job in jobs]
    conversion.check(tree, image_ids, force)
    record = {"set": layout, "made_from": chosen, "version": conversion.version}
    _make_folders(jobs)
    before = record_of(tree, layout)
    note_begin = _Once(lambda: write_record(tree, layout, {**record, "complete": False}))
    done = Prepared(layout, chosen, alone=_alone(layout, tree, jobs))
    states = _parallel(jobs, force, note_begin, workers or os.cpu_count() or 1)
    for job, state in counted(states, name, len(jobs), progress):
        _count(done, job, state)
    if done.complete:
        conversion.finish(tree, image_ids, force)
        write_record(tree, layout, {**record, "complete": True, "maps": len(jobs)})
    elif done.written or (before and (done.differing or done.alone)):
        # else the note that is there, if any, still holds
        counts = {n: len(getattr(done, n)) for n in ("differing", "failed", "alone")}
        write_record(tree, layout, {**record, "complete": False, **counts})
    return done


def _make_folders(jobs: Iterable[Job]) -> None:
    """Make the folders of the maps."""
    for folder in {job.target.parent for job in jobs}:
        with written_to(folder, "choose a --root that can be written to"):
            folder.mkdir(parents=True, exist_ok=True)


def _jobs(layout: str, root: Path, tree: Path, source: str) -> list[Job]:
    """The maps to be made; if the annotations lie in another tree, the error names it."""
    conversion = CONVERSIONS[layout]
    try:
        return conversion.listed(tree, source)
    except UserError as error:
        for other in other_trees(layout, root, tree):
            if conversion.present(other, source):
                raise UserError(
                    f"{error}; {other} has them: pass --root {other}, and to sclip run "
                    f"--data-root {other}"
                ) from None
        raise


def _alone(layout: str, tree: Path, jobs: Sequence[Job]) -> list[Path]:
    """Label maps that would be evaluated and that no job makes."""
    row = tables()["layouts"][layout]
    if "split" in row:  # which is written from the jobs
        return []
    made = {job.target for job in jobs}
    maps = [tree / row["labels"].replace("{id}", i) for i in sorted(ids_below(tree, row["labels"]))]
    return [path for path in maps if path not in made]


def _chosen(conversion: Conversion, tree: Path) -> str:
    """What the maps are made from if the user did not choose."""
    if not conversion.choose_what_is_there:
        return conversion.sources[0]
    there = [one for one in conversion.sources if conversion.present(tree, one)]
    return there[0] if there else conversion.sources[0]


def _refuse_mixture(name: str, layout: str, tree: Path, chosen: str, force: bool) -> None:
    """Raise if some of the maps that are there were made from another source."""
    record = record_of(tree, layout)
    before = record and record.get("made_from")
    if before and before != chosen and not force:
        raise UserError(
            f"{name}: the maps in {tree} were made from {before}, not {chosen}: pass "
            f"--source {before} to continue with them, or --force to make all of them again"
        )


class _Once:
    """An action for the first of several threads, for which the others wait."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act: Callable[[], None] | None = act
        self._lock = Lock()

    def __call__(self) -> None:
        with self._lock:
            if self._act:
                self._act()
            self._act = None


def _parallel(
    jobs: Sequence[Job], force: bool, note_begin: _Once, workers: int
) -> Iterator[tuple[Job, State | ImageError]]:
    """Each job and its result, in order; few jobs are submitted ahead, so that Ctrl-C is quick."""
    remaining = iter(jobs)
    with ThreadPoolExecutor(workers) as pool:

        def ahead(count: int) -> list[tuple[Job, Future[State | ImageError]]]:
            return [
                (job, pool.submit(_do, job, force, note_begin)) for job in islice(remaining, count)
            ]

        waiting = ahead(2 * workers)
        try:
            while waiting:
                job, future = waiting.pop(0)
                waiting += ahead(1)
                yield job, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def _do(job: Job, force: bool, note_begin: _Once) -> State | ImageError:
    """Draw one map and write it if need be; ``note_begin`` is called before that."""
    try:
        classes = job.draw()
    except ImageError as error:
        return error
    except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        return ImageError(
            f"{job.image_id}: its annotations lack a part or have an unexpected form: {error!r}"
        )
    if os.path.lexists(job.target):
        if _holds(job.target, classes):
            return "there"
        if not force:
            return "differs"
    data = png(classes)
    note_begin()
    write_whole(job.target, lambda path: path.write_bytes(data))
    return "written"


def _holds(path: Path, classes: NDArray[np.uint8]) -> bool:
    """Whether a file holds this map; false if it cannot be read."""
    try:
        return np.array_equal(decode_label(read_sample(path), str(path)), classes)
    except (ImageError, OSError):
        return False


def png(classes: NDArray[np.uint8]) -> bytes:
    """A map as a grey PNG, one byte a pixel."""
    done, data = cv2.imencode(".png", classes, [cv2.IMWRITE_PNG_COMPRESSION, COMPRESSION])
    assert done
    return data.tobytes()


def _count(done: Prepared, job: Job, state: State | ImageError) -> None:
    if isinstance(state, ImageError):
        done.failed[job.image_id] = str(state)
    elif state == "differs":
        done.differing.append(job.target)
    elif state == "written":
        done.written += 1
    else:
        done.there += 1
