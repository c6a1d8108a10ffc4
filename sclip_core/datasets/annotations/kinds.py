"""What the files of a folder are, judged by what is at their beginning and end."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from sclip_core.config import UserError
from sclip_core.config.errors import few
from sclip_core.datasets.annotations.yolo import looks_like_yolo
from sclip_core.datasets.annotations.yolo_names import is_names_file
from sclip_core.datasets.samples import by_suffix, files_of

LOOK_AT = 20  # files of a folder that are read to recognise the format
PEEK = 1 << 16  # bytes of a file's beginning and of its end
COCO_KEYS = (b'"images"', b'"annotations"', b'"categories"')  # two of them
COCO_NAME = re.compile("coco|instances|annotations|panoptic", re.IGNORECASE)  # in a file's name
LABELME_KEYS = (b'"shapes"', b'"imagePath"')  # one of them
EXPORT = "export its annotations as COCO (instances) or as label maps"
# Words of other tools' files, with what a user can do.
OTHERS = {
    rb"<image\s[^>]*\bid=.*<(polygon|box|mask|polyline)\b": f"it is CVAT's own XML: {EXPORT}",
    rb"<bndbox>": "it is Pascal VOC's XML, which has boxes alone: label maps are needed",
    rb'"(brushlabels|polygonlabels|rectanglelabels|from_name)"': f"it is of Label Studio: {EXPORT}",
    rb'"(shape_attributes|_via_settings)"': f"it is of the VGG Image Annotator: {EXPORT}",
    rb'"classTitle"': f"it is of Supervisely: {EXPORT}",
    rb'\A\s*\[\s*\{(?=.*"image_id"\s*:)(?=.*"category_id"\s*:).*"score"\s*:': (
        "it has predictions (COCO results), no ground truth: pass the file of instances that they "
        "were made for"
    ),
    rb'"captions?"\s*:': "it has captions, no shapes: pass the file of instances",
}


class Kinds(NamedTuple):
    """The files of a folder that may be annotations."""

    coco: list[Path]
    pages: dict[str, Path]  # other JSON files, by image id: LabelMe's
    texts: dict[str, Path]  # by image id: YOLO's
    labelme: bool  # whether some of the pages are for certain
    yolo: bool  # whether some of the texts are, in all likelihood
    advice: str | None  # what to do with files of another tool


def kinds_of(folder: Path) -> Kinds:
    """Sort out the files of a folder and its subfolders.

    Raises:
        UserError: the folder cannot be listed, or two files have the same id.
    """
    if not by_suffix(folder, (".json", ".txt", ".xml")):
        return Kinds([], {}, {}, False, False, None)
    pages = files_of(folder, (".json",))
    texts = {i: path for i, path in files_of(folder, (".txt",)).items() if not is_names_file(path)}
    first = dict(islice(pages.items(), LOOK_AT))
    sought = first | {i: path for i, path in pages.items() if COCO_NAME.search(path.name)}
    coco = {i: path for i, path in sought.items() if is_coco(path)}
    rest = {i: path for i, path in pages.items() if i not in coco}
    strange = [*first.values(), *islice(files_of(folder, (".xml",)).values(), 1)]
    advices = (advice_on(path) for path in strange)
    return Kinds(
        _wanted([*coco.values()]),
        rest,
        texts,
        any(_has(path, LABELME_KEYS) for path in islice(rest.values(), LOOK_AT)),
        any(looks_like_yolo(path) for path in islice(texts.values(), LOOK_AT)),
        next((advice for advice in advices if advice), None),
    )


def only_coco(found: list[Path], folder: Path) -> Path:
    """The COCO file of a folder.

    Raises:
        UserError: it has several.
    """
    if len(found) > 1:
        names = few([path.relative_to(folder) for path in found])
        raise UserError(f"{folder} holds {len(found)} COCO files: {names}; pass one of them")
    return found[0]


def is_coco(path: Path) -> bool:
    """Whether a file is one of COCO, by its keys."""
    return _has(path, COCO_KEYS, 2) and not _has(path, LABELME_KEYS)


def advice_on(path: Path) -> str | None:
    """What to do with a file of a tool whose files are not read; None: it is not known as one."""
    peek = _peek(path)
    return next((OTHERS[words] for words in OTHERS if re.search(words, peek, re.DOTALL)), None)


def _wanted(found: list[Path]) -> list[Path]:
    """Of COCO's own folder, with captions and key points, the instances."""
    instances = [path for path in found if path.name.startswith("instances")]
    return instances if len(instances) == 1 else found


def _has(path: Path, keys: tuple[bytes, ...], least: int = 1) -> bool:
    peek = _peek(path)
    return sum(re.search(key + rb"\s*:", peek) is not None for key in keys) >= least


def _peek(path: Path) -> bytes:
    """The beginning and the end of a file; nothing if it cannot be read."""
    try:
        with path.open("rb") as file:
            start = file.read(PEEK)
            size = file.seek(0, 2)
            file.seek(max(len(start), size - PEEK))
            return start + file.read()
    except OSError:
        return b""
