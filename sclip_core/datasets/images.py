"""Images as the reference reads them, as RGB uint8; truncated files are refused."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from sclip_core.config import ImageError
from sclip_core.config.data import DataSettings
from sclip_core.config.places import ObjectPath, Place
from sclip_core.datasets.depth import (
    is_plain_tiff,
    opencv_converts,
    raw_bands,
    scaled,
    whole_range,
)
from sclip_core.datasets.headers import UPRIGHT, Header, is_heic, open_other, read_header
from sclip_core.datasets.integrity import refuse_damaged
from sclip_core.datasets.suffixes import HEIC_ADVICE

_REDUCED = {  # by the part of a side that is decoded, for which JPEG skips most of its work
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
}
BLOCK = 8  # pixels of a block of JPEG: where a side has few, those beyond it count too much
CLASSIC = ("JPEG", "PNG", "BMP", "WEBP")  # the formats that OpenCV alone reads
EXPECTED = "JPEG, PNG, BMP, TIFF, WebP, GIF, JPEG 2000, AVIF, HEIC, PPM or PGM"

# OpenCV prints its own lines about a damaged image, which is reported here, in one error.
if "OPENCV_LOG_LEVEL" not in os.environ:
    # OpenCV 5 moved the function.
    set_log_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
    set_log_level(0)


class Reading(NamedTuple):
    """How image files become pixels, where there is a choice."""

    exif: Literal["apply", "ignore"] = "apply"  # the turn that EXIF asks for
    pixel_range: tuple[float, float] | None = None  # values that become 0 and 255, beyond 8 bits

    @classmethod
    def of(cls, settings: DataSettings) -> Self:
        """As the settings of a run say."""
        low, high = settings.pixel_range or (0.0, 0.0)
        return cls(settings.exif, (low, high) if settings.pixel_range else None)

    def changed(self) -> dict[str, Any]:
        """What is not as usual: what a key has to say of it."""
        found = {"exif": self.exif} if self.exif != "apply" else {}
        return found | ({"pixel_range": list(self.pixel_range)} if self.pixel_range else {})


USUAL = Reading()


def read_image(path: str | Place, reading: Reading = USUAL) -> NDArray[np.uint8]:
    """Read an image file, as `decode_image` does.

    Args:
        path: a file in any format that OpenCV or Pillow knows (JPEG, PNG, BMP, TIFF, WebP, GIF,
            JPEG 2000, AVIF, PPM, ...); HEIC with the extra ``heic``.
        reading: whether EXIF orientation is applied, and the range of deep images.

    Returns:
        (H, W, 3) RGB uint8.

    Raises:
        ImageError: no such file, or it cannot be decoded whole.
    """
    return decode_image(read_bytes(path), str(path), reading)


def decode_image(data: bytes, name: str = "image", reading: Reading = USUAL) -> NDArray[np.uint8]:
    """Decode the bytes of an image file as ``cv2.imdecode(IMREAD_COLOR)`` does.

    That is the reference's reader, and its pixels are part of the numbers: EXIF orientation is
    applied, alpha is dropped (not blended), 16 bits keep their upper 8, palettes are expanded,
    grey is repeated, CMYK is converted without a colour profile. Of several frames or pages the
    first is taken. Deep images that would end almost black are refused (``--pixel-range``), and
    of a TIFF with more bands the first three are taken as they are stored.

    Args:
        data: the file's bytes.
        name: what to call it in an error, e.g. its path.
        reading: whether EXIF orientation is applied, and the range of deep images.

    Returns:
        (H, W, 3) RGB uint8.

    Raises:
        ImageError: empty, cut short, damaged, not an image, or almost black as 8 bits.
    """
    refuse_damaged(data, name)
    header = read_header(data)
    image, is_turned = _decoded(data, header, name, reading)
    orientation = header.orientation if header else UPRIGHT
    if orientation != UPRIGHT and is_turned != (reading.exif == "apply"):
        image = _BACK[orientation](image) if is_turned else _TURNS[orientation](image)
    return np.ascontiguousarray(image)


def decode_smaller(
    data: bytes, side: int, name: str = "image", reading: Reading = USUAL
) -> NDArray[np.uint8]:
    """As ``decode_image``, for a thumbnail: a JPEG is decoded at an eighth, a quarter or a half.

    Args:
        data: the file's bytes.
        side: pixels of the long side, which the result has at least, or the image's own.
        name: what to call it in an error, e.g. its path.
        reading: as there.

    Raises:
        ImageError: as there.
    """
    header = read_header(data)
    size = header.size if header and header.kind == "JPEG" and not header.deep else (0, 0)
    fits = (f for p, f in _REDUCED.items() if max(size) >= p * side and min(size) >= p * BLOCK)
    flags = next(fits, None)
    if header is None or flags is None:
        return decode_image(data, name, reading)
    refuse_damaged(data, name)
    image = _by_opencv(data, name, flags)
    if image is None:
        return decode_image(data, name, reading)
    turn = header.orientation if reading.exif == "apply" else UPRIGHT
    return np.ascontiguousarray(turned(image, turn))


def _decoded(
    data: bytes, header: Header | None, name: str, reading: Reading
) -> tuple[NDArray[np.uint8], bool]:
    """The pixels (H, W, 3) RGB, and whether the decoder has turned them as EXIF asks for."""
    of_tiff = header is not None and header.kind == "TIFF"
    if header is not None and (header.deep or (of_tiff and not is_plain_tiff(header))):
        return _converted(data, header, name, reading)
    if header is None or of_tiff or header.kind in CLASSIC:
        image = _by_opencv(data, name)
        if image is not None:
            return image, of_tiff
    image = _by_pillow(data) if header is None or header.kind not in CLASSIC else None
    if image is not None:
        return image, False
    if is_heic(data):
        raise ImageError(f"{name} is HEIC: {HEIC_ADVICE} reads it, or save it as JPEG")
    raise ImageError(
        f"{name} is damaged or not an image ({len(data):,} bytes starting {data[:8]!r}): "
        f"expected {EXPECTED}"
    )


def _converted(
    data: bytes, header: Header, name: str, reading: Reading
) -> tuple[NDArray[np.uint8], bool]:
    """As ``_decoded``, of an image with more bits or other bands than OpenCV converts rightly."""
    raw, is_turned = raw_bands(data, header, name)
    if reading.pixel_range is not None and header.deep:
        return scaled(raw, reading.pixel_range), is_turned
    whole = whole_range(raw, name)
    image = _by_opencv(data, name) if header.deep and opencv_converts(header) else None
    return (scaled(raw, whole) if image is None else image), is_turned


def _by_opencv(data: bytes, name: str, flags: int = cv2.IMREAD_COLOR) -> NDArray[np.uint8] | None:
    """The colours as they are stored, of a TIFF as its tag turns them; None: not decoded."""
    flags |= cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(f"{name} cannot be decoded: {' '.join(str(error).split())}") from None
    return None if image is None else np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _by_pillow(data: bytes) -> NDArray[np.uint8] | None:
    """The colours of the first frame as they are stored; None: not decoded."""
    try:
        with open_other(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except Exception:  # Pillow's readers raise a dozen kinds
        return None


Turn = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]

# By EXIF orientation: from the stored pixels to those that are shown.
_TURNS: dict[int, Turn] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 3),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}
_BACK = {**_TURNS, 6: _TURNS[8], 8: _TURNS[6]}  # the others undo themselves


def turned(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Stored pixels (H, W, ...) as an EXIF orientation from 1 to 8 asks for them to be shown."""
    return pixels if orientation == UPRIGHT else _TURNS[orientation](pixels)


