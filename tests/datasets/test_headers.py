"""Header and pixels by one reader: orientation, deep channels, many bands, endings."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sclip_core.config import ImageError, Protocol
from sclip_core.datasets import Reading, decode_image, image_size, read_image
from sclip_core.datasets.samples import folder_samples, skipped_below
from sclip_core.datasets.survey import survey

Y, X = np.mgrid[:40, :60]
RGB = np.stack([X * 4, Y * 6, 255 - X * 2 - Y * 3], -1).astype(np.uint8)
USUAL, IGNORE = Reading(), Reading("ignore")
# By orientation, what the standard says of the stored rows and columns: where the pixel that is
# shown at row y, column x is stored, of an image of h by w stored pixels.
STORED_AT = {
    1: lambda y, x, h, w: (y, x),
    2: lambda y, x, h, w: (y, w - 1 - x),
    3: lambda y, x, h, w: (h - 1 - y, w - 1 - x),
    4: lambda y, x, h, w: (h - 1 - y, x),
    5: lambda y, x, h, w: (x, y),
    6: lambda y, x, h, w: (h - 1 - x, y),
    7: lambda y, x, h, w: (h - 1 - x, w - 1 - y),
    8: lambda y, x, h, w: (x, w - 1 - y),
}
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def encode(pixels: NDArray[Any], kind: str, orientation: int = 1, **options: object) -> bytes:
    exif = Image.Exif()
    if orientation > 1:
        exif[0x112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, exif=exif, **options)
    return buffer.getvalue()


def shown(stored: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Pixel by pixel, by the standard."""
    h, w = stored.shape[:2]
    size = (w, h) if orientation > 4 else (h, w)
    place = STORED_AT[orientation]
    pixels = [[stored[place(y, x, h, w)] for x in range(size[1])] for y in range(size[0])]
    return np.array(pixels)


def assert_read_as(data: bytes, expected: NDArray[np.uint8], reading: Reading = USUAL) -> None:
    image = decode_image(data, "x", reading)
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).max() <= 12
    assert image_size(data, "x", reading) == expected.shape[:2]


KINDS = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {"compression": "tiff_lzw"},
}


@pytest.mark.parametrize("orientation", STORED_AT)
@pytest.mark.parametrize("kind", KINDS)
def test_orientation_of_header_and_pixels(kind: str, orientation: int) -> None:
    data = encode(RGB, kind, orientation, **KINDS[kind])
    assert_read_as(data, shown(RGB, orientation))
    assert_read_as(data, RGB, IGNORE)


def webp(prefix: bytes) -> bytes:
    """A WebP whose EXIF begins as that of a JPEG, or does not."""
    data = bytearray(encode(RGB, "WEBP", 6, lossless=True))
    at = data.find(b"EXIF")
    (size,) = struct.unpack("<I", data[at + 4 : at + 8])
    body = prefix + bytes(data[at + 8 : at + 8 + size]).removeprefix(b"Exif\0\0")
    data[at:] = b"EXIF" + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    data[4:8] = struct.pack("<I", len(data) - 8)
    return bytes(data)


@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
def test_exif_of_webp_with_and_without_prefix(prefix: bytes) -> None:
    assert_read_as(webp(prefix), shown(RGB, 6))


def png_with_exif_at_its_end() -> bytes:
    data = encode(RGB, "PNG")
    exif = Image.Exif()
    exif[0x112] = 6
    body = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return data[:-12] + chunk + data[-12:]


def test_exif_after_the_pixels_of_a_png() -> None:
    assert_read_as(png_with_exif_at_its_end(), shown(RGB, 6))


def jpeg_with_xmp() -> bytes:
    data, body = encode(RGB, "JPEG", quality=95), b"http://ns.adobe.com/xap/1.0/\0" + XMP
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


def png_with_xmp() -> bytes:
    data, body = encode(RGB, "PNG"), b"iTXtXML:com.adobe.xmp\0\0\0\0\0" + XMP
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return data[:33] + chunk + data[33:]


