"""Images with more than 8 bits in a channel: 16-bit photographs, reflectances, floats.

Their values become 0 to 255 by the whole range of their type, or by a range that the user gives.
What would end almost black by that is refused: the values most likely have another range.
"""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sclip_core.config import ImageError, UserError
from sclip_core.config.optional import optional
from sclip_core.datasets.headers import Header, open_other

Range = tuple[float, float]

DARK_PEAK, DARK_MEAN = 0.25, 0.04  # shares of the whole range: of the brightest 1 %, of all
PEAK = 99.0  # percentile
NEEDS_TIFFFILE = "pip install 'sclip-benchmark[tiff]'"


def whole_range(raw: NDArray[Any], name: str) -> Range:
    """The values that are black and white in a deep image, where nobody has said it.

    Args:
        raw: as of ``raw_bands``.
        name: what to call the image in an error.

    Returns:
        Those of all 16 bits; of floats within them 0 and 1.

    Raises:
        ImageError: other values, or the image would end almost black.
    """
    if raw.dtype == np.uint8:
        return 0, 255
    if raw.dtype == np.uint16:
        _refuse_dark(raw, (0, 65535), name)
        return 0, 65535
    low, high = _extent(raw)
    if raw.dtype.kind != "f" or low < 0 or high > 1:
        raise ImageError(
            f"{name} holds {_type_of(raw)} from {low:,.6g} to {high:,.6g}: which of them are black "
            f"and white? pass --pixel-range {low:.6g},{high:.6g}, or another range"
        )
    _refuse_dark(raw, (0, 1), name)
    return 0, 1


