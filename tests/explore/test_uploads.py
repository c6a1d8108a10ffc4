"""Images that the page sends: what is taken, what is kept, and what is refused undecoded."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from sclip_core.config import UserError
from sclip_core.explore import uploads as module
from sclip_core.explore.uploads import MOST_FILES, Uploads, called


def file_of(pixels: np.ndarray, kind: str = "PNG", **more) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **more)
    return out.getvalue()


def picture(seed: int, height: int = 20, width: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, rows: int | None = None) -> bytes:
    """A black PNG, grey, of which only some rows need be there."""
    raw = zlib.compressobj()
    line = bytes(width + 1)
    body = b"".join(raw.compress(line) for _ in range(height if rows is None else rows))
    body += raw.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def tiff(width: int, height: int, bands: int, bits: int = 64) -> bytes:
    """The head of a TIFF that claims to be large."""
    entries = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, 1)]
    entries += [(273, 4, 8), (277, 3, bands), (278, 4, height), (279, 4, 100), (339, 3, 3)]
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries))
    for tag, kind, value in entries:
        head += struct.pack("<HHI", tag, kind, 1) + struct.pack("<I", value)
    return head + bytes(200)


def test_the_pixels_are_those_of_the_file():
    kept, pixels = Uploads(), picture(0)
    name = kept.add("cat.png", file_of(pixels))
    assert np.array_equal(kept.pixels(name), pixels)
    assert kept.of(name).size == (20, 30)
    assert kept.of(name).name == "cat.png"


def test_exif_turns_it_as_in_runs():
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:, :10] = 255
    kept = Uploads()
    name = kept.add("turned.png", file_of(pixels, exif=exif))
    assert kept.of(name).size == (30, 20)
    assert np.array_equal(kept.pixels(name), np.rot90(pixels, 3))


def test_another_than_the_last_is_decoded_again():
    kept = Uploads()
    names = [kept.add(f"{k}.png", file_of(picture(k))) for k in range(3)]
    for k, name in enumerate(names):
        assert np.array_equal(kept.pixels(name), picture(k))


def test_the_same_bytes_are_one_upload():
    kept, data = Uploads(), file_of(picture(0))
    assert kept.add("a.png", data) == kept.add("b.png", data)
    assert len(kept) == 1


def test_the_last_are_kept():
    kept = Uploads()
    names = [kept.add(f"{k}.png", file_of(picture(k))) for k in range(MOST_FILES + 3)]
    assert list(kept.ids()) == names[3:]
    with pytest.raises(UserError, match="only the last 20 are: upload the image again"):
        kept.pixels(names[0])


def test_what_is_kept_is_bounded_in_bytes(monkeypatch):
    one = len(file_of(picture(0)))
    monkeypatch.setattr(module, "MOST_KEPT", 3 * one + 100)
    kept = Uploads()
    for k in range(6):
        kept.add(f"{k}.png", file_of(picture(k)))
    assert 2 <= len(kept) <= 3


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (png(20_000, 20_000), "20000 × 20000 pixels: expected at most 100,000,000"),
        (png(60_000, 60_000, rows=1), "60000 × 60000 pixels"),
        (tiff(5_000, 5_000, 2_000), "2000 bands of 64 bits"),
        (struct.pack("<6sHH3s", b"GIF89a", 65_535, 65_535, b"\0\0\0") + b";", "far too large"),
        (b"P6\n50000 50000\n255\n", "far too large"),
    ],
    ids=["png", "png cut short", "tiff of many bands", "gif", "ppm"],
)
def test_bombs_are_refused_before_they_are_decoded(data, line, monkeypatch):
    monkeypatch.setattr(module, "decode_image", None)
    assert len(data) < 1 << 20
    with pytest.raises(UserError, match=line):
        Uploads().add("bomb", data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no image",
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n(rm -rf) run\n",  # for which Pillow would start Ghostscript
        file_of(picture(0))[:-30],
        file_of(picture(0), "JPEG")[:-30],
    ],
)
def test_what_is_no_image_is_refused(data):
    kept = Uploads()
    with pytest.raises(UserError):
        kept.add("it", data)
    assert len(kept) == 0


def test_too_many_bytes_are_refused(monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    with pytest.raises(UserError, match=r"cat\.png has .* bytes: expected at most 1,000"):
        Uploads().add("cat.png", file_of(picture(0)))


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("cat.jpg", "cat.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\pictures\\cat.jpg", "cat.jpg"),
        ("", "upload"),
        ("..///", ".."),
        ("a\nb\x1b[2J.png", "a\\nb\\x1b[2J.png"),
        ("é" * 500, "é" * 100),
    ],
)
def test_names_are_short_lines(given, name):
    assert called(given) == name
