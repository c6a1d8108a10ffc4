"""Predictions for Label Studio: tasks with brush labels, and the labelling interface for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from sclip_core.drawing.colours import palette
from sclip_core.exports.places import as_json, check_folder, whole_folder
from sclip_core.exports.regions import regions
from sclip_core.exports.stored import Segmented, StoredRun

CHANNELS = 4  # it counts red, green, blue and alpha of every pixel
INSIDE = 255
SIZES = (3, 4, 8, 16)  # bits in which the length of a series can be written
LONGEST = 1 << SIZES[-1]
FROM, TO = "label", "image"  # names in the labelling interface
LOCAL = "/data/local-files/?d="  # the address of a file of its local storage


def brush_rle(mask: NDArray[Any]) -> list[int]:
    """Label Studio's own RLE of a mask (H, W), as its brush has it: bytes.

    A head of 53 bits: the number of values in 32, the bits of a value less one in 5, and the four
    ``SIZES`` less one in 4 each. Then each series: 1, the place in ``SIZES`` of the bits of its
    length in 2, its length less one, and its value in 8. The last byte is filled with zeros.
    """
    flat = np.asarray(mask, bool).ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff(np.concatenate([[0], edges, [flat.size]])) * CHANNELS
    bits = [f"{flat.size * CHANNELS:032b}{8 - 1:05b}", *(f"{size - 1:04b}" for size in SIZES)]
    value = int(flat[0]) * INSIDE if flat.size else 0
    for length in lengths.tolist():
        while length > 0:
            part = min(length, LONGEST)
            place = next(k for k, size in enumerate(SIZES) if part <= 1 << size)
            bits.append(f"1{place:02b}{part - 1:0{SIZES[place]}b}{value:08b}")
            length -= part
        value = INSIDE - value
    coded = "".join(bits)
    coded += "0" * (-len(coded) % 8)
    return list(int(coded, 2).to_bytes(len(coded) // 8, "big"))


def prediction(
    labels: NDArray[np.integer[Any]],
    class_names: Sequence[str],
    model_version: str = "sclip",
    components: bool = False,
) -> dict[str, Any]:
    """A prediction of Label Studio's for a label map (H, W).

    Args:
        labels: classes; negative values are in no region.
        class_names: by class.
        model_version: what it names the prediction by.
        components: whether each connected part of a class is a region of its own.
    """
    height, width = labels.shape
    result = [
        {
            "id": f"r{number}",
            "type": "brushlabels",
            "from_name": FROM,
            "to_name": TO,
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {"format": "rle", "rle": brush_rle(mask), "brushlabels": [class_names[k]]},
        }
        for number, (k, mask) in enumerate(regions(labels, components), 1)
    ]
    return {"model_version": model_version, "result": result}


def labelling_interface(class_names: Sequence[str]) -> str:
    """The XML of a project's labelling interface: an image, and a brush for each class."""
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name=TO, value="$image", zoom="true")
    brush = ElementTree.SubElement(view, "BrushLabels", name=FROM, toName=TO)
    for name, colour in zip(class_names, palette(len(class_names)), strict=True):
        shade = f"#{bytes(colour).hex()}"
        ElementTree.SubElement(brush, "Label", value=name, background=shade)
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def write_label_studio(
    run: StoredRun,
    folder: Path,
    image_url: str = LOCAL,
    components: bool = False,
    each: Callable[[Segmented], object] = lambda image: None,
) -> None:
    """Write ``tasks.json``, to be imported, and ``config.xml``, the labelling interface.

    Args:
        run: a stored one.
        folder: new or empty.
        image_url: put before the path of each image below the run's images, which makes the
            address by which Label Studio finds it.
        components: whether each connected part of a class is a region of its own.
        each: is called with each image that was written.

    Raises:
        UserError: the folder has files, or the run's label maps are gone.
    """
    check_folder(folder)
    with whole_folder(folder) as place:
        (place / "config.xml").write_text(labelling_interface(run.class_names), "utf-8")
        with open(place / "tasks.json", "w", encoding="utf-8") as file:
            between = "[\n"
            for image in run:
                found = prediction(image.labels, run.class_names, run.run_id, components)
                url = image.name if "://" in image.name else image_url + quote(image.name)
                data = {"image": url, "image_id": image.image_id}
                file.write(between + as_json({"data": data, "predictions": [found]}))
                between = ",\n"
                each(image)
            file.write("\n]\n")
