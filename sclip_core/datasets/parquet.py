"""Images and label maps in Parquet files, unpacked once below the artifacts.

The pipeline reads files, whose digests are in its keys. A row becomes a file of images and one of
label maps, byte for byte; row groups are read one after the other.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from sclip_core.config import ImageError, Settings, UserError
from sclip_core.config.counts import number_of
from sclip_core.config.errors import few
from sclip_core.config.parquet import (
    Columns,
    features_of,
    image_columns,
    missing_shards,
    parquet_files,
    schema_of,
    unreadable,
)
from sclip_core.datasets.dataset import Dataset
from sclip_core.datasets.samples import LONGEST_ID
from sclip_core.store.digests import Digests
from sclip_core.store.files import write_whole, written_to
from sclip_core.store.keys import artifact_key, canonical_json

UNPACKED = "unpacked"  # below the artifacts
MARKER = "complete.json"  # the size of each unpacked file; written last
VERSION = 1  # of the unpacking; a higher one unpacks all again
ROWS = 16  # at a time
ENDINGS = {
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG": ".png",
    b"RIFF": ".webp",
    b"BM": ".bmp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
}
Row = tuple[int, Any, Any]  # its number, image and label map


def opened_unpacked(
    settings: Settings,
    say: Callable[[str], None],
    keep: bool,
    then: Callable[[Settings, Callable[[str], None], bool], Dataset],
) -> Dataset:
    """The dataset of settings whose images are Parquet files.

    Args:
        settings: of a run.
        say: called with what a user should know before the run.
        keep: whether the files are kept below the artifacts; False: missing ones are unpacked into
            a temporary folder, which lasts as long as the dataset.
        then: opens the dataset of the unpacked files, with the same arguments.

    Raises:
        UserError: the files cannot be read, have no clear columns, or there are no classes.
    """
    source = _source(settings, say, keep)
    if keep:
        return then(source.unpacked(source.kept, source.kept), say, keep)
    elsewhere = Path(tempfile.mkdtemp(prefix="sclip-unpacked-"))
    try:
        folder = source.kept if source.is_whole(source.kept) else elsewhere
        dataset = then(source.unpacked(folder, elsewhere), say, keep)
    except BaseException:
        shutil.rmtree(elsewhere, ignore_errors=True)
        raise
    weakref.finalize(dataset, shutil.rmtree, elsewhere, ignore_errors=True)
    return dataset


def _source(settings: Settings, say: Callable[[str], None], keep: bool) -> Source:
    """What is to be unpacked.

    Raises:
        UserError: the files cannot be read, or have no clear columns.
    """
    files = parquet_files(settings.images)
    columns = image_columns(files[0], settings.parquet_columns)
    of_labels = parquet_files(settings.labels)
    if of_labels and [f.resolve() for f in of_labels] != [f.resolve() for f in files]:
        raise UserError(
            f"--labels {settings.labels} are other Parquet files than --images {settings.images}: "
            "label maps are a column beside the images, so give one of the two"
        )
    if not of_labels:
        columns = Columns(columns.image, None)
    if (line := missing_shards(files)) is not None:
        say(line)
    digests = Digests(settings.local_artifacts / "digests.jsonl", keep=keep).of_many(files)
    wrong = next((one for one in digests if isinstance(one, ImageError)), None)
    if wrong is not None:
        raise wrong
    key = artifact_key({"version": VERSION, "files": digests, "columns": columns})
    ids = sorted(_ids(files, columns.image).items(), key=lambda item: item[1])
    wanted = dict(ids[: settings.first_drawn])
    return Source(settings, files, columns, settings.local_artifacts / UNPACKED / key, wanted, say)


@dataclass(frozen=True)
class Source:
    """Rows of Parquet files, and the folder in which their images are kept."""

    settings: Settings
    files: Sequence[Path]
    columns: Columns
    kept: Path
    wanted: Mapping[int, str]  # the number and the id of each row
    say: Callable[[str], None]

    def is_whole(self, folder: Path) -> bool:
        """Whether all that is wanted is in a folder, and as long as it was written."""
        sizes = _sizes(folder)
        there = {str(PurePosixPath(name).with_suffix("")) for name in sizes}
        parts = ["images", *(["labels"] if self.columns.label else [])]
        if not all(f"{part}/{i}" in there for i in self.wanted.values() for part in parts):
            return False
        with suppress(OSError):
            return all((folder / name).stat().st_size == size for name, size in sizes.items())
        return False

    def unpacked(self, folder: Path, folder_of_names: Path) -> Settings:
        """The settings with files in place of Parquet; what lacks in the folder is unpacked."""
        settings, columns = self.settings, self.columns
        names = None if settings.classes is not None else _names(settings, self.files[0], columns)
        if not self.is_whole(folder):
            if folder == self.kept:  # where they take room
                rows = number_of(len(self.wanted), "row")
                self.say(f"{rows} of {settings.images} unpacked to {folder}")
            sizes = _sizes(folder)
            for number, image, label in _rows(self.files, columns, self.wanted):
                _write(folder / "images", self.wanted[number], image, ".jpg", sizes)
                if columns.label is not None:
                    _write(folder / "labels", self.wanted[number], label, ".png", sizes)
            text = canonical_json(sizes)
            write_whole(folder / MARKER, lambda path: path.write_text(text, encoding="utf-8"))
        changed: dict[str, Any] = {"images": folder / "images", "parquet_columns": None}
        if columns.label is not None:
            changed["labels"] = folder / "labels"
        if names is not None:
            changed["classes"] = _written_names(names, folder_of_names)
        return settings.replace(**changed)


def _written_names(names: Sequence[str], folder: Path) -> Path:
    """A vocabulary file with names."""
    lines = "\n".join(names) + "\n"
    path = folder / f"classes-{hashlib.sha256(lines.encode()).hexdigest()[:8]}.txt"
    with written_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda target: target.write_text(lines, encoding="utf-8"))
    return path


def _write(folder: Path, image_id: str, value: Any, usual: str, sizes: dict[str, int]) -> None:
    """Write the bytes of an image; of one that lacks, an empty file, which is left out later."""
    data = (value.get("bytes") if isinstance(value, dict) else value) or b""
    ending = next((end for start, end in ENDINGS.items() if data.startswith(start)), usual)
    path = folder / f"{image_id}{ending}"
    with written_to(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda target: target.write_bytes(data), sync=False)
    sizes[f"{folder.name}/{image_id}{ending}"] = len(data)


def _sizes(folder: Path) -> dict[str, int]:
    """The size of each file that an earlier call unpacked."""
    with suppress(OSError, ValueError):
        sizes = json.loads((folder / MARKER).read_text("utf-8"))
        if isinstance(sizes, dict):
            return sizes
    return {}


def _rows(files: Sequence[Path], columns: Columns, wanted: Mapping[int, str]) -> Iterator[Row]:
    """The wanted rows, a few at a time; row groups without one are not read."""
    import pyarrow.parquet

    names = [name for name in columns if name is not None]
    begin = 0
    for file in files:
        try:
            opened = pyarrow.parquet.ParquetFile(file)
            for group in range(opened.num_row_groups):
                length = opened.metadata.row_group(group).num_rows
                if any(number in wanted for number in range(begin, begin + length)):
                    batches = opened.iter_batches(ROWS, row_groups=[group], columns=names)
                    rows = (row for batch in batches for row in batch.to_pylist())
                    for number, row in enumerate(rows, begin):
                        if number in wanted:
                            yield number, row[names[0]], row[names[1]] if names[1:] else None
                begin += length
        except (OSError, ValueError, KeyError) as error:  # pyarrow's are of these
            raise unreadable(file, error) from None


def _ids(files: Sequence[Path], column: str) -> dict[int, str]:
    """The id of each row: its stored path without ending, if all have one of their own.

    Otherwise the number of the row in all files.
    """
    import pyarrow.parquet

    paths: list[Any] = []
    for file in files:
        try:
            opened = pyarrow.parquet.ParquetFile(file)
            kind = opened.schema_arrow.field(column).type
            if pyarrow.types.is_struct(kind) and kind.get_field_index("path") >= 0:
                table = opened.read(columns=[f"{column}.path"])
                paths += [(row or {}).get("path") for row in table[column].to_pylist()]
            else:
                paths += [None] * opened.metadata.num_rows
        except (OSError, ValueError, KeyError) as error:
            raise unreadable(file, error) from None
    if not paths:
        raise UserError(f"{files[0]} has no rows: expected an image in each")
    ids = [_id_of(path) for path in paths]
    if None in ids or len(set(ids)) < len(ids):
        digits = max(6, len(str(len(paths))))
        ids = [f"{number:0{digits}}" for number in range(len(paths))]
    return {number: str(one) for number, one in enumerate(ids)}


def _id_of(path: Any) -> str | None:
    """The id that a stored path gives; None: it is none that can be a file's name."""
    if not isinstance(path, str) or not path.isprintable():
        return None
    parts = PurePosixPath(path.replace("\\", "/")).with_suffix("").parts if path.strip() else ()
    parts = tuple(part for part in parts if part != "/" and not part.endswith(":"))
    odd = not parts or any(part.startswith(".") for part in parts)
    return None if odd or len("/".join(parts)) > LONGEST_ID else "/".join(parts)