@pytest.mark.parametrize("make", [jpeg_with_xmp, png_with_xmp])
def test_orientation_in_xmp_alone_is_not_applied_and_said(make, tmp_path: Path) -> None:
    data = make()
    assert decode_image(data).shape[:2] == image_size(data) == RGB.shape[:2]
    (tmp_path / "a").write_bytes(data)
    (line,) = survey([tmp_path / "a"], Reading(), Protocol(), scored=True)
    assert line.startswith("1 image names an orientation in XMP alone, which is not applied")


DEEP = np.stack([X * 1000, Y * 1600, 65535 - X * 1000], -1).astype(np.uint16)


def tiff(pixels: NDArray[np.generic], photometric: str, **options: object) -> bytes:
    tifffile = pytest.importorskip("tifffile")
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, photometric=photometric, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("bands", [1, 3, 4, 8])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float16"])
@pytest.mark.parametrize("photometric", ["rgb", "minisblack"])
@pytest.mark.parametrize("big", [False, True])
def test_bands_of_a_tiff_are_read_as_they_are_stored(
    bands: int, dtype: str, photometric: str, big: bool
) -> None:
    if photometric == "rgb" and bands not in (3, 4):
        pytest.skip("no such file")
    whole = {"uint8": 255, "uint16": 65535}.get(dtype, 1)
    shares = np.random.default_rng(0).random((40, 60, bands))
    pixels = (shares * whole).astype(dtype)
    data = (
        tiff(pixels, photometric, bigtiff=big, planarconfig="contig")
        if bands > 1
        else tiff(pixels[..., 0], "minisblack", bigtiff=big)
    )
    colours = pixels[..., :3] if bands > 1 else np.repeat(pixels, 3, axis=2)
    expected = np.rint(colours.astype(np.float64) * 255 / whole)
    image = decode_image(data)
    assert image.shape == expected.shape
    assert np.abs(image - expected).max() <= 1
    assert image_size(data) == (40, 60)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("most", [1000, 4095, 10000])
def test_few_of_sixteen_bits_are_refused_without_a_range(kind: str, most: int) -> None:
    values = np.linspace(0, most, 2400).reshape(40, 60).astype(np.uint16)
    data = encode(values, kind)
    with pytest.raises(ImageError, match=r"it would be almost black.*--pixel-range 0,"):
        decode_image(data, "x.png")
    image = decode_image(data, "x.png", Reading(pixel_range=(0, most)))
    expected = np.repeat(np.rint(values * 255.0 / most)[..., None], 3, axis=2)
    assert np.abs(image - expected).max() <= 1
    dark = decode_image(data, "x.png", Reading(pixel_range=(0, 65535)))
    assert dark.max() == round(most / 257)


def test_floats_beyond_one_need_a_range() -> None:
    data = tiff((X * 100).astype(np.float32), "minisblack")
    with pytest.raises(ImageError, match=r"32-bit floats from 0 to 5,900.*--pixel-range 0,5900"):
        decode_image(data, "x.tif")
    with pytest.raises(ImageError, match="almost black"):
        decode_image(tiff((X / 600).astype(np.float32), "minisblack"), "x.tif")


def test_pgm_is_scaled_by_its_own_maximum() -> None:
    values = (X * 70).astype(">u2")
    data = b"P5\n60 40\n4200\n" + values.tobytes()
    image = decode_image(data)
    assert np.abs(image[..., 0] - values * 255.0 / 4200).max() <= 1.01


@pytest.mark.parametrize("ending", ["gif", "jp2", "ppm", "dib", "avif"])
def test_other_formats(ending: str) -> None:
    kind = {"jp2": "JPEG2000", "dib": "DIB"}.get(ending, ending.upper())
    if kind == "AVIF":
        pytest.importorskip("PIL._avif")
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, {"PPM": "PPM"}.get(kind, kind))
    image = decode_image(buffer.getvalue())
    assert np.abs(image.astype(int) - RGB).mean() < 8
    assert image_size(buffer.getvalue()) == RGB.shape[:2]


