"""Images: the colours of the reference's reader, against what the formats say; and broken files."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sclip_core.config import ImageError
from sclip_core.datasets import decode_image, image_size, read_image

Y, X = np.mgrid[:40, :60]
RGB = np.stack([X * 4, Y * 6, 255 - X * 2 - Y * 3], -1).astype(np.uint8)
GREY3 = np.repeat(RGB[..., :1], 3, axis=2)


def encode(image: Image.Image | NDArray[np.uint8], kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def encode_cv2(ending: str, pixels: NDArray[np.generic]) -> bytes:
    return bytes(cv2.imencode(ending, pixels)[1])


def largest_difference(data: bytes, expected: NDArray[np.generic]) -> int:
    image = decode_image(data)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.shape == expected.shape
    return int(np.abs(image.astype(int) - expected.astype(int)).max())


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("BMP", {}), ("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {"lossless": True})],
)
def test_lossless_formats_keep_their_pixels(kind: str, options: dict[str, object]) -> None:
    assert largest_difference(encode(RGB, kind, **options), RGB) == 0


@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg(progressive: bool) -> None:
    data = encode(RGB, "JPEG", progressive=progressive)
    with Image.open(io.BytesIO(data)) as image:
        assert largest_difference(data, np.asarray(image)) <= 1


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_grey_is_repeated(kind: str) -> None:
    data = encode(RGB[..., 0], kind, **({"quality": 100} if kind == "JPEG" else {}))
    assert largest_difference(data, GREY3) <= (2 if kind == "JPEG" else 0)


def test_one_bit_is_black_and_white() -> None:
    bits = X % 3 == 0
    expected = np.repeat(np.where(bits, 255, 0)[..., None], 3, axis=2)
    assert largest_difference(encode(Image.fromarray(bits), "PNG"), expected) == 0


def test_alpha_is_dropped_not_blended() -> None:
    alpha = (X * 4).astype(np.uint8)
    assert largest_difference(encode(np.dstack([RGB, alpha]), "PNG"), RGB) == 0
    assert largest_difference(encode(np.dstack([RGB[..., 0], alpha]), "PNG"), GREY3) == 0


@pytest.mark.parametrize("options", [{}, {"transparency": 3}])
def test_palette_is_expanded(options: dict[str, int]) -> None:
    palette = Image.fromarray(RGB).quantize(16)
    assert palette.mode == "P"
    expected = np.asarray(palette.convert("RGB"))
    assert largest_difference(encode(palette, "PNG", **options), expected) == 0


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_sixteen_bits_keep_the_upper_eight(ending: str) -> None:
    deep = (X * 1000 + Y * 130).astype(np.uint16)
    expected = np.repeat((deep // 256)[..., None], 3, axis=2)
    assert largest_difference(encode_cv2(ending, deep), expected) == 0


def test_sixteen_bit_colour() -> None:
    deep = np.stack([X * 1000, Y * 1600, 65535 - X * 1000], -1).astype(np.uint16)
    assert largest_difference(encode_cv2(".png", deep[..., ::-1]), deep // 256) == 0


def test_cmyk_jpeg_is_plain_ink_times_black() -> None:
    cmyk = np.dstack([RGB, (X * 2 + Y).astype(np.uint8)])
    data = encode(Image.fromarray(cmyk, "CMYK"), "JPEG", quality=100, subsampling=0)
    light = 255.0 - cmyk
    expected = np.round(light[..., :3] * light[..., 3:] / 255)
    assert largest_difference(data, expected) <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    data = encode(RGB, "JPEG", exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        assert largest_difference(data, np.asarray(ImageOps.exif_transpose(image))) <= 1


def test_shared_photographs_are_what_cv2_imread_gives(photographs: Path) -> None:
    paths = [
        *sorted((photographs / "VOCdevkit/VOC2012/JPEGImages").iterdir())[:3],
        *sorted((photographs / "coco_object/images/val2017").iterdir())[:10],
        *sorted((photographs / "camvid/images").iterdir())[:3],
    ]
    for path in paths:
        np.testing.assert_array_equal(read_image(path), cv2.imread(str(path))[..., ::-1])


def thumbnail_jpeg() -> bytes:
    """A JPEG whose EXIF block holds a whole JPEG, end marker included."""
    data, thumbnail = encode(RGB, "JPEG"), encode(RGB[::4, ::4], "JPEG")
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    return data[:2] + segment + data[2:]


NOISE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
WHOLE = {
    "jpeg": encode(NOISE, "JPEG"),
    "progressive": encode(NOISE, "JPEG", progressive=True),
    "thumbnail": thumbnail_jpeg(),
    "png": encode(NOISE, "PNG"),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_cut_short_at_any_length_is_refused(kind: str) -> None:
    data = WHOLE[kind]
    for length in {2, 9, 30, len(data) // 3, len(data) // 2, len(data) - 13, len(data) - 2}:
        with pytest.raises(ImageError, match=r"photo\.jpg"):
            decode_image(data[:length], "photo.jpg")
    with pytest.raises(ImageError, match=r"its end is missing after .* bytes; copy or download"):
        decode_image(data[: len(data) * 9 // 10], "photo.jpg")


@pytest.mark.parametrize("kind", WHOLE)
def test_cut_short_and_filled_up_with_zeros_is_refused(kind: str) -> None:
    data = WHOLE[kind]
    with pytest.raises(ImageError, match="is damaged"):
        decode_image(data[: len(data) // 2] + bytes(len(data) // 2))


@pytest.mark.parametrize("kind", WHOLE)
def test_bytes_behind_the_end_are_allowed(kind: str) -> None:
    expected = decode_image(WHOLE[kind])
    np.testing.assert_array_equal(decode_image(WHOLE[kind] + b"MotionPhoto" * 20), expected)
    np.testing.assert_array_equal(decode_image(WHOLE[kind] + b"\0\0"), expected)


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "WEBP"])
def test_other_formats_cut_short_are_refused(kind: str) -> None:
    data = encode(NOISE, kind)
    with pytest.raises(ImageError, match="is damaged or not an image"):
        decode_image(data[: len(data) // 2])


def test_flipped_bit_of_a_png_is_refused() -> None:
    data = bytearray(WHOLE["png"])
    data[len(data) // 2] ^= 1
    with pytest.raises(ImageError, match="wrong checksum"):
        decode_image(bytes(data))


def test_random_bytes_never_raise_anything_else() -> None:
    random = np.random.default_rng(1)
    for start in (b"", b"\xff\xd8", b"\xff\xd8\xff\xe1\0\0", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF"):
        for length in (0, 1, 3, 40, 400):
            with pytest.raises(ImageError):
                decode_image(start + random.bytes(length), "noise")


def test_files_that_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("<html>404 not found</html>")
    (tmp_path / "folder.jpg").mkdir()
    for name, message in {
        "empty.jpg": r"is empty \(0 bytes\)",
        "text.jpg": r"not an image \(26 bytes starting b'<html>40'\)",
        "folder.jpg": "is a folder",
        "nowhere.jpg": "no file at",
    }.items():
        with pytest.raises(ImageError, match=message) as error:
            read_image(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)
        assert "\n" not in str(error.value)


def test_broken_image_writes_nothing_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    for data in (WHOLE["jpeg"][:900], WHOLE["png"][:900], b"BM" + bytes(20), b"GIF89a" + bytes(9)):
        with pytest.raises(ImageError):
            decode_image(data)
    assert capfd.readouterr().err == ""


def test_hundred_megapixels(hundred_megapixels: Path) -> None:
    image = read_image(hundred_megapixels)
    assert image.shape == (9000, 12000, 3)
    assert image[-1, -1].tolist() == [7, 7, 7]


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif", "bmp"])
@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
def test_the_size_is_that_of_the_image_as_it_is_read(
    tmp_path: Path, orientation: int | None, ending: str
) -> None:
    path = tmp_path / f"a.{ending}"
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    tags = {} if orientation is None or ending == "bmp" else {"exif": exif}
    Image.new("RGB", (8, 6)).save(path, **tags)
    assert image_size(path.read_bytes()) == read_image(path).shape[:2]


def test_the_size_of_an_image_that_pillow_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    height, width = decode_image(WHOLE["jpeg"]).shape[:2]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", height * width // 3)
    assert image_size(WHOLE["jpeg"]) == (height, width)


@pytest.mark.parametrize("data", [b"", b"text", WHOLE["jpeg"][:900], WHOLE["png"][:-9]])
def test_what_is_no_image_has_no_size(data: bytes) -> None:
    with pytest.raises(ImageError, match="here"):
        image_size(data, "here")


def test_threads_may_decode_at_the_same_time() -> None:
    results: list[bool] = []
    expected = decode_image(WHOLE["jpeg"])

    def work() -> None:
        same = all(np.array_equal(decode_image(WHOLE["jpeg"]), expected) for _ in range(20))
        results.append(same)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4
