"""Where the files of a dataset lie: the layouts of the benchmarks' table, and a plain folder."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sclip_core.config import UserError, tables
from sclip_core.config.errors import shown
from sclip_core.config.protocol import benchmark_name, is_text

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
LABEL_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")  # the first that is there is taken
SHOWN = 3  # names given in an error
LONGEST_ID = 200  # characters; a file name has 255 bytes at most


class Sample(NamedTuple):
    """One image and its ground truth, if there is one."""

    image_id: str  # unique in the dataset; "/" where the layout has folders
    image: Path
    label: Path | None  # None: images of one's own without label maps

    @property
    def files(self) -> tuple[Path, ...]:
        """The image, and the label map if there is one."""
        return (self.image,) if self.label is None else (self.image, self.label)


def benchmark_samples(
    name: str, data_root: Path | None, limit: int | None = None
) -> tuple[Sample, ...]:
    """The samples of a benchmark: in the order of its split file, else sorted by id.

    Args:
        name: a benchmark of the table, e.g. ``"voc21"``.
        data_root: the folder with the layout, or the one above it.
        limit: take (and check) the first so many only.

    Raises:
        UserError: no such folder, parts of the layout are missing, nothing in it, or files that
            the split lists or that the images need are not there.
    """
    files = benchmark_files(name, data_root)
    ids = files.ids[:limit]
    _refuse_missing(name, "image", ids, files.images, files.image)
    made = f" (`sclip data prepare {name} --root {data_root}` makes them from the raw ones)"
    hint = made if files.made else ""
    _refuse_missing(name, "label map", ids, files.labels, files.label, hint)
    return tuple(Sample(i, files.image_of(i), files.label_of(i)) for i in ids)


@dataclass(frozen=True)
class Files:
    """What is there of a benchmark.

    Attributes:
        root: the folder with its layout.
        ids: its images, in order: the lines of its split file, else all images, sorted.
        images: the ids that have an image.
        labels: the ids that have a label map.
        image: the place of an image, with ``{id}`` in it.
        label: the place of a label map, with ``{id}`` in it.
        made: whether the label maps are converted ones.
    """

    root: Path
    ids: list[str]
    images: set[str]
    labels: set[str]
    image: Path
    label: Path
    made: bool

    def image_of(self, image_id: str) -> Path:
        """The image of this id."""
        return Path(str(self.image).replace("{id}", image_id))

    def label_of(self, image_id: str) -> Path:
        """The label map of this id."""
        return Path(str(self.label).replace("{id}", image_id))


def benchmark_root(name: str, data_root: Path | None) -> Path:
    """The folder with a benchmark's layout: the data root or one of its subfolders.

    Raises:
        UserError: no such folder, or parts of the layout are missing.
    """
    return _layout_root(name, _layout(name), data_root)


def _layout(name: str) -> dict[str, Any]:
    """Where a benchmark's files lie below its root."""
    found: dict[str, Any] = tables()["layouts"][
        tables()["benchmarks"][benchmark_name(name)]["layout"]
    ]
    return found


def benchmark_files(name: str, data_root: Path | None) -> Files:
    """Find the files of a benchmark; that some are missing is no error here.

    Args:
        name: a benchmark of the table, e.g. ``"voc21"``.
        data_root: the folder with the layout, or the one above it.

    Raises:
        UserError: no such folder, parts of the layout are missing, or no image in it.
    """
    layout = _layout(name)
    root = _layout_root(name, layout, data_root)
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


def folder_samples(
    images: Path, labels: Path | None, limit: int | None = None
) -> tuple[Sample, ...]:
    """The samples of one's own folders: the label map has the stem and subfolder of its image.

    Args:
        images: folder of images, searched with its subfolders.
        labels: folder of label maps; None: there are none.
        limit: take (and check) the first so many only.

    Raises:
        UserError: no such folder, no images, two of the same stem, or images without label map.
    """
    images = own_folder(images, "--images")
    labels = own_folder(labels, "--labels") if labels is not None else None
    image_files = _image_files(images)
    ids = sorted(image_files)[:limit]
    if not ids:
        raise UserError(f"no image in {images}: expected {' '.join(IMAGE_SUFFIXES)}")
    if labels is None:
        return tuple(Sample(i, images / image_files[i], None) for i in ids)
    found = by_suffix(labels, LABEL_SUFFIXES)
    worst_first = sorted(found, key=lambda entry: -LABEL_SUFFIXES.index(entry[2]))
    label_files = {stem: path for path, stem, _ in worst_first}
    _refuse_missing("own images", "label map", ids, label_files, labels / "{id}.png")
    return tuple(Sample(i, images / image_files[i], labels / label_files[i]) for i in ids)


def _image_files(images: Path) -> dict[str, str]:
    """The files of a folder's images by stem, both with their subfolder."""
    files: dict[str, str] = {}
    for path, stem, _ in sorted(by_suffix(images, IMAGE_SUFFIXES)):
        if stem in files:
            raise UserError(
                f"{images} holds both {files[stem]} and {path}: label maps have the image's "
                "name without its ending, so rename one (label maps go in their own folder)"
            )
        files[stem] = path
    return files


def own_folder(path: Path, option: str) -> Path:
    """The folder that an option names, with ~ expanded."""
    path = Path(os.path.expanduser(path))
    if not os.path.isdir(path):
        found = "is a file" if os.path.exists(path) else "does not exist"
        raise UserError(f"{option} {path} {found}: expected a folder")
    return path