def scaled(raw: NDArray[Any], given: Range) -> NDArray[np.uint8]:
    """Values as 0 to 255, so that a range becomes all of that; what is no number becomes 0.

    >>> scaled(np.array([[-1.0, 0.5, 2.0, np.nan]]), (0, 1))
    array([[  0, 128, 255,   0]], dtype=uint8)
    """
    low, high = given
    shares = (raw.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    shares = np.nan_to_num(shares, nan=0.0, posinf=255.0, neginf=0.0)
    whole: NDArray[np.uint8] = np.rint(np.clip(shares, 0, 255)).astype(np.uint8)
    return whole


def raw_bands(data: bytes, header: Header, name: str) -> tuple[NDArray[Any], bool]:
    """The first three bands of an image with their own values; grey is repeated.

    Returns:
        (H, W, 3), and whether the decoder has turned them as EXIF asks for.

    Raises:
        ImageError: no library here decodes it.
    """
    if header.kind == "PPM":  # scales by the highest value that the file names
        return _three(_by_pillow(data, name)), False
    if header.kind != "TIFF" or _opencv_reads(header):
        flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
        try:
            raw = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error:
            raw = None
        if raw is not None:
            turned = header.kind == "TIFF"  # whatever it is told
            return _three(raw if raw.ndim == 2 else _as_rgb(raw)), turned
    if header.kind == "TIFF":
        return _three(_by_tifffile(data, header, name)), False
    raise ImageError(f"{name} cannot be decoded: {described(header)}; save it as 8-bit RGB")


def is_plain_tiff(header: Header) -> bool:
    """Whether OpenCV's own conversion to 8-bit colours is right for a TIFF.

    It takes the first band of bands without colours for grey, and multiplies by alpha.
    """
    return not header.deep and header.coloured and (header.bands <= 3 or not _fourth(header))


def _fourth(header: Header) -> bool:
    """Whether a TIFF has bands beyond its colours, of which CMYK has four."""
    return header.bands > (4 if header.inks else 3)


def opencv_converts(header: Header) -> bool:
    """Whether OpenCV's own conversion of 16 bits to 8 is right, as it was for earlier results."""
    if header.kind != "TIFF":
        return header.kind != "PPM"
    return header.sample == "uint" and header.bands in (1, 3) and _opencv_reads(header)


def described(header: Header) -> str:
    """An image in words, for an error: ``4 bands of 16-bit uint``."""
    bands = f"{header.bands} band{'s' if header.bands != 1 else ''}"
    return f"{bands} of {header.bits}-bit {header.sample}"


def _opencv_reads(header: Header) -> bool:
    """Whether OpenCV gives the stored values of a TIFF."""
    if header.sample == "float" and header.bits < 32:
        return False
    return header.bands == 1 or (
        header.bands in (3, 4) and header.coloured and header.deep and not header.planar
    )


def _as_rgb(raw: NDArray[Any]) -> NDArray[Any]:
    return raw[..., 2::-1] if raw.shape[2] >= 3 else raw[..., 0]


def _three(raw: NDArray[Any]) -> NDArray[Any]:
    """(H, W), or (H, W, bands), as three bands: two are grey and something else."""
    if raw.ndim == 3 and raw.shape[2] >= 3:
        return np.ascontiguousarray(raw[..., :3])
    grey = raw if raw.ndim == 2 else raw[..., 0]
    return np.repeat(grey[..., None], 3, axis=2)


def _by_pillow(data: bytes, name: str) -> NDArray[Any]:
    try:
        with open_other(io.BytesIO(data)) as image:
            values = np.asarray(image)
    except Exception as error:  # Pillow's readers raise a dozen kinds
        raise ImageError(f"{name} cannot be decoded ({error}): copy or download it again") from None
    return values.clip(0, 65535).astype(np.uint16) if values.dtype.kind == "i" else values


def _by_tifffile(data: bytes, header: Header, name: str) -> NDArray[Any]:
    """A TIFF's first page (H, W, bands), by the library that knows most of them."""
    try:
        tifffile = optional("tifffile", "tiff")
    except UserError:
        raise ImageError(
            f"{name} is a TIFF with {described(header)}, which OpenCV cannot read: "
            f"{NEEDS_TIFFFILE}, or save it as 8-bit RGB"
        ) from None
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages[0]
            values: NDArray[Any] = page.asarray()
            axes = page.axes
    except Exception as error:  # its codecs raise many kinds
        raise ImageError(
            f"{name} is a TIFF with {described(header)} that cannot be decoded ({error}): "
            f"{NEEDS_TIFFFILE}, or save it as 8-bit RGB"
        ) from None
    if axes.startswith("S"):
        values = np.moveaxis(values, 0, -1)
    if values.ndim not in (2, 3):
        raise ImageError(f"{name} is a TIFF of shape {values.shape}: expected one image")
    return values


def _refuse_dark(raw: NDArray[Any], whole: Range, name: str) -> None:
    """Refuse values that are few of their range: as 8 bits the image would be almost black."""
    values = raw[np.isfinite(raw)] if raw.dtype.kind == "f" else raw
    if not values.size:
        raise ImageError(f"{name} holds no number: every pixel is NaN or infinite")
    peak = float(np.percentile(values, PEAK))
    if peak >= DARK_PEAK * whole[1] and float(values.mean()) >= DARK_MEAN * whole[1]:
        return
    low, high = _extent(raw)
    raise ImageError(
        f"{name} holds {_type_of(raw)} from {low:,.6g} to {high:,.6g}, 99 % of them up to "
        f"{peak:,.6g} of {whole[1]:,}: it would be almost black; say which values are black and "
        f"white: --pixel-range {_likely(peak, high)}, or {whole[0]},{whole[1]} to take it as it is"
    )


def _likely(peak: float, high: float) -> str:
    """A range for values as they are found, to be offered: of sensors, of reflectances."""
    if high <= 1:
        return f"0,{max(peak, 1e-6):.2g}"
    for most, meaning in ((1023, "10 bits"), (4095, "12 bits"), (10000, "reflectances")):
        if peak <= most:
            return f"0,{most} ({meaning})"
    return "0,16383 (14 bits)"


def _extent(raw: NDArray[Any]) -> Range:
    values = raw[np.isfinite(raw)] if raw.dtype.kind == "f" else raw
    return (float(values.min()), float(values.max())) if values.size else (np.nan, np.nan)


def _type_of(raw: NDArray[Any]) -> str:
    kind = {"f": "floats", "i": "signed integers", "u": "values"}[raw.dtype.kind]
    return f"{8 * raw.dtype.itemsize}-bit {kind}"
