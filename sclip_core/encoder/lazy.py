"""Windows of a large image, made only when a pass through the tower needs them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from sclip_core.config import Geometry
from sclip_core.encoder.pixels import normalise

MOST_AT_ONCE = 256  # windows that are made together without a thought: 150 MB of 224 pixels


@dataclass(frozen=True)
class LazyWindows:
    """What ``cut_windows`` gives, slice by slice.

    All windows of a picture of 10,000 pixels overlap to 5 GB, and its bytes are 300 MB.
    """

    image: NDArray[np.uint8]  # (h, w, 3) RGB, as large as the windows are cut from
    geometry: Geometry
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(windows, 3, height, width)."""
        return (len(self), 3, *self.geometry.frame)

    def __len__(self) -> int:
        """The number of windows."""
        return self.geometry.num_windows

    def __getitem__(self, part: slice) -> Tensor:
        """Some windows (n, 3, height, width), float32, normalised and padded."""
        geometry = self.geometry
        height, width = geometry.window
        top, bottom, left, right = geometry.padding
        made = []
        for number in range(*part.indices(len(self))):
            row, column = divmod(number, len(geometry.lefts))
            y, x = geometry.tops[row], geometry.lefts[column]
            made.append(normalise(self.image[y : y + height, x : x + width], self.mean, self.std))
        return pad(torch.stack(made), (left, right, top, bottom))

    def split(self, size: int) -> Iterator[Tensor]:
        """All windows, so many at a time."""
        return (self[start : start + size] for start in range(0, len(self), size))


def is_worthwhile(geometry: Geometry) -> bool:
    """Whether the windows are too many to be made at once; only a tiled image has so many."""
    return geometry.num_windows > MOST_AT_ONCE and geometry.enlarged_from is None
