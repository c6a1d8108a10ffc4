"""Label maps: read as they are, mapped to classes as a slow obvious loop does, or refused."""

from __future__ import annotations

import doctest
import struct
import time
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sclip_core.config import ImageError
from sclip_core.datasets import IGNORED, check_sizes, label_classes, labels, read_label
from sclip_core.datasets.label_files import ColourError, stored_colours
from sclip_core.datasets.palettes import VOC_VOID, voc_colours
from tests.datasets.trees import write_label

VALUES = (np.arange(48).reshape(6, 8) % 7).astype(np.uint8)


def test_grey_png_gives_its_values(tmp_path: Path) -> None:
    write_label(tmp_path / "a.png", VALUES)
    read = read_label(tmp_path / "a.png")
    assert read.dtype == np.int32
    np.testing.assert_array_equal(read, VALUES)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_gives_its_indices_not_its_colours(tmp_path: Path, bits: int) -> None:
    indices = VALUES.astype(np.uint16) % (1 << bits)
    image = Image.fromarray(indices.astype(np.uint8))
    image.putpalette([255 - index % 256 for index in range(3 << bits)])
    image.save(tmp_path / "a.png", bits=bits)
    with Image.open(tmp_path / "a.png") as reopened:
        assert reopened.mode == "P"
    np.testing.assert_array_equal(read_label(tmp_path / "a.png"), indices)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits(tmp_path: Path, ending: str) -> None:
    values = VALUES.astype(np.uint16) * 300
    cv2.imwrite(str(tmp_path / f"a.{ending}"), values)
    np.testing.assert_array_equal(read_label(tmp_path / f"a.{ending}"), values)


def test_thirty_two_bits_and_one_bit(tmp_path: Path) -> None:
    deep = VALUES.astype(np.int32) * 100_000
    Image.fromarray(deep).save(tmp_path / "deep.tif")
    np.testing.assert_array_equal(read_label(tmp_path / "deep.tif"), deep)
    Image.fromarray(VALUES > 3).save(tmp_path / "bit.png")
    np.testing.assert_array_equal(read_label(tmp_path / "bit.png"), VALUES > 3)


@pytest.mark.parametrize("big", [False, True])
def test_tiff_of_other_writers(tmp_path: Path, big: bool) -> None:
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, VALUES.astype(np.uint16), bigtiff=big)
    np.testing.assert_array_equal(read_label(path), VALUES)
    tifffile.imwrite(path, VALUES.astype(np.int64), bigtiff=big)
    with pytest.raises(ImageError, match="such as integers of 64 bits: save it with 8, 16 or 32"):
        read_label(path)


def test_classes_that_count_from_1_and_label_maps_from_0() -> None:
    raw = np.array([[0, 1, 2, 255]], np.uint8)
    with pytest.raises(ImageError, match="one less than the numbers of the classes"):
        label_classes(raw, 3, numbers=(1, 2, 3))
    with pytest.raises(ImageError, match="give each a class of its own"):
        label_classes(raw, 3, numbers=(1, 2, 7))


def test_bmp(tmp_path: Path) -> None:
    write_label(tmp_path / "a.bmp", VALUES)
    np.testing.assert_array_equal(read_label(tmp_path / "a.bmp"), VALUES)


def test_exif_rotation_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    Image.fromarray(VALUES).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_label(tmp_path / "a.png"), VALUES)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_more_than_one_channel_is_refused(tmp_path: Path, mode: str) -> None:
    image = Image.new(mode, (8, 6))
    image.putpixel((1, 1), (1, 2, 3, 4)[: len(image.getbands())])
    image.save(tmp_path / "a.png")
    with pytest.raises(ImageError, match=rf"not single-channel \(Pillow mode {mode}\): expected"):
        read_label(tmp_path / "a.png")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_grey_in_several_channels_is_read_as_grey(tmp_path: Path, mode: str) -> None:
    Image.fromarray(VALUES).convert(mode).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_label(tmp_path / "a.png"), VALUES)


def test_colours_of_sixteen_bits_are_refused(tmp_path: Path) -> None:
    """Pillow would take the upper 8 bits of each, which are 0 of any class."""
    cv2.imwrite(str(tmp_path / "a.png"), np.repeat(VALUES.astype(np.uint16)[..., None], 3, 2))
    with pytest.raises(ImageError, match="Pillow mode RGB, 16 bits a channel"):
        read_label(tmp_path / "a.png")


def packed_rows(values: np.ndarray, bits: int) -> list[bytes]:
    """Each row with its values in so many bits, the first in the highest."""
    per_byte = 8 // bits
    padded = np.pad(values, ((0, 0), (0, -values.shape[1] % per_byte)))
    shifts = np.arange(8 - bits, -1, -bits)
    grouped = padded.reshape(len(values), -1, per_byte).astype(int)
    return [bytes(row) for row in (grouped << shifts).sum(-1).astype(np.uint8)]


