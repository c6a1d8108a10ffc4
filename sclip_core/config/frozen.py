"""A frozen run: the file of ``sclip freeze``, with what decides a run's result and its digests.

It is a settings file whose section ``sclip`` holds no path, with a section ``frozen`` beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sclip_core.config.errors import UserError, shown
from sclip_core.config.yaml_file import load_yaml

SECTION = "frozen"
FORMAT = 1
DIGITS = 16  # of each digest in the list of images; one digest over the whole ones is beside it
UNREAD = "-"  # in place of the digests of a file that could not be read
# Settings that say where something lies; it is known by its digest or by what is in it.
PLACES = (
    "data_root", "images", "labels", "classes", "vocabulary", "images_list", "palette", "masks",
    "sam_checkpoint", "proxy_weights",
)  # fmt: skip
HIGHEST = (1 << 16) - 1  # value of a class in label maps
Value = Annotated[int, Field(ge=0, le=HIGHEST)]
Word = Annotated[str, Field(pattern=r"\S")]
Score = Literal["miou", "macc", "aacc"]


class FrozenImage(NamedTuple):
    """An image, with the digests of its file and of its label map, whole or their beginnings."""

    image_id: str
    image: str
    label: str

    @classmethod
    def of_line(cls, line: str) -> Self:
        """The image of a line of the list.

        Raises:
            ValueError: it is none.
        """
        image, label, name = line.split(" ", 2)
        return cls(str(json.loads(name)) if name.startswith('"') else name, image, label)

    @property
    def line(self) -> str:
        """The line of the list: the beginnings of both digests, and the id."""
        name = self.image_id
        odd = not name.isprintable() or name != name.strip() or name.startswith('"')
        written = json.dumps(name) if odd else name
        return f"{self.image[:DIGITS]} {self.label[:DIGITS]} {written}"


def digest_of(images: Iterable[FrozenImage]) -> str:
    """One digest over ids and whole digests of images, in order."""
    whole = hashlib.sha256()
    for image in images:
        whole.update(json.dumps(image).encode() + b"\n")
    return whole.hexdigest()


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class FrozenClass(_Part):
    """A class: its name, its words, and its value in label maps."""

    name: Word
    words: Annotated[tuple[Word, ...], Field(min_length=1)]
    value: Value


class FrozenImages(_Part):
    """The images of a run: the list itself, or the file beside that has it."""

    count: int
    sha256: str
    some: bool = False
    """Whether they were chosen by a list, among others of the data."""
    list: str | None = None
    file: str | None = None


class Frozen(_Part):
    """What stands in the section ``frozen``."""

    format: Literal[1]
    run_id: str
    created_at: str
    num_images: int
    num_failed: int
    scores: dict[Score, Annotated[float, Field(allow_inf_nan=False)]]
    """mIoU, mAcc and aAcc in percent, to the last digit."""
    weights: dict[str, str]
    """The sha256 of each file of weights: clip, second, sam, masks."""
    classes: tuple[FrozenClass, ...]
    built_in_words: bool = False
    """Whether the words are those that come with the benchmark."""
    unlabelled: dict[Value, str] = {}
    """Values of label maps that are no class, with their names."""
    distractors: tuple[Word, ...] = ()
    """Words of no class."""
    closed: bool = False
    """Whether no pixel may become one of them."""
    images: FrozenImages
    needs: tuple[str, ...] = ()
    """Settings that were paths, and have to be given."""
    keys: dict[str, str]
    """Of the artifact of each stage."""
    versions: dict[str, str] = {}

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        """See that no class is there twice, and that only files are asked for.

        Raises:
            ValueError: one is, or the name of another setting.
        """
        names = [one.name for one in self.classes]
        values = [*(one.value for one in self.classes), *self.unlabelled]
        for what, found in (("name", names), ("value", values)):
            if twice := [each for each, times in Counter(found).items() if times > 1]:
                raise ValueError(f"classes: two have the {what} {shown(twice[0])}")
        if others := [name for name in self.needs if name not in (*PLACES, "model", "pretrained")]:
            raise ValueError(f"needs: {shown(others[0])} is no setting that is a file")
        return self

    def listed(self, path: Path) -> tuple[FrozenImage, ...]:
        """The images, of the file that this was read from.

        Raises:
            UserError: the file beside it is missing or was changed.
        """
        text = self.images.list
        if text is None:
            name = self.images.file or ""
            if name != os.path.basename(name) or name in ("", ".", ".."):
                raise UserError(
                    f"{path}, section {SECTION}: images.file is {shown(name)}: expected the name "
                    "of a file beside it; freeze the run again"
                )
            beside = path.parent / name
            try:
                text = beside.read_text("utf-8")
            except (OSError, ValueError):
                raise UserError(
                    f"{path} has its images in {beside.name}, which is not beside it: copy both"
                ) from None
        try:
            found = tuple(map(FrozenImage.of_line, text.splitlines()))
        except ValueError:
            found = ()
        if len(found) != self.images.count:
            raise UserError(
                f"{path}: expected {self.images.count:,} images, found {len(found):,}: the list "
                "was edited; freeze the run again"
            )
        return found


def read_frozen(path: Path) -> Frozen:
    """The frozen run in a file.

    Raises:
        UserError: it cannot be read, or holds none.
    """
    found = _read_frozen(os.path.abspath(path), *_state(path))
    if found is None:
        raise UserError(
            f"{path} holds no frozen run: pass a file that `sclip freeze RUN -o FILE` wrote"
        )
    return found


def is_frozen(path: Path) -> bool:
    """Whether a file holds a frozen run.

    Raises:
        UserError: it holds one that cannot be used.
    """
    return os.path.isfile(path) and _read_frozen(os.path.abspath(path), *_state(path)) is not None


def _state(path: Path) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=8)
def _read_frozen(path: str, modified: int, size: int) -> Frozen | None:
    """Read a file once; a command asks several times."""
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, ValueError):
        return None
    if f"\n{SECTION}:" not in f"\n{text}":
        return None
    try:
        loaded = load_yaml(text, unique=True)
    except ValueError:
        return None
    section = loaded.get(SECTION) if isinstance(loaded, dict) else None
    return frozen_of(section, Path(path)) if section is not None else None


def frozen_of(section: Any, path: Path) -> Frozen:
    """The section ``frozen`` of a file.

    Raises:
        UserError: it is not what ``sclip freeze`` writes.
    """
    if isinstance(section, dict) and section.get("format", FORMAT) != FORMAT:
        found = shown(section["format"])
        raise UserError(f"{path} has format {found}, this sclip reads {FORMAT}: update it")
    try:
        return Frozen.model_validate(section)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        said = f"{name}: {first['msg']}" if name else first["msg"].removeprefix("Value error, ")
        raise UserError(f"{path}, section {SECTION}: {said}; freeze the run again") from None


def implied(path: Path, section: Any) -> dict[str, Any]:
    """The settings that a frozen file has beside those of its section ``sclip``.

    Args:
        path: of the file.
        section: its section ``frozen``.

    Returns:
        The file itself: as what the run is compared with, as its words, and as its list of images
        where there was one.
    """
    frozen, path = frozen_of(section, path), path.absolute()
    found: dict[str, Any] = {"frozen": path}
    if not frozen.built_in_words:
        found["classes"] = path
    if frozen.images.some:
        found["images_list"] = path
    return found


def ids_in(path: Path) -> list[str] | None:
    """The ids of the images of a frozen file; None: it is another file."""
    if not is_frozen(path):
        return None
    return [image.image_id for image in read_frozen(path).listed(path)]


def words_in(path: Path) -> dict[str, Any] | None:
    """The fields of a vocabulary, of the classes of a frozen file; None: it is another file.

    Raises:
        UserError: it holds a frozen run that cannot be used.
    """
    if not is_frozen(path):
        return None
    frozen = read_frozen(path)
    values = tuple(one.value for one in frozen.classes)
    return {
        "class_names": tuple(one.name for one in frozen.classes),
        "words": tuple(one.words for one in frozen.classes),
        "labels": () if values == tuple(range(len(values))) else values,
        "ignored": tuple(sorted(frozen.unlabelled.items())),
        "distractors": frozen.distractors,
        "closed": frozen.closed,
    }


def differing_images(
    there: Iterable[FrozenImage], here: Iterable[FrozenImage]
) -> Iterator[tuple[str, str]]:
    """What differs between two lists of the same ids: ``image`` or ``ground truth``, and the id."""
    for frozen, found in zip(there, here, strict=True):
        if not found.image.startswith(frozen.image):
            yield "image", frozen.image_id
        elif not found.label.startswith(frozen.label):
            yield "ground truth", frozen.image_id
