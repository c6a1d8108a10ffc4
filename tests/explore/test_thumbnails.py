"""Thumbnails against plain resizing of what the project reads, and of files that are odd."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path
from threading import Thread

import cv2
import numpy as np
import pytest
from PIL import Image

from sclip_core.config import UserError, resolve
from sclip_core.datasets import read_image
from sclip_core.explore import thumbnails
from sclip_core.explore.gallery import Collection
from sclip_core.explore.opening import open_collections
from sclip_core.explore.thumbnails import Thumbnails, placeholder
from sclip_core.store.file_cache import FileCache

from ..conftest import TINY

SIZE = (900, 1300)  # height, width


def scene(height: int, width: int) -> np.ndarray:
    """Smooth colours, another one in each corner."""
    rows, columns = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return (255 * np.stack([rows, columns, (1 - rows) * columns], -1)).astype(np.uint8)


def as_exif(image: Image.Image, path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif, quality=95)


@pytest.fixture
def photos(tmp_path: Path) -> Collection:
    folder = tmp_path / "photos"
    folder.mkdir()
    image = Image.fromarray(scene(*SIZE))
    image.save(folder / "plain.jpg", quality=95)
    image.save(folder / "pixels.png")
    for orientation in range(2, 9):
        as_exif(image, folder / f"turned{orientation}.jpg", orientation)
    image.convert("L").save(folder / "grey.jpg")
    image.convert("CMYK").save(folder / "inks.jpg")
    Image.fromarray(scene(3, 5)).save(folder / "tiny.png")
    Image.fromarray(scene(4, 3000)).save(folder / "thin.jpg", quality=95)
    image.save(folder / """a 'quote' "two" <script>&amp;.jpg""", quality=95)
    image.save(folder / "a\nline.jpg", quality=95)
    (folder / "broken.jpg").write_bytes((folder / "plain.jpg").read_bytes()[:4000])
    (folder / "empty.png").write_bytes(b"")
    image.save(folder / "gone.png")
    settings = resolve(images=folder, artifacts=tmp_path / "artifacts", **TINY)
    collection = open_collections(settings, own=True).collections[0]
    (folder / "gone.png").unlink()
    return collection


@pytest.fixture
def made(tmp_path: Path) -> Thumbnails:
    return Thumbnails(tmp_path / "artifacts")


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


READABLE = [
    "plain", "pixels", "grey", "inks", "tiny", "thin", *(f"turned{k}" for k in range(2, 9)),
    """a 'quote' "two" <script>&amp;""", "a\nline",
]  # fmt: skip


@pytest.mark.parametrize("image_id", READABLE)
def test_a_thumbnail_is_the_image_as_the_project_reads_it(photos, made, image_id):
    whole = read_image(photos.file(image_id))
    data, etag = made.thumbnail(photos, image_id)
    assert data[8:12] == b"WEBP"
    assert etag[0] == etag[-1] == '"'
    found = decoded(data)
    height, width = whole.shape[:2]
    assert max(found.shape[:2]) == min(256, max(height, width))
    if min(found.shape[:2]) > 5:
        assert found.shape[0] / found.shape[1] == pytest.approx(height / width, rel=0.01)
    expected = cv2.resize(whole, found.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(found.astype(int) - expected).mean() < 6
    assert not made.faults


@pytest.mark.parametrize("image_id", ["broken", "empty", "gone"])
def test_what_cannot_be_read_is_a_placeholder_and_a_line(photos, made, image_id):
    data, etag = made.thumbnail(photos, image_id)
    assert (data, etag) == (placeholder(), '"placeholder"')
    assert max(decoded(data).shape) == 256
    line = made.faults[photos.id, image_id]
    assert image_id in line
    assert "\n" not in line
    with pytest.raises(UserError):
        made.picture(photos, image_id)


def test_an_image_that_is_not_in_the_collection_is_refused(photos, made):
    for name in ["../../etc/passwd", "/etc/passwd", "", "plain.jpg\0"]:
        with pytest.raises(UserError, match="no image"):
            made.thumbnail(photos, name)
        with pytest.raises(UserError, match="no image"):
            made.picture(photos, name)


def test_a_thumbnail_is_made_once_and_again_when_the_file_changes(photos, made, monkeypatch):
    first = made.thumbnail(photos, "turned6")
    files = list((photos.settings.local_artifacts / "explore/thumbnails").glob("*/*.webp"))
    assert len(files) == 1
    monkeypatch.setattr(thumbnails, "decode_smaller", None)  # it would raise
    another = Thumbnails(photos.settings.local_artifacts)
    assert another.thumbnail(photos, "turned6") == first
    files[0].write_bytes(files[0].read_bytes()[:-5])  # damaged: made again
    monkeypatch.undo()
    assert another.thumbnail(photos, "turned6") == first
    Image.fromarray(scene(300, 200)).save(photos.file("turned6"))
    second = made.thumbnail(photos, "turned6")
    assert second[1] != first[1]
    assert decoded(second[0]).shape[:2] == (256, 171)


def test_without_a_place_to_write_they_are_kept_in_memory(photos, tmp_path, monkeypatch):
    made = Thumbnails(tmp_path / "elsewhere", writable=False)
    first = made.thumbnail(photos, "turned3")
    assert not (tmp_path / "elsewhere").exists()
    monkeypatch.setattr(thumbnails, "decode_smaller", None)
    assert made.thumbnail(photos, "turned3") == first
    (tmp_path / "a file").write_text("")
    other = Thumbnails(tmp_path / "a file")  # a folder cannot be made in it
    monkeypatch.undo()
    assert other.thumbnail(photos, "turned3") == first
    monkeypatch.setattr(thumbnails, "decode_smaller", None)
    assert other.thumbnail(photos, "turned3") == first


def test_a_picture_is_the_image_at_the_shown_size(photos, made, tmp_path):
    data, etag, kind = made.picture(photos, "turned6")
    assert kind == "image/jpeg"
    whole = read_image(photos.file("turned6"))
    assert decoded(data).shape == whole.shape
    assert np.abs(decoded(data).astype(int) - whole).mean() < 3
    assert made.picture(photos, "turned6") == (data, etag, kind)
    large = np.zeros((2500, 1600, 3), np.uint8)
    cv2.imwrite(str(photos.file("turned6")), large)
    height, width = decoded(made.picture(photos, "turned6")[0]).shape[:2]
    assert height * width <= 2_000_000
    assert height / width == pytest.approx(2500 / 1600, rel=0.01)


def test_several_threads_ask_for_the_same_and_for_others(photos, made):
    found: dict[str, set[bytes]] = {}
    errors = []

    def ask() -> None:
        try:
            for image_id in photos.ids():
                found.setdefault(image_id, set()).add(made.thumbnail(photos, image_id)[0])
                if image_id.startswith("turned"):
                    made.picture(photos, image_id)
        except Exception as error:  # what a thread raises is shown here
            errors.append(error)

    threads = [Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(found) == len(photos)
    assert all(len(each) == 1 for each in found.values())
    assert len(made.faults) == 3


def test_the_folder_stays_below_its_bound_and_the_last_used_stay(tmp_path):
    cache = FileCache(tmp_path / "cache", most=10_000, suffix=".webp")
    for k in range(30):
        assert cache.put(f"{k:032x}", bytes([k]) * 1000)
        past = time.time() - 10_000 + 100 * k
        os.utime(tmp_path / "cache" / f"{k:032x}"[:2] / f"{k:032x}.webp", (past, past))
        cache.get(f"{0:032x}")  # used again and again
    sizes = [path.stat().st_size for path in (tmp_path / "cache").glob("*/*")]
    assert 5_000 < sum(sizes) <= 10_000
    assert cache.get(f"{0:032x}") == bytes(1000)
    assert cache.get(f"{29:032x}") == bytes([29]) * 1000
    assert cache.get(f"{1:032x}") is None
