"""Thumbnails and pictures of images, made when they are asked for, by several threads at once."""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sclip_core.config import ImageError, UserError
from sclip_core.config.places import ObjectPath, Place
from sclip_core.datasets import Reading, read_sample
from sclip_core.datasets.images import decode_smaller
from sclip_core.explore.gallery import Collection
from sclip_core.explore.kept import Kept
from sclip_core.explore.orders import UNREAD
from sclip_core.explore.view import shown_size
from sclip_core.store.file_cache import THUMBNAILS, FileCache

SIDE = 256  # pixels, the long side of a thumbnail
MOST_STORED = 512 * 2**20  # bytes of thumbnails below the artifacts
MOST_KEPT = 64 * 2**20  # bytes of thumbnails in memory, where they cannot be stored
MOST_PICTURES = 32 * 2**20  # bytes of pictures in memory
AT_ONCE = 4  # images that are decoded at the same time
WEBP: dict[str, Any] = {"quality": 75, "method": 2}
JPEG: dict[str, Any] = {"quality": 92, "subsampling": 0}
TINY = 64  # pixels, up to which a thumbnail keeps every pixel: the page enlarges it
VERSION = 1  # of how thumbnails are made
BACK, FRONT = (128, 128, 128), (96, 96, 96)  # of the placeholder
MOST_FAULTS = 1000


@dataclass(frozen=True)
class Made:
    """A file for the page."""

    data: bytes
    etag: str


class Thumbnails:
    """Thumbnails and pictures of all collections.

    Attributes:
        faults: by collection and image, why it has only a placeholder, a line each.
    """

    def __init__(self, artifacts: Path, writable: bool = True, most: int = MOST_STORED) -> None:
        """Make nothing yet.

        Args:
            artifacts: the folder below which thumbnails are stored.
            writable: whether it can be written; else they are kept in memory alone.
            most: bytes of what is stored.
        """
        self._stored = FileCache(artifacts / THUMBNAILS, most, ".webp") if writable else None
        self._kept: Kept[bytes] = Kept(MOST_KEPT)
        self._pictures: Kept[Made] = Kept(MOST_PICTURES)
        self._turn = BoundedSemaphore(AT_ONCE)
        self.faults: dict[tuple[str, str], str] = {}

    def thumbnail(self, collection: Collection, image_id: str) -> tuple[bytes, str]:
        """A WebP file with a long side of at most 256 pixels, and its ETag.

        An image that is gone or broken has a placeholder, and a line in ``faults``.

        Raises:
            UserError: there is no such image.
        """
        file = collection.file(image_id)
        try:
            key = _key(file, collection.run.inputs.reading)
            data = self._kept.get(key) or (self._stored.get(key) if self._stored else None)
            if data is None or not _is_whole(data):
                data = self._made(collection, file, key)
        except UserError as error:
            if len(self.faults) < MOST_FAULTS:
                self.faults[collection.id, image_id] = str(error)
            return placeholder(), '"placeholder"'
        self.faults.pop((collection.id, image_id), None)
        return data, f'"{key}"'

    def _made(self, collection: Collection, file: Place, key: str) -> bytes:
        """A thumbnail, made and kept.

        Raises:
            ImageError: the image cannot be read.
        """
        with self._turn:
            reading = collection.run.inputs.reading
            pixels = decode_smaller(read_sample(file), SIDE, str(file), reading)
            small = Image.fromarray(pixels)
            small.thumbnail((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=None)
            into = io.BytesIO()
            small.save(into, "WEBP", lossless=max(small.size) <= TINY, **WEBP)
        data = into.getvalue()
        if not (self._stored and self._stored.put(key, data)):
            self._kept.put(key, data, len(data))
        return data

    def picture(self, collection: Collection, image_id: str) -> tuple[bytes, str, str]:
        """An image at the size in which it is shown: a JPEG, its ETag and its media type.

        Raises:
            UserError: there is no such image, or it cannot be read.
        """
        file = collection.file(image_id)
        key = f"p{_key(file, collection.run.inputs.reading)}"
        made = self._pictures.get(key)
        if made is None:
            with self._turn:
                pixels = collection.pixels(image_id)
                data = _jpeg(pixels, shown_size((pixels.shape[0], pixels.shape[1])))
            made = self._pictures.put(key, Made(data, f'"{key}"'), len(data))
        return made.data, made.etag, "image/jpeg"


def _jpeg(pixels: NDArray[np.uint8], size: tuple[int, int]) -> bytes:
    """A JPEG of a height and a width."""
    image, into = Image.fromarray(pixels), io.BytesIO()
    if size != pixels.shape[:2]:
        image = image.resize(size[::-1], Image.Resampling.BOX)
    image.save(into, "JPEG", **JPEG)
    return into.getvalue()


def _key(file: Place, reading: Reading) -> str:
    """What a thumbnail is known by: the file, its state, and how it is read.

    Raises:
        ImageError: there is no such file.
        StorageError: object storage cannot be asked.
    """
    if isinstance(file, ObjectPath):
        from sclip_core.store.objects.listing import entries_of

        entry = entries_of([file])[file]
        if isinstance(entry, ImageError):
            raise entry
        state: tuple[Any, ...] = (entry.size, entry.etag)
    else:
        try:
            status = os.stat(file)
        except OSError as error:
            raise ImageError(f"{file} cannot be read: {error.strerror}") from None
        state = (status.st_size, status.st_mtime_ns)
    named = os.path.abspath(file) if isinstance(file, Path) else str(file)
    text = repr((VERSION, SIDE, named, state, sorted(reading.changed().items())))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _is_whole(data: bytes) -> bool:
    """Whether a WebP file is as long as it says."""
    size = int.from_bytes(data[4:8], "little") + 8
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) == size


@cache
def placeholder() -> bytes:
    """A WebP file in place of the thumbnail of an image that cannot be read."""
    image = Image.new("RGB", UNREAD[::-1], BACK)
    draw, (width, height) = ImageDraw.Draw(image), image.size
    draw.line((0, 0, width, height), FRONT, 3)
    draw.line((0, height, width, 0), FRONT, 3)
    into = io.BytesIO()
    image.save(into, "WEBP", **WEBP)
    return into.getvalue()
