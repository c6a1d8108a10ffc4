"""Figures of runs for a paper: image, ground truth and runs side by side, a row an image."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sclip_core.config import ImageError, UserError
from sclip_core.config.counts import number_of
from sclip_core.config.errors import few
from sclip_core.config.optional import optional
from sclip_core.config.places import Place
from sclip_core.datasets.known_colours import KNOWN, class_colours
from sclip_core.drawing.colours import palette
from sclip_core.drawing.figure import (
    FORMATS,
    MOST_AREA,
    Layout,
    Look,
    Swatch,
    fitted,
    fitted_size,
)
from sclip_core.drawing.figures import panels
from sclip_core.drawing.panels import ALPHA, WRONG, mistaken, painted
from sclip_core.evaluation.areas import class_shares
from sclip_core.report.pictures import Shown, read_shown
from sclip_core.results.files import ARTIFACTS, read_run, root_of
from sclip_core.results.past_run import LabelMaps, Source
from sclip_core.results.ranking import image_scores, ranked
from sclip_core.results.settings import differing_settings, method_name, setting
from sclip_core.results.tables import Paired, find_run, paired
from sclip_core.store.files import write_whole, written_to

IMAGE, TRUTH, ERRORS = "image", "truth", "errors:"  # columns beside the runs'
CHOICE = re.compile(r"(worst|best|random|changed):([0-9]{1,6})")
PLAIN = {("mode", "dense"), ("mode", "predictions")}  # say nothing beside a method's name
NAMELESS = ("mode", "method", "attention")  # settings whose value says enough in a caption
LEGEND = 24  # entries, the largest classes
MID_GREY = 153  # of a photo in grey (``in_grey``)
SMALLEST = 0.001  # of a picture, the share of a class that has an entry: less cannot be seen

Row = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """A column of a figure."""

    kind: str  # image, truth, run, errors
    run: int = 0  # of the last two, its place among the runs


@dataclass(frozen=True)
class Style:
    """What a figure shows beside its pictures, and how."""

    columns: Sequence[str] = ()
    """``image``, ``truth``, a run as ``find_run`` takes it, or ``errors:RUN``, in their order;
    none: image, truth and the runs in the order in which they are given."""
    captions: Sequence[str] = ()
    """One for each run, or one for each column; none: what sets the runs apart."""
    palette: str = "default"
    """``default``, ``voc``, ``ade20k``, ``cityscapes``, or a file of colours."""
    alpha: float = ALPHA
    """Opacity of the colours over the image in grey, 0..1; 1: flat colours without lines."""
    errors: bool = False
    """A column beside each run of the pixels that are wrong."""
    legend: int = LEGEND
    """Entries at most, the classes that cover most; 0: no legend."""
    look: Look = field(default_factory=Look)


def write_panels(
    runs: Sequence[str],
    images: Sequence[str],
    target: str | Path,
    style: Style | None = None,
    seed: int = 0,
    artifacts: Place | str = ARTIFACTS,
    data_root: Path | None = None,
) -> list[str]:
    """Write a figure of images by one run or several over the same classes.

    Args:
        runs: as ``find_run`` takes them.
        images: ids; or ``worst:3``, ``best:3``, ``random:3``, ``changed:3``, chosen as the report
            chooses them: by the first run, at random, by how far the runs are apart.
        target: a PDF, SVG or PNG, by its ending.
        style: columns, captions, colours, sizes.
        seed: of ``random``.
        artifacts: the folder of all artifacts.
        data_root: where the benchmark lies now; None: where it lay during the run.

    Returns:
        The ids of the images, row by row.

    Raises:
        UserError: no such run or image, runs over different classes, data or label maps that are
            not there any more, or a figure that cannot be drawn.
    """
    style, target, root = style or Style(), Path(target), root_of(artifacts)
    if target.suffix.lower() not in FORMATS:
        raise UserError(f"{target}: a figure is written as {', '.join(FORMATS)}")
    optional("matplotlib.figure", "plot")
    ids = list(dict.fromkeys(find_run(name, root) for name in runs))
    columns = _columns(style, ids, root)
    pairs = paired(ids, root)
    rows = [read_run(root, run_id)[0] for run_id in ids]
    captions = _captions(style, columns, rows)
    colours = colours_of(style.palette, pairs.class_names)
    chosen = chosen_images(images, pairs, seed)
    maps = [LabelMaps(root, row, data_root) for row in rows]
    source = Source(root, rows[0], data_root)
    if os.path.exists(target) and source.has_file(target):
        raise UserError(f"{target} is an image or a label map of the dataset: choose another path")
    shown = _read(chosen, pairs, source, maps)
    layout = _laid_out(shown, columns, captions, pairs.class_names, colours, style)
    with written_to(target, "choose another path"):
        write_whole(target, partial(_save, layout, target))
    return list(shown)


def _save(layout: Layout, target: Path, path: Path) -> None:
    """Write to the temporary path in the format of the target."""
    layout.save(path, target.suffix)


def colours_of(name: str, class_names: Sequence[str]) -> NDArray[np.uint8]:
    """The colour (C, 3) of each class by the name of a palette, or by a file.

    Raises:
        UserError: there is no such palette, or it lacks a class.
    """
    if name == "default":
        return palette(len(class_names))
    if name not in KNOWN and not Path(name).is_file():
        known = ", ".join(("default", *KNOWN))
        raise UserError(f"no palette '{name}': expected {known}, or a file of lines 'name:r,g,b'")
    return class_colours(name, class_names)


def chosen_images(asked: Iterable[str], pairs: Paired, seed: int = 0) -> list[str]:
    """The ids of images that were named or are to be chosen, each once, in the order given.

    Args:
        asked: ids, or ``worst:3`` and the like.
        pairs: the runs.
        seed: of ``random``.

    Raises:
        UserError: no image of that name in all runs; ``changed`` of one run; no image at all.
    """
    there = set(pairs.images)
    found: dict[str, None] = {}
    scores: NDArray[np.float64] | None = None
    for name in asked:
        choice = CHOICE.fullmatch(name)
        if name in there or choice is None:
            if name not in there:
                runs = " and ".join(pairs.run_ids)
                raise UserError(
                    f"no image '{name}' in {runs}: expected an id such as {few(pairs.images, 3)}, "
                    "or worst:3, best:3, random:3, changed:3"
                )
            found[name] = None
            continue
        kind, count = choice[1], int(choice[2])
        if kind == "changed" and len(pairs.run_ids) < 2:
            raise UserError(f"{name} compares runs: pass two or more, or take worst:{count}")
        scores = image_scores(pairs.sparse) if scores is None else scores
        places = ranked(kind, scores, seed)[:count]
        found |= dict.fromkeys(pairs.images[place] for place in places.tolist())
    if not found:
        raise UserError("no image to show: pass --images ID, or worst:3, best:3, random:3")
    return list(found)


def _columns(style: Style, ids: Sequence[str], root: Place) -> list[Column]:
    """The columns, in their order."""
    kinds = ("run", "errors") if style.errors else ("run",)
    if not style.columns:
        own = [Column(kind, run) for run in range(len(ids)) for kind in kinds]
        return [Column("image"), Column("truth"), *own]
    found = []
    for name in style.columns:
        if name in (IMAGE, TRUTH):
            found.append(Column(name))
            continue
        run_id = find_run(name.removeprefix(ERRORS), root)
        if run_id not in ids:
            raise UserError(f"--columns names {run_id}, which is not among the runs: add it there")
        asked = ("errors",) if name.startswith(ERRORS) else kinds
        found += [Column(kind, ids.index(run_id)) for kind in asked]
    return found


def _captions(style: Style, columns: Sequence[Column], rows: Sequence[Row]) -> list[str]:
    """A caption for each column."""
    given = list(style.captions)
    if given and len(given) == len(columns):
        return given
    if given and len(given) != len(rows):
        raise UserError(
            f"{number_of(len(given), 'caption')} for {number_of(len(rows), 'run')} and "
            f"{number_of(len(columns), 'column')}: expected one for each run, or for each column"
        )
    names = given or run_captions(rows)
    texts = {"image": "image", "truth": "ground truth"}
    found = []
    for before, column in zip([None, *columns], columns, strict=False):
        text = texts.get(column.kind) or names[column.run]
        if column.kind == "errors":
            text = "errors" if before == Column("run", column.run) else f"{text}, errors"
        found.append(text)
    return found


def run_captions(rows: Sequence[Row]) -> list[str]:
    """What sets runs apart, in the words of a caption; of a single run, its method."""
    names = differing_settings(rows, together=True)
    names = [name for name in names if name != "ingredients"] or names
    found = []
    for row in rows:
        values = {name: setting(row, name) for name in names}
        parts = [
            value if name in NAMELESS else f"{name} {value}"
            for name, value in values.items()
            if value != "-" and (name, value) not in PLAIN
        ]
        found.append(", ".join(parts) or method_name(row) or str(row["mode"]))
    return found


def _read(
    chosen: Sequence[str], pairs: Paired, source: Source, maps: Sequence[LabelMaps]
) -> Mapping[str, Shown]:
    """What is shown of each image."""
    places = {image_id: place for place, image_id in enumerate(pairs.images)}
    return {
        image_id: read_shown(
            source,
            maps,
            image_id,
            pairs.sparse[0].dense(places[image_id], places[image_id] + 1).label[0],
        )
        for image_id in chosen
    }


def _laid_out(
    shown: Mapping[str, Shown],
    columns: Sequence[Column],
    captions: Sequence[str],
    class_names: Sequence[str],
    colours: NDArray[np.uint8],
    style: Style,
) -> Layout:
    """The figure."""
    cell = style.look.cell(len(columns))
    rows, area = [], 0
    for image_id, each in shown.items():
        area += len(columns) * math.prod(fitted_size(each.image, cell))
        if area > MOST_AREA:
            raise UserError(
                f"pictures of more than {MOST_AREA:,} pixels together: pass fewer images, or a "
                "smaller --dpi or --width"
            )
        photo = fitted(each.image, cell)
        try:
            rows.append([_drawn(column, each, photo, colours, style.alpha) for column in columns])
        except ValueError as error:
            raise ImageError(f"{image_id}: {error}") from None
    blended = style.alpha * colours.astype(np.float64) + (1 - style.alpha) * MID_GREY
    seen = blended.round().astype(np.uint8)  # as the classes look in the pictures
    entries = _entries(list(shown.values()), columns, class_names, seen, style.legend)
    return panels(rows, captions, entries if style.legend else [], style.look)


def _drawn(
    column: Column, shown: Shown, photo: Image.Image, colours: NDArray[np.uint8], alpha: float
) -> Image.Image:
    """The picture of a column."""
    if column.kind == "image":
        return photo
    if column.kind == "errors":
        return mistaken(photo, shown.truth, shown.predictions[column.run], shown.image)
    labels = shown.truth if column.kind == "truth" else shown.predictions[column.run]
    return painted(photo, labels, shown.image, alpha, colours, lines=alpha < 1)


def _entries(
    shown: Sequence[Shown],
    columns: Sequence[Column],
    class_names: Sequence[str],
    colours: NDArray[np.uint8],
    most: int,
) -> list[Swatch]:
    """The legend: the classes that are in the pictures, in the order of the vocabulary."""
    kinds = {column.kind for column in columns}
    runs = {column.run for column in columns if column.kind == "run"}
    truths = [each.truth for each in shown] if "truth" in kinds else []
    maps = truths + [each.predictions[run] for each in shown for run in sorted(runs)]
    none = np.zeros(len(class_names))
    shares = np.stack([none, *(class_shares(labels, len(class_names)) for labels in maps)])
    visible = shares.max(axis=0) >= SMALLEST
    order = [int(i) for i in np.argsort(-shares.sum(axis=0), kind="stable") if visible[i]]
    entries = [
        Swatch(class_names[i], (int(colours[i][0]), int(colours[i][1]), int(colours[i][2])))
        for i in sorted(order[:most])
    ]
    if len(order) > most:
        entries.append(Swatch(f"and {len(order) - most} smaller", None))
    if "errors" in kinds:
        entries.append(Swatch("wrong", WRONG))
    of_truth = kinds & {"truth", "errors"}
    left_out = {"ignored": [each.truth for each in shown] if of_truth else []}
    left_out["no class"] = maps[len(truths) :]
    found = [name for name, each in left_out.items() if any((m < 0).any() for m in each)]
    return [*entries, *([Swatch(", ".join(found), None, hatched=True)] if found else [])]
