"""Images and label maps in the user's own folders, and what the readers of folders share."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sclip_core.config import UserError
from sclip_core.config.errors import few, shown
from sclip_core.config.protocol import is_text
from sclip_core.datasets.suffixes import CLASSIC, IMAGE_SUFFIXES, LABEL_SUFFIXES, skipped_note

LONGEST_ID = 200  # characters; a file name has 255 bytes at most


class Sample(NamedTuple):
    """One image and its ground truth, if there is one."""

    image_id: str  # unique in the dataset; "/" where the layout has folders
    image: Path
    label: Path | None  # None: the user's own images without label maps

    @property
    def files(self) -> tuple[Path, ...]:
        """The image, and the label map if there is one."""
        return (self.image,) if self.label is None else (self.image, self.label)


def folder_samples(
    images: Path,
    labels: Path | None,
    limit: int | None = None,
    without: Collection[str] = (),
) -> tuple[Sample, ...]:
    """The samples of the user's own folders, sorted by id.

    A label map has the name, without ending, and the subfolder of its image.

    Args:
        images: folder of images, searched with its subfolders.
        labels: folder of label maps; None: there are none.
        limit: take (and check) only the first so many.
        without: images that are left out.

    Raises:
        UserError: there is no such folder, it has no images or two of one name, or label maps
            are missing.
    """
    images = own_folder(images, "--images")
    labels = own_folder(labels, "--labels") if labels is not None else None
    image_files = files_of(images, IMAGE_SUFFIXES)
    ids = list(image_files)[:limit]
    if not ids:
        raise UserError(f"no image in {images}: expected {' '.join(IMAGE_SUFFIXES)}")
    if labels is None:
        return tuple(Sample(i, image_files[i], None) for i in ids)
    ids = [i for i in ids if i not in without]
    found = by_suffix(labels, LABEL_SUFFIXES)
    worst_first = sorted(found, key=lambda entry: -LABEL_SUFFIXES.index(entry[2]))
    label_files = {stem: path for path, stem, _ in worst_first}
    refuse_missing("own images", "label map", ids, label_files, labels / "{id}.png")
    return tuple(Sample(i, image_files[i], labels / label_files[i]) for i in ids)


def own_folder(path: Path, option: str) -> Path:
    """The folder that an option names, with ~ expanded.

    Raises:
        UserError: there is no such folder.
    """
    path = Path(os.path.expanduser(path))
    if not os.path.isdir(path):
        found = "is a file" if os.path.exists(path) else "does not exist"
        raise UserError(f"{option} {path} {found}: expected a folder")
    return path


def files_of(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """The files below a folder with one of these endings, by id, sorted by id.

    Raises:
        UserError: the folder cannot be listed, or two files have the same id.
    """
    found: dict[str, Path] = {}
    listed = sorted(by_suffix(folder, suffixes), key=lambda file: (file[2] not in CLASSIC, file))
    for path, stem, ending in listed:
        if stem in found and ending not in CLASSIC:  # a preview, or the phone's other format
            continue
        if stem in found:
            raise UserError(
                f"{folder} holds both {found[stem].relative_to(folder)} and {path}: an image and "
                "its annotation share the name without its ending, so rename one (label maps go "
                "in a folder of their own)"
            )
        found[stem] = folder / path
    return dict(sorted(found.items()))


def skipped_below(folder: Path) -> str | None:
    """A line on the files of a folder of images that ``files_of`` does not take, by ending."""
    parts = [os.path.splitext(path) for path in sorted(_files_below(folder))]
    files = [(stem, end.lower()) for stem, end in parts]
    taken = {stem for stem, end in files if end in CLASSIC}
    others, beside = [], []
    for stem, end in files:
        if end not in IMAGE_SUFFIXES:
            others.append(end)
        elif end not in CLASSIC:
            beside += [end] if stem in taken else []
            taken.add(stem)
    return skipped_note(others, beside)


def by_suffix(folder: Path, suffixes: Sequence[str]) -> list[tuple[str, str, str]]:
    """(path, path without ending, ending in lower case) of the files with such an ending."""
    parts = ((path, *os.path.splitext(path)) for path in _files_below(folder))
    return [(path, stem, end.lower()) for path, stem, end in parts if end.lower() in suffixes]


def ids_below(root: Path, pattern: str) -> set[str]:
    """The ids of the files that match a layout's pattern, e.g. ``JPEGImages/{id}.jpg``.

    Raises:
        UserError: the folder cannot be listed, or is not there.
    """
    folder, _, suffix = pattern.partition("/{id}")
    files = _files_below(root / folder)
    return {path.removesuffix(suffix) for path in files if path.endswith(suffix)}


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
            raise UserError(f"{link} links to a folder that contains it: remove the link")


def entries(folder: Path) -> list[str]:
    """The names of what is in a folder, sorted.

    Raises:
        UserError: it cannot be listed.
    """
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise _not_listed(error) from None


def _not_listed(error: OSError) -> UserError:
    return UserError(f"cannot list {error.filename}: {error.strerror}")


def read_split(path: Path) -> list[str]:
    """The ids in a split file, which has one a line.

    Raises:
        UserError: it cannot be read, lists nothing, an id twice, or one that cannot be a file name.
    """
    if not path.is_file():  # reading a pipe would block
        raise UserError(f"{path} is not a file: expected a list of images, one id a line")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the list of images {path}: {error}") from None
    ids = [line.strip() for line in lines if line.strip()]
    odd = [i for i in ids if not i.isprintable() or len(i) > LONGEST_ID]
    if odd:
        raise UserError(f"{path} lists {shown(odd[0])}, which is not a file name: copy it again")
    if not ids:
        raise UserError(f"{path} lists no image: expected one id a line")
    if len(set(ids)) < len(ids):
        twice = next(i for n, i in enumerate(ids) if i in ids[:n])
        raise UserError(f"{path} lists {twice} twice: every image counts once, remove one line")
    return ids


def refuse_missing(
    name: str,
    what: str,
    ids: Sequence[str],
    there: Collection[str],
    pattern: Path,
    hint: str = "",
) -> None:
    """Raise if some ids have no file.

    Args:
        name: the dataset, for the error.
        what: what a file is, e.g. ``"label map"``.
        ids: the images.
        there: the ids that have a file.
        pattern: where a file is expected, with ``{id}`` in it.
        hint: what to do, appended to the error.

    Raises:
        UserError: some of ``ids`` are not in ``there``.
    """
    missing = [i for i in ids if i not in there]
    if missing:
        raise UserError(
            f"{name}: {len(missing):,} of {len(ids):,} images have no {what}: {few(missing)}; "
            f"expected {str(pattern).replace('{id}', 'ID')}{hint}"
        )