def small_png(values: np.ndarray, bits: int, palette: bool) -> bytes:
    """A PNG by its specification, so that no writer decides how values are stored."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", *values.shape[::-1], bits, 3 if palette else 0, 0, 0, 0)
    colours = bytes(255 - k for k in range(3 << bits))
    pixels = zlib.compress(b"".join(b"\0" + row for row in packed_rows(values, bits)))
    parts = [chunk(b"IHDR", header), chunk(b"PLTE", colours) if palette else b""]
    return b"".join([b"\x89PNG\r\n\x1a\n", *parts, chunk(b"IDAT", pixels), chunk(b"IEND", b"")])


def small_tiff(values: np.ndarray, bits: int, photometric: int) -> bytes:
    """A TIFF by its specification; photometric 0: white is zero."""
    height, width = values.shape
    data = b"".join(packed_rows(values, bits))
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric)]
    tags += [(273, 8 + 2 + 12 * 9 + 4), (277, 1), (278, height), (279, len(data))]
    listed = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + listed + struct.pack("<I", 0) + data


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_of_few_bits_gives_what_is_stored(tmp_path: Path, bits: int) -> None:
    """Most readers spread it over 0..255, for a screen."""
    values = (np.arange(66).reshape(6, 11) * 7 % (1 << bits)).astype(np.uint8)
    files = {f"{palette}.png": small_png(values, bits, palette) for palette in (False, True)}
    files |= {f"{zero}.tif": small_tiff(values, bits, zero) for zero in (0, 1)}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        np.testing.assert_array_equal(read_label(tmp_path / name), values, err_msg=name)


def test_white_is_zero_gives_what_is_stored(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(small_tiff(VALUES, 8, 0))
    np.testing.assert_array_equal(read_label(tmp_path / "a.tif"), VALUES)


def test_values_of_classes() -> None:
    raw = np.array([[0, 128, 255, 7]], np.uint8)
    classes = label_classes(raw, 3, ignore_label=(7,), numbers=(0, 128, 255))
    np.testing.assert_array_equal(classes, [[0, 1, 2, IGNORED]])
    with pytest.raises(ImageError, match=r"class: 255 \(1 px\); expected 0, 128 \(2 classes\)"):
        label_classes(raw, 2, ignore_label=(7,), numbers=(0, 128))


def test_floating_point_holds_whole_numbers_or_is_refused(tmp_path: Path) -> None:
    Image.fromarray(VALUES.astype(np.float32)).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_label(tmp_path / "a.tif"), VALUES)
    odd = VALUES.astype(np.float32)
    odd[0, 0], odd[1, 1] = np.nan, 0.5
    Image.fromarray(odd).save(tmp_path / "a.tif")
    with pytest.raises(ImageError, match="2 pixels are no whole number, such as nan: expected one"):
        read_label(tmp_path / "a.tif")


@pytest.mark.parametrize("kind", ["uint8", "int64", "float32", "bool", "uint16"])
@pytest.mark.parametrize("axes", [(), (0,), (2,)])
def test_arrays_of_numpy(tmp_path: Path, kind: str, axes: tuple[int, ...]) -> None:
    values = VALUES % 2 if kind == "bool" else VALUES
    np.save(tmp_path / "a.npy", np.expand_dims(values, axes).astype(kind))
    read = read_label(tmp_path / "a.npy")
    assert read.dtype == np.int32
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((6, 8, 3)), r"shape \(6, 8, 3\): expected \(height, width\).*argmax"),
        (np.full((6, 8), 2**40), "the value 1,099,511,627,776: expected ids of at most 31 bits"),
        (np.full((6, 8), "sky"), "expected one class id a pixel"),
        (np.zeros((0, 8)), "expected"),
    ],
)
def test_arrays_that_are_no_label_maps(
    tmp_path: Path, array: NDArray[np.generic], message: str
) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ImageError, match=message):
        read_label(tmp_path / "a.npy")


def test_an_array_of_objects_or_cut_short_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array({"a": 1}, object), allow_pickle=True)
    with pytest.raises(ImageError, match="cannot be read"):
        read_label(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", VALUES)
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-9])
    with pytest.raises(ImageError, match="cannot be read"):
        read_label(tmp_path / "a.npy")


@pytest.mark.parametrize("colour", [0, 255])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_mask_in_alpha_alone_is_read(tmp_path: Path, mode: str, colour: int) -> None:
    pixels = np.full((*VALUES.shape, len(mode)), colour, np.uint8)
    pixels[..., -1] = VALUES
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_label(tmp_path / "a.png"), VALUES)


def test_files_that_are_no_label_maps(tmp_path: Path) -> None:
    Image.fromarray(VALUES).save(tmp_path / "lossy.jpg")
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not a mask")
    for name, message in {
        "lossy.jpg": "expected a single-channel PNG, TIFF, BMP, GIF or NPY; JPEG would blur",
        "empty.png": "is empty",
        "text.png": "is not a label map",
        "nowhere.png": "no file at",
        ".": "is a folder",
    }.items():
        with pytest.raises(ImageError, match=message) as error:
            read_label(tmp_path / name)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("palette", [False, True])
def test_no_damage_of_a_png_goes_unseen(tmp_path: Path, palette: bool) -> None:
    path = tmp_path / "a.png"
    write_label(path, np.kron(VALUES, np.ones((5, 5), np.uint8)), palette)
    data = path.read_bytes()
    for at in range(0, len(data), 7):
        flipped = bytearray(data)
        flipped[at] ^= 0x10
        for broken in (data[:at], bytes(flipped)):
            path.write_bytes(broken)
            with pytest.raises(ImageError):
                read_label(path)


@pytest.mark.parametrize("ending", ["tif", "bmp"])
def test_other_formats_cut_short_are_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    write_label(path, VALUES)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ImageError, match="cannot be decoded"):
        read_label(path)


def test_hundred_megapixels_without_a_warning(hundred_megapixels: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        raw = read_label(hundred_megapixels)
    assert raw.shape == (9000, 12000)
    assert raw[-1, -1] == 7


def slow_classes(
    raw: np.ndarray, num_classes: int, reduce_zero_label: bool, ignore_label: tuple[int, ...]
) -> np.ndarray | None:
    """The rule, pixel by pixel; None where a value has no class."""
    classes = np.zeros(raw.shape, np.int32)
    for at, value in np.ndenumerate(raw):
        if int(value) in ignore_label or (reduce_zero_label and value == 0):
            classes[at] = -1
        else:
            classes[at] = int(value) - 1 if reduce_zero_label else int(value)
            if not 0 <= classes[at] < num_classes:
                return None
    return classes


@pytest.mark.parametrize("seed", range(60))
def test_classes_are_those_of_a_slow_loop(seed: int) -> None:
    random = np.random.default_rng(seed)
    num_classes = int(random.integers(1, 7))
    reduce_zero_label = bool(seed % 2)
    pool = [-3, -1, 0, 3, 7, 11, 254, 255, 65534, 65535, 65536, 2**31 - 1]
    ignored = tuple(map(int, random.choice(pool, size=seed % 4, replace=False)))
    values = [*range(num_classes + reduce_zero_label), *ignored]
    if seed % 3 == 0:
        values.append(int(random.choice([*pool, num_classes + reduce_zero_label])))
    raw = random.choice(values, size=(9, 11)).astype(np.int32)

    expected = slow_classes(raw, num_classes, reduce_zero_label, ignored)
    if expected is None:
        with pytest.raises(ImageError, match="have a value without a class"):
            label_classes(raw, num_classes, reduce_zero_label, ignored)
    else:
        classes = label_classes(raw, num_classes, reduce_zero_label, ignored)
        assert classes.dtype == np.int32
        np.testing.assert_array_equal(classes, expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
def test_any_integer_type(dtype: type) -> None:
    raw = np.array([[0, 1, 2, 255]], dtype)
    np.testing.assert_array_equal(label_classes(raw, 3), [[0, 1, 2, IGNORED]])
    np.testing.assert_array_equal(
        label_classes(raw, 2, reduce_zero_label=True), [[IGNORED, 0, 1, IGNORED]]
    )
    np.testing.assert_array_equal(raw, [[0, 1, 2, 255]])


def test_value_beyond_the_classes_is_named_with_its_pixels() -> None:
    raw = np.zeros((10, 10), np.int32)
    raw[0, :4], raw[1, :2] = 11, 40
    with pytest.raises(ImageError) as error:
        label_classes(raw, 11, name="street.png")
    assert str(error.value) == (
        "street.png: 6 pixels have a value without a class: 11 (4 px), 40 (2 px); "
        "expected 0..10 (11 classes), or ignored 255; "
        "they look like classes that the vocabulary lacks: give each value up to 40 a line in the "
        "classes, or pass --label-values with the value of each class"
    )
    assert (label_classes(raw, 11, ignore_label=(255, 11, 40)) == IGNORED).sum() == 6


@pytest.mark.parametrize("reduce_zero_label", [False, True])
def test_negative_value_is_no_class(reduce_zero_label: bool) -> None:
    raw = np.array([[0, 1, -1]], np.int32)
    with pytest.raises(ImageError, match=r"class: -1 \(1 px\)"):
        label_classes(raw, 2, reduce_zero_label)
    assert label_classes(raw, 2, reduce_zero_label, (-1,))[0, 2] == IGNORED


def test_many_values_are_cut_short() -> None:
    with pytest.raises(ImageError, match=r"16 \(1 px\) and 7 more values; expected 0\.\.11"):
        label_classes(np.arange(24)[None], 12)


def test_range_of_reduced_labels() -> None:
    with pytest.raises(ImageError, match=r"expected 0\.\.20, of which 0 is not evaluated"):
        label_classes(np.array([[21]]), 20, reduce_zero_label=True)


@pytest.mark.parametrize(
    ("num_classes", "value", "layout"), [(171, 181, "coco_stuff"), (81, 130, "coco_object")]
)
def test_raw_stuff_maps_are_recognised(num_classes: int, value: int, layout: str) -> None:
    said = "ids up to 181: these are raw stuff maps, run `sclip data prepare"
    with pytest.raises(ImageError, match=said):
        label_classes(np.array([[3, value]]), num_classes, layout=layout)


def test_label_map_of_a_usual_size_takes_a_few_milliseconds() -> None:
    raw = np.kron(VALUES, np.ones((80, 80))).astype(np.int32)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        label_classes(raw, 21, reduce_zero_label=True)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.01


def test_sizes() -> None:
    check_sizes((480, 640), (480, 640), "a")
    with pytest.raises(ImageError, match=r"a: the image is 640x480 .*its label map 320x240.*same"):
        check_sizes((480, 640), (240, 320), "a")
    with pytest.raises(ImageError, match="same size; it is 2 times as small: bring both"):
        check_sizes((480, 640), (240, 320), "a")
    with pytest.raises(ImageError, match="it is 4 times as large"):
        check_sizes((480, 640), (1920, 2560), "a")
    with pytest.raises(ImageError, match="one was cropped, or rounded"):
        check_sizes((480, 640), (479, 640), "a")
    with pytest.raises(ImageError, match="is it the label map of another image"):
        check_sizes((480, 640), (300, 300), "a")
    with pytest.raises(ImageError, match="swapped, most likely by an EXIF rotation"):
        check_sizes((480, 640), (640, 480), "a")


def test_shared_label_maps_hold_classes_of_their_vocabulary(photographs: Path) -> None:
    for folder, num_classes, ignored in (
        ("VOCdevkit/VOC2012/SegmentationClass", 21, (255,)),
        ("coco_object/annotations/val2017", 81, ()),
        ("camvid/labels", 11, (11,)),
    ):
        for path in sorted((photographs / folder).iterdir())[:8]:
            raw = read_label(path)
            classes = label_classes(raw, num_classes, False, ignored, path.name)
            np.testing.assert_array_equal(classes == IGNORED, np.isin(raw, ignored))
            np.testing.assert_array_equal(classes[classes >= 0], raw[classes >= 0])


def test_doctests() -> None:
    assert doctest.testmod(labels).failed == 0


def gif(path: Path, values: NDArray[np.uint8], colours: list[int] | None, **options: bool) -> Path:
    image = Image.fromarray(values)
    if colours is not None:
        image.putpalette([part for code in colours for part in code.to_bytes(3, "big")])
    image.save(path, **options)
    return path


def test_gif_gives_its_indices_where_its_palette_shows_them(tmp_path: Path) -> None:
    values = np.where(VALUES == 6, 255, VALUES).astype(np.uint8)
    voc = voc_colours()
    for colours in (None, voc, [*voc[:-1], VOC_VOID]):
        path = gif(tmp_path / "a.gif", values, colours, optimize=False)
        np.testing.assert_array_equal(read_label(path), values)


def test_gif_whose_writer_numbered_the_colours_anew_is_refused(tmp_path: Path) -> None:
    """Pillow leaves out the colours that no pixel has."""
    values = VALUES * 2
    path = gif(tmp_path / "a.gif", values, None, optimize=True)
    with pytest.raises(ImageError, match=r"indices 0, 1, 2, 3, 4, 5, ... as the greys 0, 2, 4, 6"):
        read_label(path)
    path = gif(tmp_path / "b.gif", values, voc_colours(), optimize=True)
    with Image.open(path) as image:
        assert np.asarray(image).max() == 6  # no more 12
    with pytest.raises(ColourError, match=r"b.gif has colours, whose numbers in a GIF are those"):
        read_label(path)
    codes = np.array(voc_colours())[values]
    np.testing.assert_array_equal(stored_colours(path.read_bytes(), "b.gif"), codes)


def test_gif_of_several_frames_is_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(VALUES + k) for k in range(2)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="holds 2 pages or frames"):
        read_label(tmp_path / "a.gif")
