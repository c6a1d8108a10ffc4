"""Scenes as files, in the layout of any folder of one's own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2

from sclip_core.demo.scenes import draw_scene, evaluation_rng
from sclip_core.store.files import writable_folder, write_whole

VERSION = 1  # of the drawings: to be raised by whoever changes what a seed draws
QUALITY = 92  # of the JPEGs


def scenes_folder(folder: Path) -> Path:
    """Where a demo keeps its scenes; drawings of another version lie elsewhere."""
    return folder / f"scenes-v{VERSION}"


def write_scenes(root: Path, count: int) -> int:
    """Draw evaluation scenes 0 to ``count - 1``; those that are there stay.

    Args:
        root: ``images/0000.jpg`` and ``labels/0000.png`` are made below it.
        count: how many.

    Returns:
        How many were drawn.

    Raises:
        DiskError: one cannot be written.
    """
    for name in ("images", "labels"):
        writable_folder(root / name, "--folder")
    missing = [n for n in range(count) if not all(path.exists() for path in _files(root, n))]
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(lambda number: _write_one(root, number), missing):
            pass
    return len(missing)


def _write_one(root: Path, number: int) -> None:
    scene = draw_scene(evaluation_rng(number))
    jpeg = cv2.imencode(".jpg", scene.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    png = cv2.imencode(".png", scene.labels)[1]
    for target, data in zip(_files(root, number), (jpeg, png), strict=True):
        write_whole(target, partial(_put, data.tobytes()))


def _files(root: Path, number: int) -> tuple[Path, Path]:
    """Picture and label map of a scene."""
    return root / "images" / f"{number:04d}.jpg", root / "labels" / f"{number:04d}.png"


def _put(data: bytes, path: Path) -> None:
    path.write_bytes(data)
