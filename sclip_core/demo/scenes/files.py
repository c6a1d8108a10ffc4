"""Scenes as files, in the layout of a user's own folder."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2

from sclip_core.demo.scenes import draw_scene, evaluation_rng
from sclip_core.store.files import writable_folder, write_whole

VERSION = 1  # of the drawings: raise it when a seed draws another picture
QUALITY = 92  # of the JPEGs


def scenes_folder(folder: Path) -> Path:
    """The folder of the scenes below a demo's folder, another one for each version."""
    return folder / f"scenes-v{VERSION}"


def write_scenes(root: Path, count: int) -> int:
    """Draw evaluation scenes 0 to ``count - 1``, unless they are there already.

    Args:
        root: the folder of ``images/0000.jpg``, ``labels/0000.png``, ...
        count: how many scenes there should be.

    Returns:
        How many were drawn.

    Raises:
        DiskError: a file cannot be written.
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
    image, labels = _files(root, number)
    write_whole(image, lambda path: path.write_bytes(jpeg.tobytes()))
    write_whole(labels, lambda path: path.write_bytes(png.tobytes()))


def _files(root: Path, number: int) -> tuple[Path, Path]:
    """The image and the label map of a scene."""
    return root / "images" / f"{number:04d}.jpg", root / "labels" / f"{number:04d}.png"
