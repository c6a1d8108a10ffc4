"""Images as the reference reads them, as RGB uint8; truncated files are refused."""

from __future__ import annotations

import io
import os
import stat
import zlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sclip_core.config import ImageError

JPEG_START, JPEG_SCAN, JPEG_END = b"\xff\xd8", 0xDA, b"\xff\xd9"
PNG_START = b"\x89PNG\r\n\x1a\n"
ORIENTATION, SIDEWAYS = 0x0112, {5, 6, 7, 8}  # EXIF: values that swap width and height

# OpenCV prints its own lines about a damaged image, which is reported here, in one error.
if "OPENCV_LOG_LEVEL" not in os.environ:
    # OpenCV 5 moved the function.
    set_log_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
    set_log_level(0)


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Read an image file, as `decode_image` does.

    Args:
        path: a file in any format that OpenCV knows (JPEG, PNG, BMP, TIFF, WebP, ...).

    Returns:
        (H, W, 3) RGB uint8.

    Raises:
        ImageError: no such file, or it cannot be decoded whole.
    """
    return decode_image(read_bytes(path), str(path))


def decode_image(data: bytes, name: str = "image") -> NDArray[np.uint8]:
    """Decode the bytes of an image file exactly as ``cv2.imdecode(IMREAD_COLOR)`` does.

    That is the reference's reader, and its pixels are part of the numbers: EXIF orientation is
    applied, alpha is dropped (not blended), 16 bits keep their upper 8, palettes are expanded,
    grey is repeated, CMYK is converted without a colour profile.

    Args:
        data: the file's bytes.
        name: what to call it in an error, e.g. its path.

    Returns:
        (H, W, 3) RGB uint8.

    Raises:
        ImageError: empty, cut short, damaged, or not an image.
    """
    refuse_damaged(data, name)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ImageError(f"{name} cannot be decoded: {' '.join(str(error).split())}") from None
    if image is None:
        raise ImageError(
            f"{name} is damaged or not an image ({len(data):,} bytes starting {data[:8]!r}): "
            "expected JPEG, PNG, BMP, TIFF or WebP"
        )
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def image_size(data: bytes, name: str = "image") -> tuple[int, int]:
    """Height and width of the image that `decode_image` gives, from its header if possible.

    Args:
        data: the file's bytes.
        name: what to call it in an error, e.g. its path.

    Raises:
        ImageError: empty, cut short, damaged, or not an image.
    """
    refuse_damaged(data, name)
    try:
        with Image.open(io.BytesIO(data)) as image:
            turned = image.getexif().get(ORIENTATION) in SIDEWAYS
            width, height = image.size
            # of a TIFF, some versions of Pillow have turned the size already
            known = not (turned and image.format == "TIFF")
    except Exception:  # Pillow's readers raise a dozen kinds, and refuse very large images
        known = False
    if not known:
        height, width = decode_image(data, name).shape[:2]
        return height, width
    return (width, height) if turned else (height, width)


def read_bytes(path: str | Path) -> bytes:
    """The bytes of an image or label file.

    Raises:
        ImageError: no such file, a folder, a device, or no permission.
    """
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):  # /dev/zero has no end
            raise ImageError(f"{path} is a device: expected an image file")
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise ImageError(f"no file at {path}: expected an image") from None
    except IsADirectoryError:
        raise ImageError(f"{path} is a folder: expected an image file") from None
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}") from None


def read_sample(path: str | Path) -> bytes:
    """The bytes of a dataset's file; a pipe, for which ``read_bytes`` would wait, is refused.

    Raises:
        ImageError: there is no such file, it is not a file, or it cannot be read.
    """
    path = Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ImageError(f"{path} is not a file")
    return read_bytes(path)


def refuse_damaged(data: bytes, name: str) -> None:
    """Refuse a truncated or damaged file, without decoding it, in less than a millisecond.

    Some versions of OpenCV return the lower part of a truncated JPEG as grey, and Pillow ignores
    the checksums of a PNG's pixels, both without an error.

    Raises:
        ImageError: it has no bytes, is a JPEG or PNG without its end, or a PNG with a wrong
            checksum.
    """
    if not data:
        raise ImageError(f"{name} is empty (0 bytes): copy or download it again")
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
