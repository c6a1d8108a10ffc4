"""Data sets in Parquet files, as Hugging Face has them: which files, and which columns of them.

It is looked up where settings are resolved, because a column of labels means that a run is scored.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from sclip_core.config.errors import UserError, few, unknown
from sclip_core.config.places import ObjectPath, Place, place_of

SUFFIX = ".parquet"
OF_IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
DEEPEST = 3  # folders: data/, or the configuration and the split
SHARD = re.compile(r"(?P<split>.+)-(\d{5})-of-(?P<number>\d{5})")  # validation-00000-of-00003
SPLIT = re.compile(r"(train|val|dev|test)[a-z]*", re.IGNORECASE)
LABELS = re.compile(
    r"label|annot|mask|seg|semantic|ground_?truth|(^|_)gts?(_|$)|(^|_)target", re.IGNORECASE
)
OF_ARROW = ("dataset_info.json", "dataset_dict.json")  # what save_to_disk writes beside them
LFS = b"version https://git-lfs"


class Columns(NamedTuple):
    """The columns of images and of their label maps."""

    image: str
    label: str | None


def parquet_files(path: Place | None) -> list[Path]:
    """The Parquet files that a path of images names: one file, a pattern or a folder of them.

    A folder counts if no image lies in it, and Parquet files with images in it or below.

    Raises:
        UserError: they are of several splits, which would be mixed, or Arrow files, or in object
            storage.
    """
    if path is None:
        return []
    if isinstance(path, ObjectPath):
        if path.suffix.lower() == SUFFIX:
            raise UserError(
                f"{path} is a Parquet file in object storage, of which single images cannot be "
                "read: pass a copy in a folder, or images and label maps as objects of their own"
            )
        return []
    path = Path(os.path.expanduser(path))
    if path.suffix.lower() == SUFFIX:
        if "*" in path.name:
            return _of_one_split(path, sorted(path.parent.glob(path.name)))
        return [path] if path.is_file() else []
    if not path.is_dir() or _has_images(path):
        return []
    for depth in range(DEEPEST):
        files = sorted(path.glob("*/" * depth + f"[!.]*{SUFFIX}"))
        if files and any(_holds_bytes(field.type) for field in schema_of(files[0])):
            return _of_one_split(path, files)  # others may be a table on the images of a folder
    if any((path / name).is_file() for name in OF_ARROW):
        raise UserError(
            f"{path} was saved as Arrow files (save_to_disk): load it with `datasets`, write one "
            "split as Parquet, ds.to_parquet('x.parquet'), and pass that"
        )
    return []


def _has_images(folder: Path) -> bool:
    """Whether an image lies in a folder itself."""
    try:
        return any(os.path.splitext(name)[1].lower() in OF_IMAGES for name in os.listdir(folder))
    except OSError:  # whoever reads it as a folder of images says so
        return True


def _of_one_split(path: Path, files: list[Path]) -> list[Path]:
    """The files, unless they are of several splits or configurations."""
    splits = sorted({_split_of(file) for file in files})
    if len(splits) > 1:
        root = path if path.is_dir() else path.parent
        some = next((s for s in splits if re.search(r"val|dev|test", s.name)), splits[0])
        raise UserError(
            f"{path} has Parquet files of several splits, "
            f"{few([split.relative_to(root) for split in splits], 5)}: pass one of them, "
            f"--images '{some if some.is_dir() else f'{some}*{SUFFIX}'}'"
        )
    return files


def _split_of(file: Path) -> Path:
    """The split that a file is of: its folder, and its name where that has one."""
    shard = SHARD.fullmatch(file.stem)
    if shard:
        return file.parent / shard["split"]
    return file.with_suffix("") if SPLIT.fullmatch(file.stem) else file.parent


def missing_shards(files: Sequence[Path]) -> str | None:
    """A line on files of the same split that are not there; None: all are."""
    shard = SHARD.fullmatch(files[0].stem)
    if shard is None or len(files) == int(shard["number"]):
        return None
    return f"{len(files)} of {int(shard['number'])} Parquet files of '{shard['split']}' are read"


def image_columns(file: Path, chosen: str | None) -> Columns:
    """The columns of images and label maps.

    Args:
        file: one of the files.
        chosen: their names, with a comma between them; None: they are found.

    Raises:
        UserError: the file cannot be read, or the columns are not there or not clear.
    """
    schema = schema_of(file)
    pictures = [field.name for field in schema if _holds_bytes(field.type)]
    if chosen is not None:
        names = [name.strip() for name in chosen.split(",")]
        for name in names:
            if name not in schema.names:
                raise unknown(f"column of {file}:", name, schema.names)
            if name not in pictures:
                kind = schema.field(name).type
                raise UserError(f"column '{name}' of {file} is {kind}, expected encoded images")
        if not 1 <= len(names) <= 2:
            raise UserError(f"--parquet-columns {chosen}: expected 'image' or 'image,label'")
        return Columns(names[0], names[1] if len(names) == 2 else None)
    labels = [name for name in pictures if LABELS.search(name)]
    images = [name for name in pictures if name not in labels]
    if len(images) != 1 or len(labels) > 1:
        found = few(pictures, 8) if pictures else f"none (of {few(schema.names, 8)})"
        raise UserError(
            f"{file} has these columns of images: {found}. Name that of the images and, to be "
            "scored, that of the label maps: --parquet-columns image,label"
        )
    return Columns(images[0], labels[0] if labels else None)


def schema_of(file: Path) -> Any:
    """The Arrow schema of a Parquet file.

    Raises:
        UserError: it cannot be read.
    """
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_schema(file)
    except Exception as error:  # pyarrow's own, and those of the disk
        raise unreadable(file, error) from None


def unreadable(file: Path, error: Exception) -> UserError:
    """The error for a Parquet file that cannot be read."""
    try:
        with file.open("rb") as opened:
            if opened.read(len(LFS)) == LFS:
                return UserError(f"{file} is a Git LFS pointer, not the data: run `git lfs pull`")
    except OSError:
        pass
    return UserError(f"{file} cannot be read as Parquet: {' '.join(str(error).split())[:200]}")


def features_of(schema: Any) -> dict[str, Any]:
    """What Hugging Face's ``datasets`` noted of the columns; empty: nothing."""
    try:
        noted = json.loads((schema.metadata or {})[b"huggingface"])
        features = noted["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def _holds_bytes(kind: Any) -> bool:
    """Whether a column has encoded images: bytes, or a struct of bytes and path."""
    import pyarrow

    def is_bytes(one: Any) -> bool:
        return bool(pyarrow.types.is_binary(one) or pyarrow.types.is_large_binary(one))

    if pyarrow.types.is_struct(kind):
        return any(field.name == "bytes" and is_bytes(field.type) for field in kind)
    return is_bytes(kind)


def labels_beside(images: Any, chosen: str | None) -> Place | None:
    """The path of the label maps of images that are in Parquet files: the same; None: none."""
    path = None
    if isinstance(images, str | Path):
        with suppress(ValueError):  # of a URL that cannot be used; whoever checks it says so
            path = place_of(images)
    files = parquet_files(path)
    return path if files and image_columns(files[0], chosen).label else None
