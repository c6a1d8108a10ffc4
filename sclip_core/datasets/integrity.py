"""Files that are cut short or damaged: found from their bytes, without decoding them."""

from __future__ import annotations

import zlib

from sclip_core.config import ImageError

JPEG_START, JPEG_SCAN, JPEG_END = b"\xff\xd8", 0xDA, b"\xff\xd9"
LFS_START = b"version https://git-lfs"
PNG_START = b"\x89PNG\r\n\x1a\n"


def refuse_damaged(data: bytes, name: str) -> None:
    """Refuse a truncated or damaged file, without decoding it, in less than a millisecond.

    Some versions of OpenCV return the lower part of a truncated JPEG as grey, and Pillow ignores
    the checksums of a PNG's pixels, both without an error.

    Raises:
        ImageError: it has no bytes, is a pointer of Git LFS, is a JPEG or PNG
            without its end, or a PNG with a wrong checksum.
    """
    if not data:
        raise ImageError(f"{name} is empty (0 bytes): copy or download it again")
    if data.startswith(LFS_START):
        raise ImageError(f"{name} is a pointer of Git LFS, not the file itself: run `git lfs pull`")
    fault = None
    if data.startswith(JPEG_START):
        fault = _jpeg_fault(data)
    elif data.startswith(PNG_START):
        fault = _png_fault(data)
    if fault:
        raise ImageError(f"{name} is damaged: {fault}; copy or download it again")


def _jpeg_fault(data: bytes) -> str | None:
    """What is wrong with a JPEG; bytes after its end are allowed, since cameras append some."""
    if data.endswith(JPEG_END):
        return None
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != JPEG_SCAN:
        # 0xFF before a marker is padding. Segments are skipped: one may hold a whole thumbnail.
        filler = data[at + 1] == 0xFF
        at += 1 if filler else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None if data.find(JPEG_END, at) >= 0 else _cut_short(data)


def _png_fault(data: bytes) -> str | None:
    """What is wrong with a PNG; bytes after its end are allowed."""
    view = memoryview(data)
    at = len(PNG_START)
    while at + 12 <= len(data):
        kind = data[at + 4 : at + 8]
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            break
        # The first letter is a capital if the pixels depend on the chunk.
        critical = not kind[0] & 0x20
        if critical and zlib.crc32(view[at + 4 : end]) != int.from_bytes(
            view[end : end + 4], "big"
        ):
            return f"wrong checksum at byte {end:,} of {len(data):,}"
        if kind == b"IEND":
            return None
        at = end + 4
    return _cut_short(data)


def _cut_short(data: bytes) -> str:
    return f"its end is missing after {len(data):,} bytes"
