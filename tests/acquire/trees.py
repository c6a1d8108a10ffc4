"""Miniature sets as they are published, drawn with real encoders, with what is to come of them.

Each function writes one below a folder and returns, by image id, the label maps that are expected:
by slow loops over pixels, from the rules written out by hand.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

HEIGHT, WIDTH = 9, 12  # pixels
NEVER_USED = {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}  # of COCO's 182 ids, counted from 0
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
CONTEXT_IDS = {0: 0, 2: 1, 9: 2, 284: 37, 458: 59}  # a few categories and their classes

COCO = "coco_stuff164k"
CITYSCAPES = "cityscapes"
CONTEXT = "VOCdevkit/VOC2010"
VOC = "VOCdevkit/VOC2012"
ADE = "ade/ADEChallengeData2016"

Maps = dict[str, np.ndarray]


def photograph(
    path: Path, height: int = HEIGHT, width: int = WIDTH, exif: int | None = None
) -> None:
    """An image in the format of its ending; with an EXIF orientation if one is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:height, :width]
    image = Image.fromarray(np.stack([x * 9, y * 11, x + y], -1).astype(np.uint8))
    if exif is None:
        image.save(path)
    else:
        tags = Image.Exif()
        tags[0x0112] = exif
        image.save(path, exif=tags)


