"""Images and label maps in the user's own folders, and what the readers of folders share."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple, overload

from sclip_core.config import UserError
from sclip_core.config.counts import number_of
from sclip_core.config.errors import few, shown
from sclip_core.config.places import ObjectPath, Place
from sclip_core.datasets.below import files_below, lies_in, objects_below
from sclip_core.datasets.label_names import Named, elsewhere, is_of_pattern, matched
from sclip_core.datasets.sample import Sample
from sclip_core.datasets.sample_columns import Samples, alone, paired
from sclip_core.datasets.sample_columns import listed as files_in_columns
from sclip_core.datasets.suffixes import CLASSIC, IMAGE_SUFFIXES, LABEL_SUFFIXES, skipped_note

ALWAYS_LOSSY = (".jpg", ".jpeg")
LOSSY = (*ALWAYS_LOSSY, ".webp", ".jp2")  # formats that blur label maps
ANNOTATION_SUFFIXES = {".json", ".txt", ".xml", ".yaml", ".yml"}
LONGEST_ID = 200  # characters; a file name has 255 bytes at most


class Found(NamedTuple):
    """The samples of the user's own folders, and what to know of how they were found."""

    samples: Sequence[Sample]
    notes: tuple[str, ...] = ()


def folder_samples(
    images: Place,
    labels: Place | None,
    limit: int | None = None,
    label_pattern: str | None = None,
    missing_labels: str = "refuse",
) -> Sequence[Sample]:
    """The samples of the user's own folders; see ``find_samples``."""
    return find_samples(images, labels, limit, label_pattern, missing_labels).samples


def find_samples(
    images: Place,
    labels: Place | None,
    limit: int | None = None,
    label_pattern: str | None = None,
    missing_labels: str = "refuse",
    choose: Callable[[Sequence[str]], list[str]] = list,
    without: Collection[str] = (),
) -> Found:
    """Find the samples of the user's own folders, sorted by id.

    A label map has the name, without ending, and the subfolder of its image, or is named as the
    pattern says.

    Args:
        images: folder of images, searched with its subfolders; or a place in object storage.
        labels: folder of label maps; None: there are none.
        limit: take (and check) only the first so many.
        label_pattern: names of the label maps, with ``{id}`` for that of the image; None: not
            given.
        missing_labels: what images without a label map are: ``refuse``; ``skip``: no samples;
            ``empty``: samples whose ``label`` is None.
        choose: takes some of the ids, before ``limit`` does.
        without: images that are left out.

    Raises:
        UserError: there is no such folder, it has no images or two of one name, or label maps
            are missing and ``missing_labels`` is ``refuse``.
    """
    images = own_folder(images, "--images")
    labels = own_folder(labels, "--labels") if labels is not None else None
    above = os.path.join(str(images), "")
    together = labels is not None and lies_in(images, labels) and lies_in(labels, images)
    if choose is list and not (together or without or label_pattern):
        many = _very_many(images, labels, limit)
        if many is not None:
            return Found(many)
    image_files = _files_by_id(images, IMAGE_SUFFIXES)
    if together and label_pattern is not None:  # then the label maps are no images
        image_files = {
            i: path for i, path in image_files.items() if not is_of_pattern(path, label_pattern)
        }
    ids = choose(list(image_files))[:limit]
    if not ids:
        raise UserError(f"no image in {images}: expected {' '.join(IMAGE_SUFFIXES)}")
    if labels is None:
        return Found(tuple(Sample(i, above + image_files[i], None) for i in ids))
    ids = [i for i in ids if i not in without]
    found = by_suffix(labels, LABEL_SUFFIXES)
    if together:  # an image is not its own label map
        taken = set(image_files.values())
        found = [entry for entry in found if entry[0] not in taken]
    named = matched(ids, _worst_first(found), label_pattern)
    notes = _notes(named, label_pattern, ids, missing_labels, labels, together)
    if missing_labels == "skip":
        ids = [i for i in ids if i in named.files]
    place = os.path.join(str(labels), "")
    label_of = {i: place + name for i, name in named.files.items()}
    samples = (Sample(i, above + image_files[i], label_of.get(i)) for i in ids)
    return Found(tuple(samples), tuple(notes))


