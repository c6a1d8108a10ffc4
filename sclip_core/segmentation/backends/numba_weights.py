"""PAMR's weights of an image's neighbours, some pixels of a row at a time, side by side in vectors.

Every pixel has 8 neighbours at each of the distances. How alike each is to the pixel is measured in
every channel in units of the deviation among the pixel and its neighbours; a softmax over all
neighbours makes weights of it (``segmentation.pamr``).
"""

from __future__ import annotations

import math

import numpy as np

from sclip_core.segmentation.backends.numba_jit import (
    Array,
    Floats,
    compiled,
    inlined,
    power_buffers,
    split_power,
)

PIXELS = 128  # at once: what is computed of them stays in a core's first cache
THIRD = np.float32(1 / (3 * math.log(2)))  # mean over the channels, and to powers of 2


def bordered(image: Floats, border: int) -> Floats:
    """An image (3, H, W) with its outermost columns repeated: (3, H, border + W + border)."""
    return np.pad(image, ((0, 0), (0, 0), (border, border)), mode="edge")


@compiled
def weigh_rows(image: Array, dilations: Array, weights: Array, first: int, last: int) -> None:
    """Fill the weights of PAMR.

    Args:
        image: (3, H, border + W + border) float32, normalised, its outermost columns repeated.
        dilations: (D,) distances in pixels, the largest of which is ``border``.
        weights: (H, W, 8·D), to be filled; each pixel's sum to 1.
        first: row to begin with.
        last: row to stop before.
    """
    _, width, count = weights.shape
    found, memory = np.empty((count, PIXELS), np.float32), strip_memory()
    for y in range(first, last):
        for x in range(0, width, PIXELS):
            pixels = min(PIXELS, width - x)
            weigh_strip(image, dilations, y, x, pixels, found, memory)
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
    dilations: Array,
    y: int,
    x: int,
    pixels: int,
    found: Array,
    memory: tuple[Array, Array, tuple[Array, Array, Array]],
) -> None:
    """The weights of the neighbours of some pixels of row ``y``, from ``x`` on.

    Args:
        image: as of ``weigh_rows``.
        dilations: as of ``weigh_rows``.
        y: the row.
        x: the first pixel.
        pixels: at most ``PIXELS``.
        found: (8·D, at least ``pixels``), to be filled.
        memory: from ``strip_memory``.
    """
    units, sums, powers = memory
    at = x + max(dilations)
    for c in range(3):
        _units_of(image[c], dilations, y, at, pixels, sums, units[c])
    n = 0
    for d in dilations:
        for dy in range(-1, 2):
            row = min(max(y + dy * d, 0), image.shape[1] - 1)
            for dx in range(-1, 2):
                if dy != 0 or dx != 0:
                    for k in range(pixels):
                        found[n, k] = np.float32(0)
                    for c in range(3):
                        centre, other = image[c, y, at:], image[c, row, at + dx * d :]
                        _subtract_distance(centre, other, units[c], pixels, found[n])
                    n += 1
    _softmax(found, pixels, sums, powers)


@inlined
def _units_of(
    plane: Array, dilations: Array, y: int, at: int, pixels: int, sums: Array, unit: Array
) -> None:
    """One over a tenth of the deviation among each pixel and its neighbours in one channel.

    The pixel itself is a sample once a distance.
    """
    mean, squares = sums[0], sums[1]
    samples = np.float32(9 * len(dilations))
    for k in range(pixels):
        mean[k] = squares[k] = np.float32(0)
    for d in dilations:
        for dy in range(-1, 2):
            row = min(max(y + dy * d, 0), plane.shape[0] - 1)
            for dx in range(-1, 2):
                other = plane[row, at + dx * d :]
                for k in range(pixels):
                    mean[k] += other[k]
    for k in range(pixels):
        mean[k] *= np.float32(1) / samples
    for d in dilations:
        for dy in range(-1, 2):
            row = min(max(y + dy * d, 0), plane.shape[0] - 1)
            for dx in range(-1, 2):
                other = plane[row, at + dx * d :]
                for k in range(pixels):
                    squares[k] += (other[k] - mean[k]) * (other[k] - mean[k])
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