def grey(path: Path, values: np.ndarray) -> None:
    """A label map of one channel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)


def read(path: Path) -> np.ndarray:
    """A label map as Pillow reads it."""
    with Image.open(path) as image:
        return np.asarray(image).astype(np.int64)


def noise(seed: int, choices: list[int]) -> np.ndarray:
    """Values in patches, all of the first HEIGHT * WIDTH choices among them."""
    rng = np.random.default_rng(seed)
    values = rng.choice(choices, HEIGHT * WIDTH)
    some = choices[: HEIGHT * WIDTH]
    values[: len(some)] = some
    return rng.permutation(values).reshape(HEIGHT, WIDTH)


def slowly(values: np.ndarray, rule: Callable[[int], int]) -> np.ndarray:
    """A rule, pixel for pixel."""
    out = np.zeros(values.shape, np.int64)
    for y in range(values.shape[0]):
        for x in range(values.shape[1]):
            out[y, x] = rule(int(values[y, x]))
    return out


# --- COCO


def stuff_rule(value: int) -> int:
    """COCO-Stuff: the used ids, counted; the rest is ignored."""
    if value == 255 or value in NEVER_USED:
        return 255
    return value - sum(unused < value for unused in NEVER_USED)


def object_rule(value: int) -> int:
    """COCO-Object: the used ids of things, counted from one; the rest is background."""
    if value >= 90 or value in NEVER_USED:
        return 0
    return 1 + value - sum(unused < value for unused in NEVER_USED)


COCO_IDS = ("000000000139", "000000000285", "000000000632")


def coco_images(root: Path) -> None:
    for name in COCO_IDS:
        photograph(root / COCO / f"images/val2017/{name}.jpg")


def raw_stuff() -> Maps:
    """Three maps in which each of the 182 values, and 255, occurs."""
    everything = [*range(182), 255]
    return {name: noise(i, everything[i::3]) for i, name in enumerate(COCO_IDS)}


def coco_stuff_raw(root: Path) -> Path:
    """Images, and the raw stuff maps; the folder of the maps."""
    coco_images(root)
    folder = root / COCO / "annotations/val2017"
    for name, raw in raw_stuff().items():
        grey(folder / f"{name}.png", raw)
    return folder


def coco_stuff(root: Path) -> Maps:
    coco_stuff_raw(root)
    return {name: slowly(raw, stuff_rule) for name, raw in raw_stuff().items()}


def coco_object(root: Path) -> Maps:
    coco_stuff_raw(root)
    return {name: slowly(raw, object_rule) for name, raw in raw_stuff().items()}


def coco_instances(root: Path) -> Maps:
    """COCO's instance file: polygons, packed and unpacked run lengths; the last image has none."""
    from pycocotools import mask as masks

    coco_images(root)
    (root / COCO / "annotations/val2017").mkdir(parents=True, exist_ok=True)
    first, second = (int(name) for name in COCO_IDS[:2])
    dog = np.zeros((HEIGHT, WIDTH), np.uint8)
    dog[2:5, 3:7] = 1
    packed = masks.encode(np.asfortranarray(dog))
    crowd = [WIDTH // 2 * HEIGHT, (WIDTH - WIDTH // 2) * HEIGHT]  # the right half
    entries = [
        (1, first, 18, {**packed, "counts": packed["counts"].decode()}, 12, 0),  # on top
        (2, first, 1, [[0, 0, WIDTH, 0, WIDTH, 6, 0, 6]], 72, 0),
        (3, second, 1, {"size": [HEIGHT, WIDTH], "counts": crowd}, 2, 1),  # beneath
        (4, second, 90, [[0, 0, 8, 0, 8, HEIGHT, 0, HEIGHT]], 72, 0),
    ]
    names = ("id", "image_id", "category_id", "segmentation", "area", "iscrowd")
    used = [i for i in range(1, 91) if i - 1 not in NEVER_USED]
    data = {
        "images": [
            {"id": int(name), "file_name": f"{name}.jpg", "height": HEIGHT, "width": WIDTH}
            for name in COCO_IDS
        ],
        "annotations": [dict(zip(names, entry, strict=True)) for entry in entries],
        "categories": [{"id": i, "name": str(i)} for i in reversed(used)],
    }
    (root / COCO / "annotations/instances_val2017.json").write_text(json.dumps(data))
    expected = {name: np.zeros((HEIGHT, WIDTH), np.int64) for name in COCO_IDS}
    for y in range(HEIGHT):
        for x in range(WIDTH):
            here = 1 if y < 6 else 0
            expected[COCO_IDS[0]][y, x] = 17 if 2 <= y < 5 and 3 <= x < 7 else here
            expected[COCO_IDS[1]][y, x] = 80 if x < 8 else 1
    return expected


# --- Cityscapes

CITIES = (
    "frankfurt/frankfurt_000000_000294",
    "frankfurt/frankfurt_000001_000538",
    "munster/munster_000000_000019",
)
SHAPES = (
    ("road", 7, [[0, 5], [11, 5], [11, 8], [0, 8]]),
    ("cargroup", 26, [[2, 1], [8, 1], [8, 6], [2, 6]]),
    ("license plate", -1, [[4, 3], [6, 3], [6, 4], [4, 4]]),
    ("polegroup", 18, [[9, 0], [10, 0], [10, 8], [9, 8]]),
)


def cityscapes(root: Path, forms: tuple[str, ...] = ("labelIds", "polygons")) -> Maps:
    """Both forms of the same annotation, and images."""
    expected = {}
    for number, name in enumerate(CITIES):
        photograph(root / CITYSCAPES / f"leftImg8bit/val/{name}_leftImg8bit.png")
        shapes = SHAPES[: 2 + number]
        ids = Image.new("L", (WIDTH, HEIGHT), 0)
        for _, value, polygon in shapes:
            if value >= 0:
                ImageDraw.Draw(ids).polygon([tuple(p) for p in polygon], fill=value)
        raw = np.asarray(ids)
        labels = root / CITYSCAPES / f"gtFine/val/{name}_gtFine"
        labels.parent.mkdir(parents=True, exist_ok=True)
        if "labelIds" in forms:
            grey(Path(f"{labels}_labelIds.png"), raw)
            grey(Path(f"{labels}_instanceIds.png"), raw)  # comes along
        if "polygons" in forms:
            objects = [{"label": label, "polygon": polygon} for label, _, polygon in shapes]
            deleted = {"label": "sky", "polygon": shapes[0][2], "deleted": 1}
            annotation = {"imgHeight": HEIGHT, "imgWidth": WIDTH, "objects": [*objects, deleted]}
            Path(f"{labels}_polygons.json").write_text(json.dumps(annotation))
        expected[name] = slowly(raw, lambda v: LABEL_IDS.index(v) if v in LABEL_IDS else 255)
    return expected


# --- PASCAL Context

# The phases of the images, in the order of the file; the third is not seen by the Detail API.
PHASES = ("val", "train", "val", "val", "train", "train", "val", "train", "train", "val")


def validation_of_the_detail_api(images: list[dict]) -> list[dict]:
    """The Detail API's own loop: it removes from the list that it walks through."""
    images, kept = list(images), []
    for img in images:
        if img["phase"] not in ["val"]:
            images.remove(img)
        else:
            kept.append(img)
    return kept


def context_images() -> list[dict]:
    """The images of ``trainval_merged.json``, of both phases, one as often behind the other."""
    return [
        {
            "image_id": 2008000000 + number,
            "file_name": f"2008_{number:06}.jpg",
            "height": HEIGHT,
            "width": WIDTH,
            "phase": phase,
        }
        for number, phase in enumerate(PHASES)
    ]


def context_raw(root: Path) -> None:
    """The images of VOC2010 and the annotation file; no label map and no split."""
    from pycocotools import mask as masks

    segments = []
    for number, image in enumerate(context_images()):
        photograph(root / CONTEXT / "JPEGImages" / image["file_name"])
        for k, category in enumerate(CONTEXT_IDS):
            rle = masks.encode(np.asfortranarray(_segment(number, k)))
            segments.append(
                {
                    "id": len(segments),
                    "image_id": image["image_id"],
                    "category_id": category,
                    "segmentation": {**rle, "counts": rle["counts"].decode()},
                }
            )
    data = {"images": context_images(), "annos_segmentation": segments, "info": {}}
    (root / CONTEXT / "trainval_merged.json").write_text(json.dumps(data))


def context60(root: Path) -> Maps:
    context_raw(root)
    images = context_images()
    expected = {}
    for image in validation_of_the_detail_api(images):
        number = images.index(image)
        out = np.zeros((HEIGHT, WIDTH), np.int64)
        for k, value in enumerate(CONTEXT_IDS.values()):
            for y in range(HEIGHT):
                for x in range(WIDTH):
                    if _segment(number, k)[y, x]:
                        out[y, x] = value
        expected[Path(image["file_name"]).stem] = out
    return expected


def _segment(number: int, k: int) -> np.ndarray:
    """A mask that differs from image to image, and leaves some pixels to no segment."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[number % 3 : number % 3 + 5, 2 * k : 2 * k + 2] = 1
    return mask


# --- those that are used as they are published


def voc(root: Path) -> Maps:
    """Palette PNGs whose colours are not their indices, and the list of the split."""
    names = ("2007_000123", "2007_000033", "2011_003271")
    maps = {name: noise(i, [*range(21), 255]) for i, name in enumerate(names)}
    for name, values in maps.items():
        photograph(root / VOC / f"JPEGImages/{name}.jpg")
        target = root / VOC / f"SegmentationClass/{name}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(values.astype(np.uint8)).convert("L")
        image.putpalette([(i * 37 + shift) % 256 for i in range(256) for shift in range(3)])
        image.save(target)
    split = root / VOC / "ImageSets/Segmentation/val.txt"
    split.parent.mkdir(parents=True, exist_ok=True)
    split.write_text("".join(f"{name}\n" for name in names))
    return maps


def ade20k(root: Path) -> Maps:
    names = ("ADE_val_00000001", "ADE_val_00000002")
    maps = {name: noise(i, [*range(75 * i, 75 * i + 76)]) for i, name in enumerate(names)}
    for name, values in maps.items():
        photograph(root / ADE / f"images/validation/{name}.jpg")
        grey(root / ADE / f"annotations/validation/{name}.png", values)
    return maps


# By benchmark: what draws it, and where its label maps are to be.
SETS: dict[str, tuple[Callable[[Path], Maps], str]] = {
    "voc21": (voc, f"{VOC}/SegmentationClass/{{id}}.png"),
    "voc20": (voc, f"{VOC}/SegmentationClass/{{id}}.png"),
    "context60": (context60, f"{CONTEXT}/SegmentationClassContext/{{id}}.png"),
    "context59": (context60, f"{CONTEXT}/SegmentationClassContext/{{id}}.png"),
    "coco_object": (coco_object, f"{COCO}/annotations/val2017/{{id}}_instanceTrainIds.png"),
    "coco_stuff": (coco_stuff, f"{COCO}/annotations/val2017/{{id}}_labelTrainIds.png"),
    "ade20k": (ade20k, f"{ADE}/annotations/validation/{{id}}.png"),
    "cityscapes": (cityscapes, f"{CITYSCAPES}/gtFine/val/{{id}}_gtFine_labelTrainIds.png"),
}
MADE = ("context60", "context59", "coco_object", "coco_stuff", "cityscapes")


def place(name: str, root: Path, image_id: str) -> Path:
    """The label map of an image."""
    return root / SETS[name][1].format(id=image_id)
