"""Label maps as GeoTIFF with the georeference of their image, whole or in parts.

An image that is too large for memory is segmented in parts: with ``tile`` the windows lie on a grid
over the image at its own resolution, so that a part with all the windows that touch it, and with
the pixels that PAMR looks at, has the labels that it would have in the whole image.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import ImageError
from sclip_core.config.optional import optional
from sclip_core.config.places import ObjectPath, Place
from sclip_core.datasets.images import read_sample
from sclip_core.drawing.colours import palette
from sclip_core.exports.places import check_folder, file_in, whole_folder, write_new
from sclip_core.exports.png import Values, as_values
from sclip_core.exports.stored import Segmented, StoredRun

EXTRA = "geo"
TILE = 256  # pixels, the side of a tile in the file


class Georeference(NamedTuple):
    """Where the pixels of a raster lie on the ground."""

    crs: Any  # rasterio's CRS, or None
    transform: Any  # from column and row to coordinates
    gcps: tuple[Any, Any]  # ground control points and their CRS, where there is no transform

    @classmethod
    def of(cls, raster: Any) -> Georeference:
        """Of an opened dataset of rasterio's."""
        return cls(raster.crs, raster.transform, raster.gcps)


@dataclass(frozen=True)
class Layout:
    """How a GeoTIFF of labels is laid out.

    Attributes:
        size: (height, width) in pixels.
        class_names: by class.
        place: None: there is no georeference.
        numbers: the value of each class; none: k of class k.
    """

    size: tuple[int, int]
    class_names: Sequence[str]
    place: Georeference | None = None
    numbers: Sequence[int] = ()

    @property
    def table(self) -> NDArray[np.int64]:
        """The value of each class."""
        return np.asarray(self.numbers or range(len(self.class_names)), np.int64)

    @property
    def dtype(self) -> str:
        """Of the values: the highest is kept for "no data"."""
        return "uint8" if self.table.max() < 255 else "uint16"

    @property
    def nodata(self) -> int:
        """The value of a pixel without a class."""
        return int(np.iinfo(self.dtype).max)

    def values(self, labels: NDArray[np.integer[Any]]) -> Values:
        """Labels (H, W) as the values of the file; what is no class becomes ``nodata``."""
        is_known = (labels >= 0) & (labels < len(self.class_names))
        known = np.where(is_known, labels.astype(np.int64), -1)
        return as_values(known, self.table.astype(self.dtype), self.nodata)

    @contextmanager
    def writer(self, path: Path) -> Iterator[Any]:
        """A dataset of rasterio's to write values to, tiled and compressed.

        The names of the classes are tags of the band, ``CLASS_0``, ``CLASS_1``, ...; their colours
        its colour table, those of all pictures here.
        """
        rasterio = optional("rasterio", EXTRA)
        height, width = self.size
        shape = {"height": height, "width": width, "count": 1}
        form: dict[str, Any] = {"compress": "deflate", "BIGTIFF": "IF_SAFER"}
        form |= {"tiled": True, "blockxsize": TILE, "blockysize": TILE}
        with _quietly(), rasterio.open(
            path, "w", driver="GTiff", dtype=self.dtype, nodata=self.nodata, **shape, **form
        ) as raster:  # fmt: skip
            if self.place is not None:
                self._lay(raster, self.place)
            raster.set_band_description(1, "class")
            values = self.table.tolist()
            names = zip(values, self.class_names, strict=True)
            raster.update_tags(1, **{f"CLASS_{value}": name for value, name in names})
            colours = zip(values, palette(len(values)).tolist(), strict=True)
            raster.write_colormap(1, {value: (*colour, 255) for value, colour in colours})
            yield raster

    @staticmethod
    def _lay(raster: Any, place: Georeference) -> None:
        points, crs = place.gcps
        if points:
            raster.gcps = (points, crs)
            return
        if place.crs is not None:
            raster.crs = place.crs
        if not place.transform.is_identity:
            raster.transform = place.transform


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the warning that a raster has no georeference."""
    unplaced = optional("rasterio.errors", EXTRA).NotGeoreferencedWarning
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", unplaced)
        yield


@contextmanager
def opened(file: Place) -> Iterator[Any]:
    """An image as a dataset of rasterio's.

    Raises:
        ImageError: GDAL does not read it.
        UserError: rasterio is not installed.
    """
    rasterio = optional("rasterio", EXTRA)
    errors = optional("rasterio.errors", EXTRA)
    with _quietly():
        try:
            if isinstance(file, ObjectPath):
                with rasterio.MemoryFile(read_sample(file)) as memory, memory.open() as raster:
                    yield raster
            else:
                with rasterio.open(file) as raster:
                    yield raster
        except errors.RasterioIOError as error:
            raise ImageError(
                f"{file} cannot be read by GDAL: {' '.join(str(error).split())}"
            ) from None


def georeference(file: Place, size: tuple[int, int]) -> Georeference | None:
    """The georeference of an image; None: it has none, or is of no format that GDAL reads.

    Args:
        file: the image.
        size: (height, width) of its label map.

    Raises:
        ImageError: the image was turned by its tag, so that its georeference is not that of the
            label map.
    """
    try:
        with opened(file) as raster:
            place, shape = Georeference.of(raster), (raster.height, raster.width)
    except ImageError:
        return None
    if place.crs is None and place.transform.is_identity and not place.gcps[0]:
        return None
    if shape != size:
        raise ImageError(
            f"{file} is turned by its orientation tag, and its georeference is of the pixels as "
            "they are stored: pass --exif ignore"
        )
    return place


def write_labels(
    labels: NDArray[np.integer[Any]],
    class_names: Sequence[str],
    image: Place,
    target: Path,
    numbers: Sequence[int] = (),
) -> None:
    """Write a label map as GeoTIFF, with the georeference of its image if there is one.

    Args:
        labels: (H, W) classes; what is no class has no data.
        class_names: by class.
        image: that was segmented.
        target: the file; an older one is replaced.
        numbers: the value of each class; none: k of class k.

    Raises:
        UserError: rasterio is not installed, or the file cannot be written.
    """
    size = (labels.shape[0], labels.shape[1])
    layout = Layout(size, class_names, georeference(image, size), numbers)

    def write(temporary: Path) -> None:
        with layout.writer(temporary) as raster:
            raster.write(layout.values(labels), 1)

    write_new(target, write)


def write_geotiffs(
    run: StoredRun, folder: Path, each: Callable[[Segmented], object] = lambda image: None
) -> None:
    """Write the label maps of a run as ``ID.tif``, those of georeferenced images with theirs.

    Args:
        run: a stored one.
        folder: new or empty.
        each: is called with each image that was written.

    Raises:
        UserError: rasterio is not installed, the folder has files, or label maps are gone.
    """
    check_folder(folder)
    optional("rasterio", EXTRA)
    with whole_folder(folder) as place:
        for image in run:
            target = file_in(place, image.image_id, ".tif")
            write_labels(image.labels, run.class_names, image.file, target)
            each(image)