def as_tagged(values: NDArray[Any], data: bytes, exif: str) -> NDArray[Any]:
    """A label map as its own orientation tag asks for, or as it is stored.

    Args:
        values: (H, W), as Pillow gives them, which turns a TIFF by itself.
        data: the file's bytes.
        exif: ``apply`` or ``ignore``.
    """
    header = read_header(data)
    if header is None or header.orientation == UPRIGHT or header.kind not in ("PNG", "TIFF"):
        return values
    is_turned = header.kind == "TIFF"
    if is_turned == (exif == "apply"):
        return values
    return (_BACK if is_turned else _TURNS)[header.orientation](values)


def image_size(data: bytes, name: str = "image", reading: Reading = USUAL) -> tuple[int, int]:
    """Height and width of the image that `decode_image` gives, from its header if possible.

    Args:
        data: the file's bytes.
        name: what to call it in an error, e.g. its path.
        reading: whether EXIF orientation is applied.

    Raises:
        ImageError: empty, cut short, damaged, or not an image.
    """
    refuse_damaged(data, name)
    header = read_header(data)
    if header is None or min(header.size) < 1:
        height, width = decode_image(data, name, reading).shape[:2]
        return height, width
    return header.shown if reading.exif == "apply" else header.size


def read_bytes(path: str | Place) -> bytes:
    """The bytes of an image or label file, or of an object.

    Raises:
        ImageError: no such file, a folder, a device, or no permission.
        StorageError: object storage does not answer.
    """
    if isinstance(path, ObjectPath):
        from sclip_core.store.objects.contents import content

        return content(path)
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


def read_sample(path: str | Place) -> bytes:
    """The bytes of a dataset's file; a pipe, for which ``read_bytes`` would wait, is refused.

    Raises:
        ImageError: there is no such file, it is not a file, or it cannot be read.
        StorageError: object storage does not answer.
    """
    if isinstance(path, ObjectPath):
        return read_bytes(path)
    path = Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ImageError(f"{path} is not a file")
    return read_bytes(path)
