"""Raw annotations to 5,000 label maps of 640x480, as many as val2017 has; drawn pictures."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from benchmarks.measure import Registry, Row, seconds_of
from sclip_core.acquire.coco import STUFF_IDS, STUFF_UNUSED
from sclip_core.acquire.context import CONTEXT_IDS
from sclip_core.acquire.prepare import prepare
from sclip_core.datasets.annotations import shapes
from sclip_core.demo.scenes import draw_scene, evaluation_rng
from sclip_core.demo.training.pictures import Pictures

MAPS, FEW = 5000, 20
HEIGHT, WIDTH = 480, 640
DIFFERENT = 40  # distinct maps; the others are copies of them
INSTANCES = 7.4  # an image, as in instances_val2017.json
SEGMENTS = 8  # an image
CORNERS = 40
GOAL = 60.0  # seconds
TREE = "coco_stuff164k"


def data_rows(quick: bool) -> Iterator[Row]:
    """A row for each conversion."""
    maps = FEW if quick else MAPS
    for name, source, write in CASES:
        with tempfile.TemporaryDirectory() as folder:
            root, rng = Path(folder), np.random.default_rng(0)
            write(root, maps, rng)
            convert = partial(prepare, name, root, source)
            taken, again = seconds_of(convert), seconds_of(convert)
        yield Row(
            name=f"sclip data prepare {name}, from {source}, {maps:,} maps {WIDTH}x{HEIGHT}",
            goal=f"≤ {GOAL:.0f} s on two cores",
            measured=f"{taken:.1f} s; all there: {again:.1f} s",
            met=taken <= GOAL,
            detail={"seconds": taken, "all_there": again},
        )


def drawing_rows(quick: bool) -> Iterator[Row]:
    """How fast the demo's training pictures and evaluation scenes are drawn, on one core."""
    batch, count = (4, 1) if quick else (1024, 12)
    pictures = Pictures(0, batch, 48)
    rate = batch / seconds_of(lambda: pictures.make(0))
    scenes = seconds_of(lambda: [draw_scene(evaluation_rng(n), 360, 480) for n in range(count)])
    yield Row(
        name="drawing, one core: pictures 48x48 with captions and tokens, scenes 480x360",
        goal="",
        measured=f"{rate:.0f} pictures/s, {count / scenes:.0f} scenes/s",
        detail={"pictures_per_second": rate, "scenes_per_second": count / scenes},
    )


def _stuff(root: Path, maps: int, rng: np.random.Generator) -> None:
    """Write raw maps of COCO-Stuff: blocks with ragged borders."""
    labels = root / TREE / "annotations/val2017"
    labels.mkdir(parents=True)
    used = [i for i in range(STUFF_IDS) if i not in STUFF_UNUSED]
    values = np.array([*used, 255], np.uint8)
    files = []
    for _ in range(DIFFERENT):
        blocks = values[rng.integers(0, len(values), (24, 32))]
        rows = np.arange(HEIGHT)[:, None] + rng.integers(-3, 4, (HEIGHT, 1))
        columns = np.arange(WIDTH)[None] + rng.integers(-3, 4, (HEIGHT, 1))
        raw = blocks[np.clip(rows, 0, HEIGHT - 1) // 20, np.clip(columns, 0, WIDTH - 1) // 20]
        files.append(cv2.imencode(".png", raw)[1].tobytes())
    for i in range(maps):
        (labels / f"{i:012d}.png").write_bytes(files[i % DIFFERENT])


def _polygon(rng: np.random.Generator) -> list[float]:
    """A star-shaped outline as x, y, x, y, ..."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, CORNERS))
    radii = rng.uniform(20, 150) * rng.uniform(0.7, 1.1, CORNERS)
    x = rng.uniform(50, WIDTH - 50) + radii * np.cos(angles)
    y = rng.uniform(50, HEIGHT - 50) + radii * np.sin(angles)
    corners = np.stack([x.clip(0, WIDTH - 1), y.clip(0, HEIGHT - 1)], 1)
    return [float(value) for value in corners.ravel()]


def _instances(root: Path, maps: int, rng: np.random.Generator) -> None:
    """Write an instance file with polygons."""
    folder = root / TREE / "annotations"
    (folder / "val2017").mkdir(parents=True)
    annotations = [
        {
            "id": i,
            "image_id": int(rng.integers(maps)),
            "category_id": int(rng.integers(1, 81)),
            "iscrowd": 0,
            "area": float(rng.uniform(10, 1e4)),
            "segmentation": [_polygon(rng)],
        }
        for i in range(int(INSTANCES * maps))
    ]
    images = [
        {"id": i, "file_name": f"{i:012d}.jpg", "height": HEIGHT, "width": WIDTH}
        for i in range(maps)
    ]
    categories = [{"id": i, "name": str(i)} for i in range(1, 81)]
    data = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances_val2017.json").write_text(json.dumps(data))


def _context(root: Path, maps: int, rng: np.random.Generator) -> None:
    """Write ``trainval_merged.json`` with run lengths."""
    folder = root / "VOCdevkit/VOC2010"
    (folder / "JPEGImages").mkdir(parents=True)
    masks = shapes.coco()
    drawn = []
    for _ in range(DIFFERENT):
        (packed,) = masks.frPyObjects([_polygon(rng)], HEIGHT, WIDTH)
        drawn.append({"size": packed["size"], "counts": packed["counts"].decode()})
    images = [
        {
            "image_id": i,
            "file_name": f"2008_{i:06d}.jpg",
            "phase": "val",
            "height": HEIGHT,
            "width": WIDTH,
        }
        for i in range(maps)
    ]
    segments = [
        {
            "image_id": i,
            "category_id": CONTEXT_IDS[int(rng.integers(1, len(CONTEXT_IDS)))],
            "segmentation": drawn[int(rng.integers(DIFFERENT))],
        }
        for i in range(maps)
        for _ in range(SEGMENTS)
    ]
    data = {"images": images, "annos_segmentation": segments}
    (folder / "trainval_merged.json").write_text(json.dumps(data))


CASES: list[tuple[str, str, Callable[[Path, int, np.random.Generator], None]]] = [
    ("coco_stuff", "stuff", _stuff),
    ("coco_object", "stuff", _stuff),
    ("coco_object", "instances", _instances),
    ("context60", "trainval_merged", _context),
]
ROWS: Registry = {"data": data_rows, "drawing": drawing_rows}
