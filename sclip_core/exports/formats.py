"""The formats by name, with which options each one reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

from sclip_core.config import UserError, unknown
from sclip_core.exports.coco import write_coco
from sclip_core.exports.fiftyone import write_fiftyone
from sclip_core.exports.geotiff import write_geotiffs
from sclip_core.exports.hugging_face import write_dataset
from sclip_core.exports.label_studio import LOCAL, write_label_studio
from sclip_core.exports.places import check_file, check_folder
from sclip_core.exports.png import write_png
from sclip_core.exports.polygons import write_geojson
from sclip_core.exports.stored import Segmented, StoredRun

FARTHEST = 10_000  # pixels by which a polygon may leave the edges
Each = Callable[[Segmented], object]


@dataclass(frozen=True)
class Options:
    """What can be chosen of an export.

    Attributes:
        components: an annotation for each connected part of a class; else one for each class.
        simplify: pixels by which polygons may leave the pixel edges.
        values: what stands for a class in a PNG: ``dataset``, ``classes``, ``label-ids``.
        with_images: whether the images themselves are in the export.
        image_url: what is put before an image's path, so that Label Studio finds it.
    """

    components: bool = False
    simplify: float = 0.0
    values: str = "dataset"
    with_images: bool = False
    image_url: str = LOCAL


class Format(NamedTuple):
    """One format."""

    ending: str  # of the file; "": a folder
    reads: tuple[str, ...]  # of ``Options``
    write: Callable[[StoredRun, Path, Options, Each], None]


def _coco(run: StoredRun, path: Path, options: Options, each: Each) -> None:
    write_coco(run, path, options.components, each=each)


def _polygons(run: StoredRun, path: Path, options: Options, each: Each) -> None:
    write_coco(run, path, options.components, True, options.simplify, each)


def _geojson(run: StoredRun, path: Path, options: Options, each: Each) -> None:
    write_geojson(run, path, options.components, options.simplify, each)


def _png(run: StoredRun, path: Path, options: Options, each: Each) -> None:
    write_png(run, path, options.values, each)


def _hugging_face(run: StoredRun, path: Path, options: Options, each: Each) -> None:
    write_dataset(run, path, options.with_images, each)


def _label_studio(run: StoredRun, path: Path, options: Options, each: Each) -> None:
    write_label_studio(run, path, options.image_url, options.components, each)


def _geotiff(run: StoredRun, path: Path, options: Options, each: Each) -> None:
    write_geotiffs(run, path, each)


def _fiftyone(run: StoredRun, path: Path, options: Options, each: Each) -> None:
    write_fiftyone(run, path, options.with_images, each)


FORMATS: Mapping[str, Format] = {
    "coco": Format(".json", ("components",), _coco),
    "polygons": Format(".json", ("components", "simplify"), _polygons),
    "geojson": Format(".geojson", ("components", "simplify"), _geojson),
    "png": Format("", ("values",), _png),
    "hugging-face": Format("", ("with_images",), _hugging_face),
    "geotiff": Format("", (), _geotiff),
    "fiftyone": Format("", ("with_images",), _fiftyone),
    "label-studio": Format("", ("components", "image_url"), _label_studio),
}


def check_export(format: str, path: Path, options: Options) -> None:
    """Refuse what cannot be written, before a run is opened.

    Raises:
        UserError: an unknown format, an option that it does not read, or a place that is taken.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    chosen = FORMATS[format]
    usual = Options()
    for name in (field.name for field in fields(Options)):
        if getattr(options, name) != getattr(usual, name) and name not in chosen.reads:
            known = ", ".join(key for key, each in FORMATS.items() if name in each.reads)
            flag = name.replace("_", "-")
            raise UserError(f"--{flag} is for the formats {known}: {format} does not read it")
    if not 0 <= options.simplify <= FARTHEST:
        raise UserError(f"--simplify {options.simplify:g}: expected 0 to {FARTHEST:,} pixels")
    if chosen.ending:
        check_file(path, chosen.ending)
    else:
        check_folder(path)


def export(
    run: StoredRun,
    format: str,
    path: Path,
    options: Options | None = None,
    each: Each = lambda image: None,
) -> None:
    """Write the label maps of a run in a format.

    Args:
        run: a stored one.
        format: a name of ``FORMATS``.
        path: the file or folder, which is not there yet.
        options: what can be chosen.
        each: is called with each image that was written.

    Raises:
        UserError: an unknown format, an option that it does not read, a place that is taken, label
            maps that are gone, or a library that is not installed.
    """
    options = options or Options()
    check_export(format, path, options)
    FORMATS[format].write(run, path, options, each)
