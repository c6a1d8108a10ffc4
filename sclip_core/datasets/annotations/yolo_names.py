"""The names of YOLO's categories, which lie in a file beside or above the labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from sclip_core.config import UserError
from sclip_core.config.errors import few, shown
from sclip_core.config.yaml_file import load_yaml
from sclip_core.datasets.annotations import reading
from sclip_core.datasets.annotations.categories import plain
from sclip_core.datasets.below import entries

# One name a line: of labelImg and CVAT, of Darknet, of Roboflow.
TEXT_NAMES = ("classes.txt", "obj.names", "_darknet.labels", "names.txt", "labels.txt")
TEXT_SUFFIX = ".names"  # Darknet's coco.names
YAML_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
YAML_SUFFIXES = (".yaml", ".yml")
OF_A_SET = {"train", "val", "test", "nc", "path"}  # keys that tell a YAML file to be of YOLO
UP = 3  # folders searched for names: that of the labels and two above it
LARGEST = 1 << 20  # bytes of a YAML file that is read though it may be of something else


class Names(NamedTuple):
    """The names of categories, and what else the file says."""

    path: Path
    by_number: dict[int, str]
    key_points: int | None  # numbers after the box in a line of a pose; None: not of poses
    notes: tuple[str, ...]

    def plain(self) -> dict[int, str]:
        """The names as they are compared; of a line of a vocabulary, its first word."""
        return {k: plain(name.partition(",")[0]) for k, name in self.by_number.items()}


def find_names(folder: Path) -> Names | None:
    """The names in the nearest file; a YAML file without ``names:`` does not count.

    YAML goes before ``classes.txt``, which may be the user's list of classes for ``--classes``: in
    another order, it would silently swap the classes.

    Raises:
        UserError: several are there and differ, or one is damaged.
    """
    places = [folder, *folder.absolute().parents][:UP]
    yaml_files = next(filter(None, (list(_yaml_names(place)) for place in places)), [])
    texts = next(filter(None, (list(_text_names(place)) for place in places)), [])
    all_of_them = [*yaml_files, *texts]
    for other in all_of_them[1:]:
        if other.plain() != all_of_them[0].plain():
            first, second = sorted([all_of_them[0].path, other.path])
            raise UserError(
                f"{first} and {second} name YOLO's categories differently: remove the wrong "
                "one, or, if it is a list of classes for --classes, give it another name"
            )
    if not all_of_them:
        return None
    found = all_of_them[0]
    if yaml_files and found.path.name not in YAML_NAMES:
        listed = few([f"{k} {name}" for k, name in found.by_number.items()], 5)
        line = f"YOLO's categories have the names that {found.path} gives: {listed}"
        found = found._replace(notes=(*found.notes, line))
    return found


def is_names_file(path: Path) -> bool:
    """Whether a text file is one of names, by its own name."""
    return path.name in TEXT_NAMES or path.suffix.lower() == TEXT_SUFFIX


def _text_names(place: Path) -> Iterator[Names]:
    """The text files with names in a folder."""
    for path in (place / name for name in _files(place)):
        if is_names_file(path):
            text = reading.read_bytes_of(path).decode("utf-8-sig", errors="replace")
            found = [line.strip() for line in text.rstrip().splitlines()]
            yield Names(path, _checked(dict(enumerate(found)), found, path), None, ())


def _yaml_names(place: Path) -> Iterator[Names]:
    """The YAML files with names in a folder; those that cannot be of YOLO are passed over."""
    for path in (place / name for name in _files(place)):
        usual = path.name in YAML_NAMES
        if path.suffix.lower() not in YAML_SUFFIXES:
            continue
        if not usual and path.stat().st_size > LARGEST:
            continue
        data = reading.read_bytes_of(path)
        try:
            loaded = load_yaml(data)
        except ValueError as error:
            if not usual:
                continue
            raise UserError(
                f"{path} is not YAML ({error}): it should name the categories"
            ) from None
        if not isinstance(loaded, dict) or "names" not in loaded:
            continue
        try:
            yield _of_yaml(path, data, loaded)
        except UserError:
            if usual or OF_A_SET.intersection(map(str, loaded)):
                raise


def _files(place: Path) -> list[str]:
    """The files in a folder; none if it may not be listed, as one far above."""
    with suppress(UserError):
        return [name for name in entries(place) if (place / name).is_file()]
    return []


def _of_yaml(path: Path, data: bytes, loaded: Mapping[Any, Any]) -> Names:
    """The names in a YAML file."""
    found, notes = loaded["names"], []
    by_number = _by_number(found)
    truths = [k for k, name in by_number.items() if isinstance(name, bool)]
    if truths:
        texts = _by_number(load_yaml(data, typed=False).get("names"))
        by_number |= {k: texts.get(k) for k in truths}
        written = few([by_number[k] for k in truths])
        notes.append(f"{path}: {written} are truth values in YAML, taken for names here")
    shape = loaded.get("kpt_shape")
    key_points = None
    if isinstance(shape, list) and len(shape) == 2 and all(type(n) is int for n in shape):
        key_points = shape[0] * shape[1]
    return Names(path, _checked(by_number, found, path), key_points, tuple(notes))


def _by_number(found: object) -> dict[int, Any]:
    """The names by their numbers; empty: it is neither a list, nor numbers with names."""
    if isinstance(found, list):
        return dict(enumerate(found))
    if not isinstance(found, dict):
        return {}
    pairs = [(reading.as_number(key), name) for key, name in found.items()]
    numbers = {key: name for key, name in pairs if isinstance(key, int) and key >= 0}
    return numbers if len(numbers) == len(found) else {}


def _checked(by_number: Mapping[int, Any], found: object, path: Path) -> dict[int, str]:
    """Names, each a text.

    Raises:
        UserError: some are not.
    """
    if not by_number or not all(name and isinstance(name, str) for name in by_number.values()):
        raise UserError(
            f"{path}: the names are {shown(found)}; expected a name for each, from 0, in quotes "
            "where it is a number"
        )
    return dict(by_number)
