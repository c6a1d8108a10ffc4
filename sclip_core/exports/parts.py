"""Segmenting a raster that is too large for memory: read, segmented and written part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import ImageError, Protocol, UserError
from sclip_core.config.geometry import window_starts
from sclip_core.config.optional import optional
from sclip_core.datasets import Vocabulary
from sclip_core.datasets.depth import scaled
from sclip_core.datasets.images import Reading
from sclip_core.exports.geotiff import EXTRA, Georeference, Layout, opened
from sclip_core.exports.places import write_new
from sclip_core.model import SCLIP
from sclip_core.segmentation.pamr import receptive_field

BLOCK = 2048  # pixels, the side of a part that is written at once
CACHE = 64  # MB that GDAL keeps of tiles; its own choice is 5 % of the memory
COLOURS = ("red", "green", "blue")


class Span(NamedTuple):
    """A part of an axis: pixels that are written, and those that are read for them."""

    first: int
    stop: int
    read_from: int
    read_to: int

    @property
    def inside(self) -> slice:
        """What is written, in what is read."""
        return slice(self.first - self.read_from, self.stop - self.read_from)


def spans(size: int, protocol: Protocol, block: int = BLOCK) -> list[Span]:
    """How an axis is divided, so that the labels of each part are those of the whole.

    What is read begins and ends with a window, and the windows of it alone are windows of the
    whole: all that touch the part, and as many beyond as PAMR looks.

    Args:
        size: pixels of the axis.
        protocol: with ``tile``.
        block: pixels that are written at once.
    """
    crop = protocol.slide_crop
    starts = window_starts(size, crop, protocol.slide_stride)
    steps = protocol.pamr_steps
    halo = receptive_field(steps, protocol.pamr_dilations) if steps else 0
    found = []
    for first in range(0, size, block):
        stop = min(first + block, size)
        low, high = max(first - halo, 0), min(stop + halo, size)
        touching = [start for start in starts if start < high and start + crop > low]
        found.append(Span(first, stop, touching[0], min(touching[-1] + crop, size)))
    return found


def check_parts(protocol: Protocol) -> None:
    """See that an image can be segmented in parts by a protocol.

    Raises:
        UserError: something in it looks at the whole image.
    """
    whole = {
        "area_thd": protocol.area_thd > 0,
        "after": bool(protocol.after),
        "image_multiple": bool(protocol.image_multiple),
        "refiner": protocol.refiner != "pamr",
        "decision": protocol.decision != "argmax",
    }
    wrong = next((name for name, is_set in whole.items() if is_set), None)
    if wrong is not None:
        value = getattr(protocol, wrong)
        raise UserError(
            f"{wrong} {value} looks at the whole image, which is segmented in parts here: leave "
            "it out, or leave out --tile"
        )
    if not protocol.tile:
        raise UserError(
            "an image is segmented in parts with --tile only: without it all of it is resized first"
        )


@dataclass(frozen=True)
class Colours:
    """Reads parts of a raster as RGB."""

    raster: Any  # an opened dataset of rasterio's
    bands: tuple[int, ...]
    reading: Reading

    @classmethod
    def of(cls, raster: Any, reading: Reading) -> Colours:
        """Find the bands: red, green and blue by their names, else the first three, or grey.

        Raises:
            ImageError: values that are not 0 to 255, without a range; or indices of a palette.
        """
        names = [each.name for each in raster.colorinterp]
        if names[0] == "palette":
            raise ImageError(f"{raster.name} has a palette: convert it to RGB (gdal_translate)")
        kind = raster.dtypes[0]
        if kind != "uint8" and reading.pixel_range is None:
            raise ImageError(
                f"{raster.name} holds {kind}: which values are black and white? pass --pixel-range "
                "LOW,HIGH, so that all its parts are read alike"
            )
        if set(COLOURS) <= set(names):
            return cls(raster, tuple(names.index(name) + 1 for name in COLOURS), reading)
        return cls(raster, (1, 2, 3) if raster.count > 2 else (1, 1, 1), reading)

    def read(self, **how: Any) -> NDArray[np.uint8]:
        """Pixels (h, w, 3); ``how`` as rasterio's ``read`` takes it."""
        raw = np.ascontiguousarray(self.raster.read(self.bands, **how).transpose(1, 2, 0))
        if self.reading.pixel_range is not None and raw.dtype != np.uint8:
            return scaled(raw, self.reading.pixel_range)
        return raw


