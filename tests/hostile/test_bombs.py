"""Small files that claim to be huge: refused by name, in little memory."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from contextlib import suppress

import pytest

from sclip_core import ImageError
from sclip_core.datasets import decode_image, decode_label
from sclip_core.datasets.images import image_size


def png(width: int, height: int, *more: tuple[bytes, bytes]) -> bytes:
    """A grey PNG of this size, of which a few rows are there."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((min(width, 60_000) + 1) * 20), 9)
    chunks = [(b"IHDR", header), *more, (b"IDAT", pixels), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("decode", [decode_image, decode_label])
@pytest.mark.parametrize("size", [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (2**31 - 1, 1)])
def test_refused(decode, size):
    tracemalloc.start()  # which numpy tells of its arrays
    try:
        # before Pillow or OpenCV take memory for the pixels, which only they could count
        with pytest.raises(ImageError, match=r"bomb\.png .*(at most 1,073|CV_IO_MAX|not an image)"):
            decode(png(*size), "bomb.png")
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_huge_text_beside_the_pixels():
    """Text that unpacks to 100 MB; the pixels are read, or the file is refused by name."""
    text = b"k\0\0" + zlib.compress(bytes(100_000_000), 9)
    data = png(40, 20, (b"zTXt", text))
    for read in (decode_image, decode_label, image_size):
        with suppress(ImageError):
            read(data, "text.png")
