"""``sclip segment`` where the label map is a GeoTIFF: with a georeference, and in parts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flows.cli.targets import GEOTIFF, Job, save
from sclip_core.config import Settings, UserError, printable
from sclip_core.config.optional import optional

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sclip_core import SCLIP, Vocabulary

PICTURE_SIDE = 2048  # pixels of the longer side of the picture of an image that is done in parts


def is_geotiff(labels: Path | None) -> bool:
    """Whether a label map is to be a GeoTIFF."""
    return labels is not None and labels.suffix.lower() in GEOTIFF


def in_parts(settings: Settings, labels: Path | None, heat: Sequence[str]) -> bool:
    """Whether an image is read, segmented and written in parts.

    Raises:
        UserError: it would be, and something that was asked for needs the whole image; or rasterio
            is not installed.
    """
    if not is_geotiff(labels):
        return False
    optional("rasterio", "geo")
    if not settings.tile:
        return False
    from sclip_core.config.methods import reads_masks
    from sclip_core.exports.parts import check_parts

    check_parts(settings)
    if heat:
        raise UserError("--heat needs the whole image, which --tile segments in parts here")
    if settings.mode != "dense" or reads_masks(settings.method):
        raise UserError("masks are of a whole image, which --tile segments in parts here")
    return True


def segment_raster(model: SCLIP, vocabulary: Vocabulary, settings: Settings, job: Job) -> None:
    """Segment an image in parts; its picture is made of a smaller copy.

    Raises:
        UserError: the image cannot be read, or a file cannot be written.
    """
    from rich.console import Console
    from rich.progress import Progress

    from sclip_core.datasets import Reading
    from sclip_core.drawing import poster
    from sclip_core.exports.parts import segment_in_parts, thumbnails

    assert job.labels is not None
    reading = Reading.of(settings)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("parts")
        segment_in_parts(
            model,
            job.image,
            job.labels,
            vocabulary,
            settings,
            reading,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    pixels, classes = thumbnails(job.image, job.labels, PICTURE_SIDE, vocabulary, reading)
    save(poster(pixels, classes, vocabulary.class_names), job.picture)
    for path in (job.picture, job.labels):
        print(printable(str(path)))
    sys.stdout.flush()


def save_geotiff(
    labels: NDArray[np.unsignedinteger], vocabulary: Vocabulary, image: Path, target: Path
) -> None:
    """Write a label map (H, W) with the georeference of its image."""
    from sclip_core.exports.geotiff import write_labels

    write_labels(labels, vocabulary.class_names, image, target, vocabulary.numbers)