def _names(settings: Settings, file: Path, columns: Columns) -> list[str] | None:
    """The names of the classes that come with the files; None: only ``--vocabulary`` is given.

    Raises:
        UserError: there are none, or they have gaps.
    """
    if settings.vocabulary is not None:
        return None
    for folder in (file.parent, *file.parents[1:3]):
        beside = sorted(folder.glob("*id2label.json"))
        if len(beside) == 1:
            return _of_json(beside[0], settings)
    names = {name: found for name, found in _class_labels(features_of(schema_of(file)), columns)}
    inside = [found for is_list, found in names.values() if is_list]
    if len(inside) == 1:
        return inside[0]
    other = f"; column '{next(iter(names))}' names classes of whole images" if names else ""
    raise UserError(
        f"--classes is missing: {file} does not name the classes of the label maps{other}. Pass a "
        f"text file with one class a line, or put an id2label.json beside it"
    )


def _of_json(path: Path, settings: Settings) -> list[str]:
    """The names in an id2label.json, in the order of the values of label maps."""
    try:
        loaded = json.loads(path.read_text("utf-8"))
        of_id = {int(key): str(name) for key, name in loaded.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path} cannot be read as {{id: name}}: {error}") from None
    of_id = {key: name for key, name in of_id.items() if key not in settings.ignore_label}
    first = min(of_id, default=0)
    if sorted(of_id) != list(range(first, first + len(of_id))) or first > 1 or not of_id:
        raise UserError(f"{path} has the ids {few(sorted(of_id), 5)}: expected 0, 1, 2, ...")
    if first == 1 and not settings.reduce_zero_label:
        raise UserError(
            f"{path} has no name for 0, whose pixels cannot be evaluated then: add "
            "--reduce-zero-label"
        )
    return [of_id[key] for key in sorted(of_id)]


def _class_labels(
    feature: Any, columns: Columns, name: str = "", is_list: bool = False
) -> Iterator[tuple[str, tuple[bool, list[str]]]]:
    """Names of classes in features: of the label maps or of lists of objects, or of images."""
    if isinstance(feature, list):
        feature, is_list = feature[0] if feature else None, True
    if not isinstance(feature, dict):
        return
    kind = feature.get("_type")
    if kind == "ClassLabel" and feature.get("names"):
        of_labels = name.split(".")[0] == columns.label
        yield name, (is_list or of_labels, [str(one) for one in feature["names"]])
        return
    within = is_list or kind in ("Sequence", "List", "LargeList")
    for key, inner in feature.items():
        if isinstance(inner, dict | list):
            below = name if key == "feature" else f"{name}.{key}".strip(".")
            yield from _class_labels(inner, columns, below, within)