def test_heic_names_what_reads_it() -> None:
    data = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    with pytest.raises(ImageError, match=r"p\.heic is HEIC: pip install 'sclip-benchmark\[heic\]'"):
        decode_image(data, "p.heic")


def test_files_that_are_not_read_are_counted_by_ending(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.gif", "b.JFIF", "c.mov", "d.mov", "e", "f.jpe"):
        (tmp_path / name).write_bytes(encode(RGB, "JPEG"))
    assert [sample.image.name for sample in folder_samples(tmp_path, None)] == [
        "a.jpg",
        "b.JFIF",
        "f.jpe",
    ]
    assert skipped_below(tmp_path) == (
        "4 files skipped: 2 .mov, 1 without an ending, 1 .gif beside an image of that name"
    )


def notes(folder: Path, data: dict[str, bytes], reading: Reading = USUAL, **given: bool) -> str:
    for name, content in data.items():
        (folder / name).write_bytes(content)
    return "\n".join(survey([folder / name for name in data], reading, Protocol(), **given))


def test_turns_that_no_size_tells_are_said(tmp_path: Path) -> None:
    data = {
        "a": encode(RGB, "JPEG", 3),
        "b": encode(RGB[:, :40], "JPEG", 6),
        "c": encode(RGB, "JPEG", 6),
        "d": encode(RGB, "JPEG"),
    }
    line = notes(tmp_path, data, scored=True)
    assert line.startswith(f"EXIF turns 2 images (1 by 180°, 1 by 90° clockwise): {tmp_path / 'a'}")
    assert line.endswith("the score is wrong and needs --exif ignore")
    assert "EXIF turns 3 images" in notes(tmp_path, data, scored=True, sizes_tell=lambda: False)
    assert notes(tmp_path, data) == ""
    assert "--exif ignore: 3 images stay as stored" in notes(tmp_path, data, IGNORE, scored=True)


def test_channels_and_frames_are_said(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    said = notes(
        tmp_path,
        {
            "alpha.png": encode(np.dstack([RGB, RGB[..., 0]]), "PNG"),
            "moving.gif": buffer.getvalue(),
            "deep.png": encode(DEEP[..., 0], "PNG"),
            "plain.png": encode(RGB, "PNG"),
            "empty.png": b"",
        },
    ).splitlines()
    assert [line.split(":")[0] for line in said] == [
        "1 image has an alpha channel, which is dropped, also where it is transparent",
        "1 image has more than 8 bits a channel, of which the whole range of their type becomes "
        "black to white; another one is chosen by --pixel-range LOW,HIGH",
        "1 image holds several frames or pages, of which the first is taken",
    ]


def test_a_picture_that_is_made_much_smaller_is_said(tmp_path: Path) -> None:
    data = {"large.png": encode(np.zeros((1700, 2000, 3), np.uint8), "PNG")}
    assert "large.png is 1,700 pixels and is resized to 336, 5 times smaller" in notes(
        tmp_path, data
    )
    (tmp_path / "t.png").write_bytes(data["large.png"])
    (line,) = survey([tmp_path / "t.png"], Reading(), Protocol(tile=True))
    assert "in all 255 windows of 224 pixels" in line  # 15 rows of 17


def test_every_header_is_read(tmp_path: Path) -> None:
    data = {f"{number}.jpg": encode(RGB, "JPEG", 3) for number in range(200)}
    assert "EXIF turns 200 images" in notes(tmp_path, data, scored=True)


def test_an_image_of_an_evening_is_not_called_almost_black(tmp_path: Path) -> None:
    """16 bits with a mean of 6 % and highlights of 40 %."""
    values = np.full((40, 60), 0.05 * 65535, np.uint16)
    values[:5, :15] = 0.4 * 65535
    path = tmp_path / "evening.png"
    Image.fromarray(values).save(path)
    image = read_image(path)
    assert (image.max(), image[-1, -1, 0]) == (102, 12)