def segment_in_parts(
    model: SCLIP,
    image: Path,
    target: Path,
    vocabulary: Vocabulary,
    protocol: Protocol,
    reading: Reading | None = None,
    block: int = BLOCK,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> None:
    """Segment a raster of any size into a GeoTIFF; only a part of it is in memory.

    Pixels that the raster marks as having no data (or that its alpha hides) have none in the
    result. The labels are those of ``model.segment`` with the same protocol but for rounding; a
    method that looks beyond windows sees a part.

    Args:
        model: a loaded one.
        image: a raster that GDAL reads.
        target: the GeoTIFF; an older one is replaced.
        vocabulary: the words; its numbers are the values of the classes.
        protocol: with ``tile``.
        reading: the range of values beyond 8 bits.
        block: side of a part in pixels, a multiple of 256.
        progress: is called with the parts that are done and their number.

    Raises:
        UserError: the protocol looks at the whole image, the raster cannot be read, or rasterio is
            not installed.
    """
    check_parts(protocol)
    window = optional("rasterio.windows", EXTRA).Window
    bank = model.bank_of(vocabulary, protocol)
    with opened(image) as raster:
        colours = Colours.of(raster, reading or Reading())
        size = (raster.height, raster.width)
        place = Georeference.of(raster)
        layout = Layout(size, bank.class_names, place, vocabulary.numbers)
        down, across = (spans(side, protocol, block) for side in size)
        parts = [(y, x) for y in down for x in across]

        def pieces() -> Iterator[tuple[Any, NDArray[Any]]]:
            """Each block's window of the raster, and its values (height, width)."""
            for y, x in parts:
                width, height = x.read_to - x.read_from, y.read_to - y.read_from
                pixels = colours.read(window=window(x.read_from, y.read_from, width, height))
                labels = model.segment(pixels, bank, protocol).labels[y.inside, x.inside]
                place = window(x.first, y.first, x.stop - x.first, y.stop - y.first)
                values = layout.values(labels)
                values[raster.dataset_mask(window=place) == 0] = layout.nodata
                yield place, values

        def write(temporary: Path) -> None:
            with layout.writer(temporary) as made:
                for done, (place, values) in enumerate(pieces(), 1):
                    made.write(values, 1, window=place)
                    progress(done, len(parts))

        with optional("rasterio", EXTRA).Env(GDAL_CACHEMAX=CACHE):
            write_new(target, write)


def thumbnails(
    image: Path, labels: Path, side: int, vocabulary: Vocabulary, reading: Reading | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """A raster and its labels, made small: (h, w, 3), and (h, w) with -1 where there are none.

    Args:
        image: the raster.
        labels: its GeoTIFF of labels.
        side: pixels that the longer side has at most.
        vocabulary: the words that it was segmented with.
        reading: the range of values beyond 8 bits.
    """
    with opened(image) as raster, opened(labels) as found:
        longest = max(raster.height, raster.width)
        scale = min(1.0, side / longest)
        shape = (max(1, round(raster.height * scale)), max(1, round(raster.width * scale)))
        pixels = Colours.of(raster, reading or Reading()).read(out_shape=(3, *shape))
        values = found.read(1, out_shape=shape)
        class_of = np.full(int(found.nodata) + 1, -1, np.int32)
        class_of[list(vocabulary.numbers)] = np.arange(vocabulary.num_classes)
        return pixels, class_of[values]
