"""Where the files of a dataset lie: the layouts of the benchmarks' table, and a plain folder."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sclip_core.config import UserError, tables
from sclip_core.config.protocol import benchmark_name, is_text

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
LABEL_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")  # the first that is there is taken
SHOWN = 3  # names given in an error


class Sample(NamedTuple):
    """One image and its ground truth."""

    image_id: str  # unique in the dataset; "/" where the layout has folders
    image: Path
    label: Path


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
    layout = tables()["layouts"][tables()["benchmarks"][benchmark_name(name)]["layout"]]
    root = _layout_root(name, layout, data_root)
    images = _ids(root, layout["images"])
    ids = _split_ids(root / layout["split"]) if "split" in layout else sorted(images)
    if not ids:
        raise UserError(f"{name}: no image {layout['images'].format(id='*')} below {root}")
    ids = ids[:limit]
    _refuse_missing(name, "image", ids, images, root / layout["images"])
    _refuse_missing(name, "label map", ids, _ids(root, layout["labels"]), root / layout["labels"])
    image, label = layout["images"], layout["labels"]
    return tuple(
        Sample(i, root / image.replace("{id}", i), root / label.replace("{id}", i)) for i in ids
    )


def folder_samples(images: Path, labels: Path, limit: int | None = None) -> tuple[Sample, ...]:
    """The samples of one's own folders: the label map has the stem and subfolder of its image.

    Args:
        images: folder of images, searched with its subfolders.
        labels: folder of label maps.
        limit: take (and check) the first so many only.

    Raises:
        UserError: no such folder, no images, two of the same stem, or images without label map.
    """
    images, labels = _folder(images, "--images"), _folder(labels, "--labels")
    image_files: dict[str, str] = {}
    for path, stem, _ in sorted(_by_suffix(images, IMAGE_SUFFIXES)):
        if stem in image_files:
            raise UserError(
                f"{images} holds both {image_files[stem]} and {path}: the label map is found by "
                "the name without its ending, so rename one (label maps go in their own folder)"
            )
        image_files[stem] = path
    ids = sorted(image_files)[:limit]
    if not ids:
        raise UserError(f"no image in {images}: expected {' '.join(IMAGE_SUFFIXES)}")
    found = _by_suffix(labels, LABEL_SUFFIXES)
    worst_first = sorted(found, key=lambda entry: -LABEL_SUFFIXES.index(entry[2]))
    label_files = {stem: path for path, stem, _ in worst_first}
    _refuse_missing("own images", "label map", ids, label_files, labels / "{id}.png")
    return tuple(Sample(i, images / image_files[i], labels / label_files[i]) for i in ids)


def _folder(path: Path, option: str) -> Path:
    """The folder that an option names, with ~ expanded."""
    path = Path(os.path.expanduser(path))
    if not os.path.isdir(path):
        found = "is a file" if os.path.exists(path) else "does not exist"
        raise UserError(f"{option} {path} {found}: expected a folder")
    return path


def _layout_root(name: str, layout: dict[str, Any], data_root: Path | None) -> Path:
    """The data root or the one of its subfolders in which the whole layout is found."""
    expected = [
        *(layout[part].partition("/{id}")[0] + "/" for part in ("images", "labels")),
        *([layout["split"]] if "split" in layout else []),
    ]
    listed = ", ".join(expected)
    if data_root is None:
        raise UserError(f"{name}: --data-root is missing: pass the folder that holds {listed}")
    data_root = _folder(data_root, "--data-root")
    places: list[Path] = [data_root, *(data_root / folder for folder in layout["subfolders"])]
    there = {place: [part for part in expected if os.path.exists(place / part)] for place in places}
    best = max(places, key=lambda place: len(there[place]))  # the first, of equals
    if len(there[best]) == len(expected):
        return best
    if there[best]:
        missing = ", ".join(part for part in expected if part not in there[best])
        found = f"{best} has {', '.join(there[best])} but not {missing}"
    else:
        entries = _entries(data_root)
        found = f"{data_root} has {', '.join(entries[:8]) or 'nothing in it'}"
    raise UserError(
        f"{name}: expected {listed} in {data_root} or in its {' or '.join(layout['subfolders'])}; "
        f"{found}; pass the folder that holds them as --data-root"
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


def _ids(root: Path, pattern: str) -> set[str]:
    """The ids of the files that match a layout's pattern, e.g. ``JPEGImages/{id}.jpg``."""
    folder, _, suffix = pattern.partition("/{id}")
    files = _files_below(root / folder)
    return {path.removesuffix(suffix) for path in files if path.endswith(suffix)}


def _by_suffix(folder: Path, suffixes: Sequence[str]) -> list[tuple[str, str, str]]:
    """(path, path without ending, ending in lower case) of the files with such an ending."""
    parts = ((path, *os.path.splitext(path)) for path in _files_below(folder))
    return [(path, stem, end.lower()) for path, stem, end in parts if end.lower() in suffixes]


def _split_ids(path: Path) -> list[str]:
    """The ids of a split file, one a line."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the list of images {path}: {error}") from None
    ids = [line.strip() for line in lines if line.strip()]
    if not ids:
        raise UserError(f"{path} lists no image: expected one id a line")
    if len(set(ids)) < len(ids):
        twice = next(i for n, i in enumerate(ids) if i in ids[:n])
        raise UserError(f"{path} lists {twice} twice: every image counts once, remove one line")
    return ids


def _refuse_missing(
    name: str, what: str, ids: Sequence[str], there: Collection[str], pattern: Path
) -> None:
    """Raise if some ids have no file."""
    missing = [i for i in ids if i not in there]
    if missing:
        more = ", ..." if len(missing) > SHOWN else ""
        raise UserError(
            f"{name}: {len(missing):,} of {len(ids):,} images have no {what}: "
            f"{', '.join(missing[:SHOWN])}{more}; expected {str(pattern).replace('{id}', 'ID')}"
        )
