"""Where the files of a benchmark lie, by the table ``layouts``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sclip_core.config import UserError, tables
from sclip_core.config.protocol import benchmark_name
from sclip_core.datasets.below import entries
from sclip_core.datasets.chosen import chosen_ids
from sclip_core.datasets.sample import Sample
from sclip_core.datasets.samples import ids_below, own_folder, read_split, refuse_missing
from sclip_core.datasets.splits import no_split, of_split


@dataclass(frozen=True)
class Files:
    """The files of a benchmark that are there.

    Attributes:
        root: the folder with its layout.
        ids: its images, in order: the lines of its split file, else all images, sorted.
        images: the ids that have an image.
        labels: the ids that have a label map.
        image: the place of an image, with ``{id}`` in it.
        label: the place of a label map, with ``{id}`` in it.
        made: whether ``sclip data prepare`` makes the label maps.
    """

    root: Path
    ids: list[str]
    images: set[str]
    labels: set[str]
    image: Path
    label: Path
    made: bool

    def image_of(self, image_id: str) -> Path:
        """The place of the image with this id."""
        return Path(str(self.image).replace("{id}", image_id))

    def label_of(self, image_id: str) -> Path:
        """The place of the label map with this id."""
        return Path(str(self.label).replace("{id}", image_id))


class Tree(NamedTuple):
    """A place below a root, and which parts of a layout it has."""

    place: Path
    there: list[str]  # parts of the layout: folders of images and label maps, the split file
    missing: list[str]


def benchmark_samples(
    name: str,
    data_root: Path | None,
    limit: int | None = None,
    *,
    split: str | None = None,
    images_list: Path | None = None,
) -> tuple[Sample, ...]:
    """The samples of a benchmark, in the order of its split file, else sorted by id.

    Args:
        name: the benchmark, e.g. ``"voc21"``.
        data_root: the folder with the layout, or the one above it.
        limit: take (and check) only the first so many.
        split: another one than the layout's.
        images_list: a file that names the images that are taken.

    Raises:
        UserError: there is no such folder, parts of the layout are missing, there is nothing in
            it, or images or label maps are missing.
    """
    files = benchmark_files(name, data_root, split)
    ending = str(files.image).partition("{id}")[2]
    ids = chosen_ids(files.ids, images_list, limit, ending)
    refuse_missing(name, "image", ids, files.images, files.image)
    made = f" (`sclip data prepare {name} --root {data_root}` makes them from the raw ones)"
    hint = made if files.made else ""
    refuse_missing(name, "label map", ids, files.labels, files.label, hint)
    return tuple(Sample(i, files.image_of(i), files.label_of(i)) for i in ids)


def benchmark_files(name: str, data_root: Path | None, split: str | None = None) -> Files:
    """Find the files of a benchmark; that some are missing is no error here.

    Args:
        name: the benchmark, e.g. ``"voc21"``.
        data_root: the folder with the layout, or the one above it.
        split: another one than the layout's.

    Raises:
        UserError: there is no such folder, parts of the layout are missing, or it has no image.
    """
    layout = _layout(name, data_root, split)
    root = _root(name, data_root, layout)
    images = ids_below(root, layout["images"])
    ids = read_split(root / layout["split"]) if "split" in layout else sorted(images)
    if not ids:
        raise UserError(f"{name}: no image {layout['images'].format(id='*')} below {root}")
    return Files(
        root,
        ids,
        images,
        ids_below(root, layout["labels"]),
        root / layout["images"],
        root / layout["labels"],
        layout.get("made", False),
    )


def benchmark_root(name: str, data_root: Path | None, split: str | None = None) -> Path:
    """The folder with a benchmark's layout: the data root or one of its subfolders.

    Raises:
        UserError: there is no such folder, or parts of the layout are missing.
    """
    return _root(name, data_root, _layout(name, data_root, split))


def _root(name: str, data_root: Path | None, layout: dict[str, Any]) -> Path:
    parts = ", ".join(_parts(layout))
    if data_root is None:
        raise UserError(f"{name}: --data-root is missing: pass the folder that holds {parts}")
    data_root = own_folder(data_root, "--data-root")
    place, there, missing = nearest_tree(layout, data_root)
    if not missing:
        return place
    advice = "pass the folder that holds them as --data-root"
    if there:
        found = f"{place} has {', '.join(there)} but not {', '.join(missing)}"
        if layout.get("made") and layout["images"].startswith(there[0]):
            advice = f"`sclip data prepare {name} --root {data_root}` makes them"
    else:
        found = f"{data_root} has {', '.join(entries(data_root)[:8]) or 'nothing in it'}"
    subfolders = " or ".join(layout["subfolders"])
    raise UserError(
        f"{name}: expected {parts} in {data_root} or in its {subfolders}; {found}; {advice}"
    )


def nearest_tree(layout: dict[str, Any], root: Path) -> Tree:
    """The place with most of a layout: the root itself or one of its known subfolders.

    Of several that have as much of it, the first with label maps is taken, else the first.

    Args:
        layout: a row of the table ``layouts``.
        root: a folder.
    """
    below = trees_below(layout, root)
    most = max(len(tree.there) for tree in below)
    best = [tree for tree in below if len(tree.there) == most]
    if most and len(best) > 1:
        return next((tree for tree in best if _has_labels(layout, tree.place)), best[0])
    return best[0]


def trees_below(layout: dict[str, Any], root: Path) -> list[Tree]:
    """What is there of a layout in the root and in each of its known subfolders."""
    parts, found = _parts(layout), []
    for place in (root, *(root / folder for folder in layout["subfolders"])):
        there = [part for part in parts if os.path.exists(place / part)]
        found.append(Tree(place, there, [part for part in parts if part not in there]))
    return found


def _layout(name: str, data_root: Path | None, split: str | None) -> dict[str, Any]:
    """The row of the table ``layouts`` of a benchmark, for a split of it.

    Raises:
        UserError: there is no such split.
    """
    tabled = tables()
    layout: dict[str, Any]
    layout = tabled["layouts"][tabled["benchmarks"][benchmark_name(name)]["layout"]]
    if split is None or data_root is None:
        return layout
    root = own_folder(data_root, "--data-root")
    found = [one for one in of_split(layout, split) if not nearest_tree(one, root).missing]
    if not found and split not in ("val", "validation"):  # the usual one has an error of its own
        raise no_split(name, layout, split, nearest_tree(layout, root).place)
    return found[0] if found else layout


def _parts(layout: dict[str, Any]) -> list[str]:
    """The folders of a layout's images and label maps, and its split file if it has one."""
    folders = (layout[part].partition("/{id}")[0] + "/" for part in ("images", "labels"))
    return [*folders, *([layout["split"]] if "split" in layout else [])]


def _has_labels(layout: dict[str, Any], place: Path) -> bool:
    try:
        return bool(ids_below(place, layout["labels"]))
    except UserError:
        return False
