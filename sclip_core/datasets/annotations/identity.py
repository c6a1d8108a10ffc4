"""What drawn label maps depend on, as the name of their folder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sclip_core.config import UserError
from sclip_core.datasets import Vocabulary
from sclip_core.datasets.annotations.opening import Annotations
from sclip_core.store.keys import artifact_key

VERSION = 2  # of the drawing; a higher one draws all maps again


def maps_key(
    annotations: Annotations,
    vocabulary: Vocabulary,
    pool: ThreadPoolExecutor,
    exif: str,
    known_as: Mapping[str, str],
) -> str:
    """The key of all that the maps depend on, apart from the sizes of the images."""
    names = sorted(annotations.files)
    digests = pool.map(_digest, [annotations.files[name] for name in names])
    identity = {
        "version": VERSION,
        "format": annotations.format,
        "annotations": dict(zip(names, digests, strict=True)),
        "class_names": vocabulary.class_names,
        "words": vocabulary.words,
    }
    if exif != "apply":
        identity["exif"] = exif
    # Which image has another name in the annotations depends on which images there are.
    renamed = {i: one for i, one in known_as.items() if i.split("/")[-1] != one.split("/")[-1]}
    if renamed:
        identity["renamed"] = renamed
    if vocabulary.labels or vocabulary.ignored:
        identity |= {"labels": vocabulary.labels, "ignored": vocabulary.ignored}
    return artifact_key(identity)


def _digest(path: Path) -> str:
    """The SHA-256 of a file; empty for a missing file, about which drawing raises an error."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise UserError(f"cannot read the annotations {path}: {error.strerror}") from None
