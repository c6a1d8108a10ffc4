"""Photographs in HEIC, as phones write them: turned by a box of the container, EXIF beside it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sclip_core.datasets import image_size, read_image

from .conftest import flags, write_own

heif = pytest.importorskip("pillow_heif")
TURNS = {1: None, 3: "ROTATE_180", 6: "ROTATE_90", 8: "ROTATE_270", 2: "FLIP_LEFT_RIGHT"}


@pytest.fixture
def scene():
    """(96, 128, 3), every quarter of another colour."""
    pixels = np.zeros((96, 128, 3), np.uint8)
    pixels[:48], pixels[48:] = (90, 160, 250), (60, 150, 40)
    pixels[:48, :64], pixels[48:, 64:] = (200, 40, 40), (240, 240, 90)
    return pixels


def save(path, pixels, orientation=1):
    """Write a picture whose stored pixels are turned and whose container turns them back."""
    heif.register_heif_opener()
    image = Image.fromarray(pixels)
    if TURNS[orientation]:
        image = image.transpose(Image.Transpose[TURNS[orientation]])
    exif = Image.Exif()
    exif[0x112] = orientation
    image.save(path, exif=exif.tobytes(), quality=-1, chroma=444)
    assert (b"irot" in path.read_bytes()) == (orientation in (3, 6, 8))


@pytest.mark.parametrize("orientation", TURNS)
def test_pixels_are_upright_and_the_header_agrees(tmp_path, scene, orientation):
    path = tmp_path / "photo.heic"
    save(path, scene, orientation)
    found = read_image(path)
    assert image_size(path.read_bytes()) == found.shape[:2] == (96, 128)
    assert np.abs(found.astype(int) - scene).max() <= 3  # of its colour space


def test_run_and_segment(tmp_path, sclip):
    """A run scores them, and segments give the labels of the same pixels as PNG."""
    own = write_own(tmp_path / "own", 2)
    for number, path in enumerate(sorted((own / "images").iterdir())):
        pixels = np.asarray(Image.open(path).convert("RGB"))
        path.unlink()
        save(path.with_suffix(".heic"), pixels, (6, 3)[number])
    code, _, err = sclip("run", "--direct", *flags(own, tmp_path / "artifacts"))
    assert code == 0, err
    assert "metrics         computed  2 images" in err
    photo = sorted((own / "images").iterdir())[0]
    Image.fromarray(read_image(photo)).save(tmp_path / "same.png")
    maps = []
    for image in (photo, tmp_path / "same.png"):
        out, labels = (tmp_path / f"{image.stem}-{what}.png" for what in ("out", "labels"))
        words = ["--preset", "demo", "--classes", "sky; grass; car", "--output", out]
        code, _, err = sclip("segment", image, *words, "--labels-out", labels)
        assert code == 0, err
        maps.append(np.asarray(Image.open(labels)))
    np.testing.assert_array_equal(*maps)
