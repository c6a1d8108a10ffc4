"""What the header of an image file says: size, orientation, channels, bits, frames.

One reader, by which pixels are turned and sizes are known, so that the two cannot disagree.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
from collections.abc import Iterator
from mmap import mmap
from typing import Any, NamedTuple

from PIL import (
    BmpImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from sclip_core.config.optional import heif_opener
from sclip_core.datasets.integrity import JPEG_START, PNG_START

Data = bytes | mmap  # of a file, whole

ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)  # EXIF; values that swap width and height
UPRIGHT = 1
XMP_ORIENTATION = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([1-8])\b")
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two: BigTIFF
# Tags of a TIFF.
WIDTH, HEIGHT, BITS, PHOTOMETRIC, BANDS, PLANAR = 256, 257, 258, 262, 277, 284
EXTRA, SAMPLE_FORMAT, XMP, SUBFILE = 338, 339, 700, 254
GREYS, CMYK, PALETTE = (0, 1), 5, 3  # values of PHOTOMETRIC
REDUCED_OR_MASK = 5  # bits of SUBFILE: an overview, or which pixels are there
MOST_PAGES = 64  # that are looked at
SAMPLES = {1: "uint", 2: "int", 3: "float"}  # values of SAMPLE_FORMAT
HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1")

# Opened by their own class: `PIL.Image.open` warns of a decompression bomb above 89 megapixels.
READERS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
}
# The others that Pillow is asked for: by no means all, some of which start programs.
OTHERS = ("GIF", "PPM", "JPEG2000", "AVIF", "DIB", "HEIF", "TIFF")


class Header(NamedTuple):
    """What a file says of its image, of the first one if it holds several."""

    kind: str  # "JPEG", "PNG", "BMP", "WEBP", "TIFF" or Pillow's name of it
    size: tuple[int, int]  # (height, width) as stored, pixels
    orientation: int = UPRIGHT  # of EXIF: 1 to 8
    xmp: int = UPRIGHT  # the orientation in XMP, where EXIF has none; it is not applied
    bits: int = 8  # of a channel
    sample: str = "uint"  # of a channel: uint, int or float
    bands: int = 3  # channels
    alpha: bool = False
    several: bool = False  # frames or pages
    coloured: bool = True  # a TIFF says that its first three bands are red, green and blue
    planar: bool = False  # a TIFF keeps its bands apart
    inks: bool = False  # CMYK

    @property
    def shown(self) -> tuple[int, int]:
        """(height, width) after the turn that EXIF asks for."""
        return self.size[::-1] if self.orientation in SIDEWAYS else self.size

    @property
    def deep(self) -> bool:
        """Whether a channel does not fit in 8 bits."""
        return self.bits > 8 or self.sample == "float"


def kind_of(data: Data) -> str | None:
    """The format that the first bytes of a file tell; None: one that Pillow may know."""
    start = bytes(data[:16])
    if start.startswith(JPEG_START):
        return "JPEG"
    if start.startswith(PNG_START):
        return "PNG"
    if start.startswith(b"BM"):
        return "BMP"
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return "WEBP"
    return "TIFF" if start.startswith(TIFF_STARTS) else None


def is_heic(data: Data) -> bool:
    """Whether a file is HEIC or HEIF, and no AVIF, which has the same container."""
    if bytes(data[4:8]) != b"ftyp":
        return False
    box = bytes(data[8 : min(int.from_bytes(data[:4], "big"), 256)])
    return box[:4] in HEIC_BRANDS and b"avif" not in box


def read_header(data: Data) -> Header | None:
    """What a file says of its image; None where no reader here knows the format.

    Args:
        data: the file's bytes, or the file mapped into memory: little of it is read.
    """
    kind = kind_of(data)
    try:
        if kind == "TIFF":
            return _tiff(data)
        with _opened(data, kind) as image:
            return _by_pillow(image, kind or str(image.format), data)
    except Exception:  # Pillow's readers raise a dozen kinds
        return None


def _opened(data: Data, kind: str | None) -> ImageFile.ImageFile:
    source: Any = io.BytesIO(data) if isinstance(data, bytes) else data
    if kind is not None:
        return READERS[kind](source)
    return open_other(source)


def open_other(source: Any) -> ImageFile.ImageFile:
    """Open a file of one of the formats that only Pillow or its plugins read.

    Raises:
        Exception: what Pillow raises of a file that it does not know.
    """
    heif_opener()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(source, formats=[f for f in OTHERS if f in _known()])


def _known() -> set[str]:
    Image.init()
    return set(Image.OPEN)


def _by_pillow(image: ImageFile.ImageFile, kind: str, data: Data) -> Header:
    """The header that Pillow reads, with the orientation that is asked for by EXIF alone."""
    bits, mode = 8, image.mode
    if kind == "PNG":
        bits = data[24]
    elif kind == "JPEG2000":
        at = data.find(b"\xff\x51")  # the marker SIZ, whose 41st byte is the depth less one
        bits = (data[at + 40] & 0x7F) + 1 if at >= 0 else 8
    elif mode.startswith("I"):
        bits = 16
    bands = 1 if mode.startswith("I") else len(image.getbands())
    orientation = _orientation(_exif_of(image, kind, data))
    return Header(
        kind,
        (image.height, image.width),
        orientation,
        _xmp_of(image) if orientation == UPRIGHT else UPRIGHT,
        bits=bits,
        bands=bands,
        alpha="A" in image.getbands() or "transparency" in image.info,
        several=bool(getattr(image, "is_animated", False)),
        inks=mode == "CMYK",
    )


def _exif_of(image: ImageFile.ImageFile, kind: str, data: Data) -> bytes | None:
    if kind == "PNG":  # where the chunk follows the pixels, Pillow has not seen it yet
        return next((bytes(body) for name, body in png_chunks(data) if name == b"eXIf"), None)
    found = image.info.get("exif")
    return found if isinstance(found, bytes) else None


def _orientation(exif: bytes | None) -> int:
    """The value of the tag in a block of EXIF, with or without JPEG's prefix; 1 if it is odd."""
    if not exif:
        return UPRIGHT
    tags = Image.Exif()
    try:
        tags.load(exif)
        return _as_orientation(tags.get(ORIENTATION))
    except Exception:  # a damaged block costs no image
        return UPRIGHT


