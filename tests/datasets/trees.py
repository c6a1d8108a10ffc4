"""Miniature datasets in the benchmarks' layouts, written with real encoders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

# What the MMSegmentation data guide says, written out by hand: the folder, the split file, and of
# each sample its id, image and label map, in the order in which they are to come out.
TREES: dict[str, tuple[str, str | None, list[tuple[str, str, str]]]] = {
    "voc2012": (
        "VOCdevkit/VOC2012",
        "ImageSets/Segmentation/val.txt",
        [
            (name, f"JPEGImages/{name}.jpg", f"SegmentationClass/{name}.png")
            for name in ("2007_000123", "2007_000033", "2011_003271")
        ],
    ),
    "voc2010": (
        "VOCdevkit/VOC2010",
        "ImageSets/SegmentationContext/val.txt",
        [
            (name, f"JPEGImages/{name}.jpg", f"SegmentationClassContext/{name}.png")
            for name in ("2008_000009", "2008_000002")
        ],
    ),
    "coco_object": (
        "coco_object",
        None,
        [
            (
                name,
                f"images/val2017/{name}.jpg",
                f"annotations/val2017/{name}_instanceTrainIds.png",
            )
            for name in ("000000000139", "000000000285")
        ],
    ),
    "coco_stuff": (
        "coco_stuff164k",
        None,
        [
            (name, f"images/val2017/{name}.jpg", f"annotations/val2017/{name}_labelTrainIds.png")
            for name in ("000000000139", "000000000285")
        ],
    ),
    "ade20k": (
        "ade/ADEChallengeData2016",
        None,
        [
            (name, f"images/validation/{name}.jpg", f"annotations/validation/{name}.png")
            for name in ("ADE_val_00000001", "ADE_val_00000002")
        ],
    ),
    "cityscapes": (
        "cityscapes",
        None,
        [
            (
                name,
                f"leftImg8bit/val/{name}_leftImg8bit.png",
                f"gtFine/val/{name}_gtFine_labelTrainIds.png",
            )
            for name in (
                "frankfurt/frankfurt_000000_000294",
                "frankfurt/frankfurt_000001_000538",
                "munster/munster_000000_000019",
            )
        ],
    ),
    "scenes": (
        "scenes",
        None,
        [(name, f"images/{name}.jpg", f"labels/{name}.png") for name in ("0000", "0001")],
    ),
}


def write_image(path: Path, height: int = 6, width: int = 8) -> None:
    """A small RGB image in the format of its ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:height, :width]
    Image.fromarray(np.stack([x * 9, y * 11, x + y], -1).astype(np.uint8)).save(path)


def write_label(path: Path, values: np.ndarray, palette: bool = False) -> None:
    """A label map; with a palette whose colours are not the indices, as PASCAL VOC has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    if palette:
        image = image.convert("L")
        image.putpalette([(index * 37 + shift) % 256 for index in range(256) for shift in range(3)])
    image.save(path)


def write_tree(layout: str, at: Path, below: str | None = None) -> Path:
    """One of `TREES` in a folder, which is returned; ``below`` replaces the subfolders it is in."""
    folder, split, samples = TREES[layout]
    root = at / (folder if below is None else below)
    for _, image, label in samples:
        write_image(root / image)
        labels = np.arange(48, dtype=np.uint8).reshape(6, 8) % 3
        write_label(root / label, labels, palette=layout == "voc2012")
    if split:
        (root / split).parent.mkdir(parents=True)
        (root / split).write_text("".join(f"{name}\n" for name, _, _ in samples))
    return at