class Tree(NamedTuple):
    """The place below a root that has most of a layout."""

    place: Path
    there: list[str]  # parts of the layout: folders of images and label maps, the split file
    missing: list[str]


def nearest_tree(layout: dict[str, Any], root: Path) -> Tree:
    """Where a layout is: the root itself or one of its known subfolders.

    Of those that have as much of it the first with label maps is taken, else the first.

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


def _has_labels(layout: dict[str, Any], place: Path) -> bool:
    try:
        return bool(ids_below(place, layout["labels"]))
    except UserError:
        return False


def trees_below(layout: dict[str, Any], root: Path) -> list[Tree]:
    """What is there of a layout in the root and in each of its known subfolders."""
    parts, found = _parts(layout), []
    for place in (root, *(root / folder for folder in layout["subfolders"])):
        there = [part for part in parts if os.path.exists(place / part)]
        found.append(Tree(place, there, [part for part in parts if part not in there]))
    return found


def _parts(layout: dict[str, Any]) -> list[str]:
    """The folders of a layout's images and label maps, and its split file if it has one."""
    folders = (layout[part].partition("/{id}")[0] + "/" for part in ("images", "labels"))
    return [*folders, *([layout["split"]] if "split" in layout else [])]


def _layout_root(name: str, layout: dict[str, Any], data_root: Path | None) -> Path:
    """The data root or the one of its subfolders in which the whole layout is found."""
    if data_root is None:
        listed = ", ".join(_parts(layout))
        raise UserError(f"{name}: --data-root is missing: pass the folder that holds {listed}")
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
        found = f"{data_root} has {', '.join(_entries(data_root)[:8]) or 'nothing in it'}"
    subfolders = " or ".join(layout["subfolders"])
    raise UserError(
        f"{name}: expected {', '.join(_parts(layout))} in {data_root} or in its {subfolders}; "
        f"{found}; {advice}"
    )


def _entries(folder: Path) -> list[str]:
    """What is in a folder, sorted."""
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise _not_listed(error) from None


def _not_listed(error: OSError) -> UserError:
    return UserError(f"cannot list {error.filename}: {error.strerror}")


def _files_below(folder: Path) -> Iterator[str]:
    """Paths, relative to a folder and with "/", of all files in it; hidden ones are left out.

    Raises:
        UserError: a folder that cannot be listed or holds itself, a name that is not UTF-8.
    """

    def refuse(error: OSError) -> None:
        raise _not_listed(error)

    for here, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        folders[:] = [entry for entry in folders if not entry.startswith(".")]
        _refuse_loops(here, folders)
        inside = Path(here).relative_to(folder).as_posix()
        prefix = "" if inside == "." else f"{inside}/"
        for file in files:
            if not is_text(prefix + file):
                raise UserError(f"the name of {here}/{file} is not UTF-8: rename it")
            if not file.startswith("."):
                yield prefix + file


def _refuse_loops(here: str, folders: Sequence[str]) -> None:
    """Raise where a link leads back up: the walk would not end."""
    real = os.path.realpath(here)
    for folder in folders:
        link = os.path.join(here, folder)
        if os.path.islink(link) and Path(real).is_relative_to(os.path.realpath(link)):
            raise UserError(f"{link} links to a folder that it is in itself: remove the link")


def ids_below(root: Path, pattern: str) -> set[str]:
    """The ids of the files that match a layout's pattern, e.g. ``JPEGImages/{id}.jpg``.

    Raises:
        UserError: the folder cannot be listed, or is not there.
    """
    folder, _, suffix = pattern.partition("/{id}")
    files = _files_below(root / folder)
    return {path.removesuffix(suffix) for path in files if path.endswith(suffix)}


def by_suffix(folder: Path, suffixes: Sequence[str]) -> list[tuple[str, str, str]]:
    """(path, path without ending, ending in lower case) of the files with such an ending."""
    parts = ((path, *os.path.splitext(path)) for path in _files_below(folder))
    return [(path, stem, end.lower()) for path, stem, end in parts if end.lower() in suffixes]


def read_split(path: Path) -> list[str]:
    """The ids of a split file, one a line."""
    if not path.is_file():  # a pipe would be waited for
        raise UserError(f"{path} is not a file: expected a list of images, one id a line")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the list of images {path}: {error}") from None
    ids = [line.strip() for line in lines if line.strip()]
    odd = [i for i in ids if not i.isprintable() or len(i) > LONGEST_ID]
    if odd:
        raise UserError(f"{path} lists {shown(odd[0])}, which is no name of a file: copy it again")
    if not ids:
        raise UserError(f"{path} lists no image: expected one id a line")
    if len(set(ids)) < len(ids):
        twice = next(i for n, i in enumerate(ids) if i in ids[:n])
        raise UserError(f"{path} lists {twice} twice: every image counts once, remove one line")
    return ids


def _refuse_missing(
    name: str,
    what: str,
    ids: Sequence[str],
    there: Collection[str],
    pattern: Path,
    hint: str = "",
) -> None:
    """Raise if some ids have no file."""
    missing = [i for i in ids if i not in there]
    if missing:
        more = ", ..." if len(missing) > SHOWN else ""
        raise UserError(
            f"{name}: {len(missing):,} of {len(ids):,} images have no {what}: "
            f"{', '.join(missing[:SHOWN])}{more}; "
            f"expected {str(pattern).replace('{id}', 'ID')}{hint}"
        )
