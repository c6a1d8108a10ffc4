"""PAMR's weights of an image's neighbours, some pixels of a row at a time, side by side in vectors.

Every pixel has 8 neighbours at each of the distances. How alike each is to the pixel is measured in
every channel in units of the deviation among the pixel and its neighbours; a softmax over all
neighbours makes weights of it (``segmentation.pamr``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sclip_core.segmentation.backends.numba_jit import Array, Floats, compiled, inlined

PIXELS = 128  # at once: what is computed of them stays in a core's first cache
THIRD = np.float32(1 / (3 * math.log(2)))  # mean over the channels, and to powers of 2


CENTRE = 4  # the pixel itself among the nine places of a distance


def bordered(image: Floats, border: int) -> Floats:
    """An image (3, H, W) with its outermost columns repeated: (3, H, border + W + border)."""
    return np.pad(image, ((0, 0), (0, 0), (border, border)), mode="edge")


def places_of(dilations: Sequence[int]) -> NDArray[np.int64]:
    """Rows and columns from a pixel to its samples, itself once a distance: (9·D, 2)."""
    nine = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return np.array([(y * d, x * d) for d in dilations for y, x in nine], np.int64)


@compiled
def weigh_rows(image: Array, places: Array, weights: Array, first: int, last: int) -> None:
    """Fill the weights of PAMR.

    Args:
        image: (3, H, border + W + border) float32, normalised, its outermost columns repeated.
        places: (9·D, 2) from ``places_of``; the farthest is ``border`` pixels away.
        weights: (H, W, 8·D), to be filled; each pixel's sum to 1.
        first: row to begin with.
        last: row to stop before.
    """
    _, width, count = weights.shape
    found, memory = np.empty((count, PIXELS), np.float32), strip_memory()
    for y in range(first, last):
        for x in range(0, width, PIXELS):
            pixels = min(PIXELS, width - x)
            weigh_strip(image, places, y, x, pixels, found, memory)
            for k in range(pixels):
                for n in range(count):
                    weights[y, x + k, n] = found[n, k]


@inlined
def strip_memory() -> tuple[Array, Array, tuple[Array, Array, Array]]:
    """What ``weigh_strip`` computes in."""
    return (
        np.empty((3, PIXELS), np.float32),
        np.empty((2, PIXELS), np.float32),
        power_buffers(PIXELS),
    )


@inlined
def weigh_strip(
    image: Array,
    places: Array,
    y: int,
    x: int,
    pixels: int,
    found: Array,
    memory: tuple[Array, Array, tuple[Array, Array, Array]],
) -> None:
    """The weights of the neighbours of some pixels of row ``y``, from ``x`` on.

    Args:
        image: as of ``weigh_rows``.
        places: as of ``weigh_rows``.
        y: the row.
        x: the first pixel.
        pixels: at most ``PIXELS``.
        found: (8·D, at least ``pixels``), to be filled.
        memory: from ``strip_memory``.
    """
    units, sums, powers = memory
    at, bottom = x + places[:, 1].max(), image.shape[1] - 1
    for c in range(3):
        _units_of(image[c], places, y, at, pixels, sums, units[c])
    n = 0
    for k in range(len(places)):
        if k % 9 == CENTRE:
            continue
        alike, row, column = found[n], min(max(y + places[k, 0], 0), bottom), at + places[k, 1]
        alike[:pixels] = 0
        for c in range(3):
            _subtract_distance(image[c, y, at:], image[c, row, column:], units[c], pixels, alike)
        n += 1
    _softmax(found, pixels, sums, powers)


@inlined
def _units_of(
    plane: Array, places: Array, y: int, at: int, pixels: int, sums: Array, unit: Array
) -> None:
    """One over a tenth of the deviation among each pixel and its neighbours in one channel.

    The pixel itself is a sample once a distance.
    """
    mean, squares = sums[0], sums[1]
    samples, bottom = np.float32(len(places)), plane.shape[0] - 1
    mean[:pixels] = 0
    squares[:pixels] = 0
    for n in range(len(places)):
        sample = plane[min(max(y + places[n, 0], 0), bottom), at + places[n, 1] :]
        for k in range(pixels):
            mean[k] += sample[k]
    for k in range(pixels):
        mean[k] *= np.float32(1) / samples
    for n in range(len(places)):
        sample = plane[min(max(y + places[n, 0], 0), bottom), at + places[n, 1] :]
        for k in range(pixels):
            squares[k] += (sample[k] - mean[k]) * (sample[k] - mean[k])
    for k in range(pixels):
        deviation = np.sqrt(squares[k] / (samples - np.float32(1)))
        unit[k] = np.float32(1) / (np.float32(1e-8) + np.float32(0.1) * deviation)


@inlined
def _subtract_distance(centre: Array, other: Array, unit: Array, pixels: int, alike: Array) -> None:
    """Subtract how far neighbours are from their pixels in one channel, in units of its own."""
    for k in range(pixels):
        alike[k] -= abs(centre[k] - other[k]) * unit[k]


@inlined
def _softmax(found: Array, pixels: int, sums: Array, powers: tuple[Array, Array, Array]) -> None:
    """Over the rows of ``found`` (n, at least ``pixels``), where it stands."""
    mantissas, exponents, bits = powers
    highest, total = sums[0], sums[1]
    for k in range(pixels):
        highest[k], total[k] = found[0, k], np.float32(0)
    for n in range(1, found.shape[0]):
        alike = found[n]
        for k in range(pixels):
            highest[k] = max(highest[k], alike[k])
    for n in range(found.shape[0]):
        alike = found[n]
        for k in range(pixels):
            split_power((alike[k] - highest[k]) * THIRD, k, mantissas, exponents)
        for k in range(pixels):
            alike[k] = mantissas[k] * bits[k]
            total[k] += alike[k]
    for k in range(pixels):
        total[k] = np.float32(1) / total[k]
    for n in range(found.shape[0]):
        alike = found[n]
        for k in range(pixels):
            alike[k] *= total[k]


@inlined
def power_buffers(count: int) -> tuple[Array, Array, Array]:
    """Buffers for ``split_power``: mantissas, exponents, and the exponents' bits as floats."""
    exponents = np.empty(count, np.int32)
    return np.empty(count, np.float32), exponents, exponents.view(np.float32)


@inlined
def split_power(x: np.float32, at: int, mantissas: Array, exponents: Array) -> None:
    """Write 2**x, x at most 0, as a product of two floats; vectorises, which ``exp`` does not.

    One is 2 to the rounded x, as the bits of a float; the other is 2 to the rest, which is at most
    a half, by its Taylor polynomial. An x below -100 counts as -100.
    """
    x = max(x, np.float32(-100.0))
    whole = np.int32(x - np.float32(0.5))  # x <= 0: rounds to the nearest
    rest = x - np.float32(whole)
    value = np.float32(1.5403530e-4)
    value = value * rest + np.float32(1.3333558e-3)
    value = value * rest + np.float32(9.6181291e-3)
    value = value * rest + np.float32(5.5504109e-2)
    value = value * rest + np.float32(2.4022651e-1)
    value = value * rest + np.float32(6.9314718e-1)
    mantissas[at] = value * rest + np.float32(1.0)
    exponents[at] = (whole + np.int32(127)) << np.int32(23)