def _worst_first(found: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Label maps by their endings, of which the first is the best."""
    by_ending: dict[str, list[tuple[str, str, str]]] = {end: [] for end in LABEL_SUFFIXES}
    for entry in found:
        by_ending[entry[2]].append(entry)
    return [entry for end in reversed(LABEL_SUFFIXES) for entry in sorted(by_ending[end])]


def _very_many(images: Place, labels: Place | None, limit: int | None) -> Samples | None:
    """The samples of a very large set without odd names, each with its label map; None: another."""
    if isinstance(images, ObjectPath) or isinstance(labels, ObjectPath):
        return None
    listed = files_in_columns(images, IMAGE_SUFFIXES)
    if listed is None:
        return None
    listed = listed.slice(0, limit)
    above = os.path.join(str(images), "")
    if labels is None:
        return Samples((above, None), alone(listed))
    maps = files_in_columns(labels, LABEL_SUFFIXES)
    both = None if maps is None else paired(listed, maps)
    return None if both is None else Samples((above, os.path.join(str(labels), "")), both)


def _notes(
    named: Named,
    label_pattern: str | None,
    ids: Sequence[str],
    missing_labels: str,
    labels: Place,
    together: bool,
) -> list[str]:
    """What to know of how label maps were found; ``together``: they lie among the images.

    Raises:
        UserError: some are missing, and have to be there.
    """
    notes = []
    if not named.said and named.files and named.pattern is not None:
        one, name = next(iter(named.files.items()))
        notes.append(
            f"the label maps are named differently from the images: {name} is that of {one} "
            f"(--label-pattern '{named.pattern}')"
        )
    missing = [i for i in ids if i not in named.files]
    if missing and (missing_labels == "refuse" or not named.files):
        expected = named.pattern or "{id}"
        expected += "" if Path(expected).suffix in LABEL_SUFFIXES else ".png"
        hint = _what_to_do(labels, missing, len(ids), named.pattern is not None)
        if together and label_pattern is None:
            hint = "; if they lie among the images, say how they are named: --label-pattern"
            hint += " '{id}_mask.png'"
        refuse_missing("own images", "label map", ids, named.files, labels / expected, hint)
    if missing and missing_labels == "skip":
        notes.append(
            f"{number_of(len(missing), 'image', 'have', len(ids))} no label map, left out as "
            f"--missing-labels skip says: {few(missing)}"
        )
    return notes


def _what_to_do(labels: Place, missing: Sequence[str], total: int, by_pattern: bool) -> str:
    """What to do about missing label maps, as the end of an error."""
    lossy = elsewhere(labels, missing, LOSSY)
    if lossy:
        changes = "changes" if lossy.endswith(ALWAYS_LOSSY) else "may change"
        return (
            f"; {lossy} is no label map, as its format {changes} values: export it as PNG, without "
            "loss"
        )
    if len(missing) == total:
        endings = Counter(
            os.path.splitext(path)[1].lower()
            for path in files_below(labels)
            if Path(path).suffix and Path(path).suffix.lower() not in LABEL_SUFFIXES
        )
        if endings and not by_suffix(labels, LABEL_SUFFIXES):
            held = ", ".join(f"{count:,} {ending}" for ending, count in endings.most_common(4))
            return (
                f"; {labels} holds no label map: expected {' '.join(LABEL_SUFFIXES)}, and there "
                f"are {held}"
            )
        return (
            ""
            if by_pattern
            else "; if they are named otherwise, pass --label-pattern '{id}_mask.png'"
        )
    return "; pass --missing-labels skip to leave these images out, or empty if nothing is on them"


@overload
def own_folder(path: Path, option: str) -> Path: ...
@overload
def own_folder(path: Place, option: str) -> Place: ...
def own_folder(path: Place, option: str) -> Place:
    """The folder that an option names, with ~ expanded; a place in object storage as it is.

    Raises:
        UserError: there is no such folder, or nothing below the place.
        StorageError: object storage cannot be asked.
    """
    if isinstance(path, ObjectPath):
        if not objects_below(path):
            raise UserError(f"{option} {path}: no object is below it: expected its files there")
        return path
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
    return {i: folder / path for i, path in _files_by_id(folder, suffixes).items()}


def _files_by_id(folder: Place, suffixes: Sequence[str]) -> dict[str, str]:
    """The same, with paths relative to the folder."""
    found: dict[str, str] = {}
    listed = sorted(by_suffix(folder, suffixes))
    others = [file for file in listed if file[2] not in CLASSIC]
    if others:
        listed = [*(file for file in listed if file[2] in CLASSIC), *others]
    for path, stem, ending in listed:
        if stem in found and ending not in CLASSIC:  # a preview, or the phone's other format
            continue
        if stem in found:
            raise UserError(
                f"{folder} holds both {found[stem]} and {path}: an image and "
                "its annotation share the name without its ending, so rename one (label maps go "
                "in a folder of their own)"
            )
        found[stem] = path
    return dict(sorted(found.items()))


def folders_called_images(folder: Place) -> list[Path]:
    """Folders with the ending of an image and no image in them: each is taken for a mistake."""
    if isinstance(folder, ObjectPath):  # where there are no folders
        return []
    below = [
        Path(here) / name
        for here, folders, _ in os.walk(folder)
        for name in folders
        if not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES
    ]
    return [path for path in sorted(below) if not by_suffix(path, IMAGE_SUFFIXES)]


def skipped_below(folder: Place, labels: Place | None = None) -> str | None:
    """A line on the files of a folder of images that ``files_of`` does not take, by ending.

    Args:
        folder: of the images.
        labels: the ground truth; where it lies among the images, its files are not skipped.
    """
    among = labels is not None and lies_in(labels, folder)
    odd = [path for path in files_below(folder) if not path.lower().endswith(CLASSIC)]
    parts = (os.path.splitext(path) for path in sorted(odd))
    files = [(stem, end.lower()) for stem, end in parts]
    pictures = {stem for stem, end in files if end in IMAGE_SUFFIXES}
    taken = {stem for _, stem, _ in by_suffix(folder, CLASSIC)} & pictures if pictures else set()
    others, beside = [], []
    for stem, end in files:
        if end not in IMAGE_SUFFIXES:
            others += [] if among and end in ANNOTATION_SUFFIXES else [end]
        else:
            beside += [end] if stem in taken else []
            taken.add(stem)
    return skipped_note(others, beside)


def by_suffix(folder: Place, suffixes: Sequence[str]) -> list[tuple[str, str, str]]:
    """(path, path without ending, ending in lower case) of the files with such an ending."""
    ends = tuple(suffixes)
    paths = (path for path in files_below(folder) if path.lower().endswith(ends))
    parts = ((path, *os.path.splitext(path)) for path in paths)
    return [(path, stem, end.lower()) for path, stem, end in parts if end.lower() in suffixes]


def ids_below(root: Path, pattern: str) -> set[str]:
    """The ids of the files that match a layout's pattern, e.g. ``JPEGImages/{id}.jpg``.

    Raises:
        UserError: the folder cannot be listed, or is not there.
    """
    folder, _, suffix = pattern.partition("/{id}")
    files = files_below(root / folder)
    return {path.removesuffix(suffix) for path in files if path.endswith(suffix)}


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
    pattern: Place,
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
            f"{name}: {number_of(len(missing), 'image', 'have', len(ids))} no {what}: "
            f"{few(missing)}; "
            f"expected {str(pattern).replace('{id}', 'ID')}{hint}"
        )
