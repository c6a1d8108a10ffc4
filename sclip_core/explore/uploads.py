"""Images that the page sent: bounded in bytes, in pixels and in number, kept in memory alone."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import ImageError, UserError, printable
from sclip_core.config.errors import shown
from sclip_core.datasets.headers import read_header
from sclip_core.datasets.images import EXPECTED, USUAL, Reading, decode_image

MOST_BYTES = 50 << 20  # of a file
MOST_PIXELS = 100_000_000
MOST_DECODED = 800 << 20  # bytes of an image with all its bands, as its file holds them
MOST_FILES = 20
MOST_KEPT = 200 << 20  # bytes of all files
LONGEST_NAME = 100  # characters


@dataclass(frozen=True)
class Upload:
    """A file that the page sent."""

    name: str
    """As the page calls it; for people alone."""
    data: bytes = field(repr=False)
    digest: str
    """SHA-256 of the bytes."""
    size: tuple[int, int]
    """Height and width, pixels."""


class Uploads:
    """The last files that were sent; older ones are dropped. Several threads may use it."""

    def __init__(self, reading: Reading = USUAL) -> None:
        """Keep none yet; files will be read as ``reading`` says."""
        self._reading = reading
        self._files: dict[str, Upload] = {}
        self._decoded: tuple[str, NDArray[np.uint8]] | None = None  # the one that was read last
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._files)

    def ids(self) -> Sequence[str]:
        """Of all that are kept, the oldest first."""
        with self._lock:
            return list(self._files)

    def add(self, name: str, data: bytes) -> str:
        """Take a file; the same bytes are the same upload.

        Returns:
            Its id.

        Raises:
            UserError: too large, or not an image.
        """
        name = called(name)
        check_bounds(data, name)
        digest = hashlib.sha256(data).hexdigest()
        pixels = decode_image(data, name, self._reading)
        upload = Upload(name, data, digest, (pixels.shape[0], pixels.shape[1]))
        identity = digest[:16]
        with self._lock:
            self._files.pop(identity, None)
            self._files[identity] = upload
            while len(self._files) > MOST_FILES or self._kept() > MOST_KEPT:
                del self._files[next(iter(self._files))]
            self._decoded = identity, pixels
        return identity

    def of(self, identity: str) -> Upload:
        """A file.

        Raises:
            UserError: it is not kept.
        """
        with self._lock:
            found = self._files.get(identity)
        if found is None:
            raise UserError(
                f"no upload {shown(identity)} is kept, as only the last {MOST_FILES} are: "
                "upload the image again"
            )
        return found

    def pixels(self, identity: str) -> NDArray[np.uint8]:
        """The pixels of a file, (H, W, 3) RGB.

        Raises:
            UserError: it is not kept.
        """
        upload, decoded = self.of(identity), self._decoded
        if decoded is None or decoded[0] != identity:
            decoded = identity, decode_image(upload.data, upload.name, self._reading)
            self._decoded = decoded
        return decoded[1]

    def _kept(self) -> int:
        return sum(len(upload.data) for upload in self._files.values())


def called(name: str) -> str:
    """What to call a file: the last part of the name it came with, as one short line.

    >>> called("../../etc/cat.jpg"), called("")
    ('cat.jpg', 'upload')
    """
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2].strip()
    return printable(last)[:LONGEST_NAME] or "upload"


def check_bounds(data: bytes, name: str) -> None:
    """See, before anything is decoded, that a file and its image are not too large.

    Raises:
        UserError: one is, or no header says how large the image is.
    """
    if len(data) > MOST_BYTES:
        raise UserError(f"{name} has {len(data):,} bytes: expected at most {MOST_BYTES:,}")
    header = read_header(data)
    if header is None or min(header.size) < 1:
        raise ImageError(
            f"{name} is damaged, far too large, or not an image: expected {EXPECTED} "
            f"of at most {MOST_PIXELS:,} pixels"
        )
    height, width = header.size
    if height * width > MOST_PIXELS:
        raise UserError(
            f"{name} has {height} × {width} pixels: expected at most {MOST_PIXELS:,} in all; "
            "take a smaller copy"
        )
    decoded = height * width * max(header.bands, 1) * -(-max(header.bits, 1) // 8)
    if decoded > MOST_DECODED:
        raise UserError(
            f"{name} takes {decoded:,} bytes when it is read ({header.bands} bands of "
            f"{header.bits} bits): expected at most {MOST_DECODED:,}; take a smaller copy"
        )