def _as_orientation(value: object) -> int:
    return value if isinstance(value, int) and 1 <= value <= 8 else UPRIGHT


def _xmp_of(image: ImageFile.ImageFile) -> int:
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    return xmp_orientation(packet.encode() if isinstance(packet, str) else packet)


def xmp_orientation(packet: object) -> int:
    """The orientation that a packet of XMP names; 1: none."""
    found = XMP_ORIENTATION.search(packet) if isinstance(packet, bytes) else None
    return int(found[1]) if found else UPRIGHT


def png_chunks(data: Data) -> Iterator[tuple[bytes, bytes]]:
    """Names and contents of a PNG's chunks, without its pixels."""
    at = len(PNG_START)
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        name = bytes(data[at + 4 : at + 8])
        yield name, b"" if name == b"IDAT" else data[at + 8 : at + 8 + length]
        at += 12 + length


def _tiff(data: Data) -> Header:
    """The header of a TIFF or BigTIFF, from the tags of its first page."""
    pages = _pages(data)
    tags = next(pages)
    bits, samples = tags.get(BITS, (1,)), tags.get(SAMPLE_FORMAT, (1,))
    bands = int(tags.get(BANDS, 1))
    photometric = tags.get(PHOTOMETRIC, 1)
    orientation = _as_orientation(tags.get(ORIENTATION))
    packet = tags.get(XMP)
    own = {CMYK: 4, PALETTE: 1}.get(photometric, 1 if photometric in GREYS else 3)
    return Header(
        "TIFF",
        (int(tags[HEIGHT]), int(tags[WIDTH])),
        orientation,
        xmp_orientation(packet) if orientation == UPRIGHT else UPRIGHT,
        bits=int(max(bits)) if isinstance(bits, tuple) else int(bits),
        sample=SAMPLES.get(samples[0] if isinstance(samples, tuple) else samples, "uint"),
        bands=bands,
        alpha=bands > own and any(kind in (1, 2) for kind in tags.get(EXTRA, ())),
        several=any(not page.get(SUBFILE, 0) & REDUCED_OR_MASK for page in pages),
        coloured=photometric not in GREYS or bands < 3,
        planar=tags.get(PLANAR, 1) == 2,
        inks=photometric == CMYK,
    )


def _pages(data: Data) -> Iterator[Any]:
    """The tags of a TIFF's pages."""
    source: Any = io.BytesIO(data) if isinstance(data, bytes) else data
    source.seek(0)
    start = source.read(8)
    big = start[2:4] in (b"+\0", b"\0+")
    start += source.read(8) if big else b""
    tags: Any = TiffImagePlugin.ImageFileDirectory_v2(start)
    for _ in range(MOST_PAGES):
        if not tags.next:
            return
        place = tags.next
        tags = TiffImagePlugin.ImageFileDirectory_v2(start)
        source.seek(place)
        tags.load(source)
        yield tags
