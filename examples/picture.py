"""Segment a picture with your own words.

python examples/picture.py [PICTURE [LABELS.png]]

The toy CLIP of the package knows drawn scenes only. For photographs take real weights:
``SCLIP.load("ViT-B-16", "openai")``, and leave out the protocol, whose windows are the toy's.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from sclip_core import SCLIP, Protocol

SCENE = Path(__file__).parent / "scenes/images/0005.jpg"
CLASSES = ["snow", "wooden wall, planks", "box, crate", "tree", "sky, clouds", "car"]
TOY_WINDOWS = Protocol(short_side=192, slide_crop=48, slide_stride=24)


def main(picture: str = str(SCENE), labels_to: str | None = None) -> None:
    """Print the share of each class, and save the label map if a file is named."""
    model = SCLIP.load("sclip-demo", "scenes", attention="csa")
    found = model.segment(picture, CLASSES, TOY_WINDOWS, pamr_steps=10)

    for number, pixels in enumerate(np.bincount(found.labels.ravel())):
        if pixels:
            print(f"{found.class_names[number]:<12}{pixels / found.labels.size:6.1%}")
    if labels_to:
        Image.fromarray(found.labels).save(labels_to)  # the value k is class k


if __name__ == "__main__":
    main(*sys.argv[1:])
