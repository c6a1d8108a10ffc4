"""A colour for every class: the same one whatever the number of classes."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST = 65_536  # classes of a uint16 label map
SPREAD = 256  # classes whose colours are chosen far apart; later ones are only distinct

# Chosen by eye for the first classes: far apart, none dark, none grey.
FIRST = bytes.fromhex(
    "1f77d0 ff8c1a 2ca84a d62f3c 9b5fd0 17bfc4 f2d024 e45fb4 8c5a3c a4d43a"
    "6a6f0c ffb99a 0e7a5f 8fd0ff 4a35a0 ff6b78 b8860b 9c1452 9be8b5 d9a6f0"
)


def palette(n: int) -> NDArray[np.uint8]:
    """Distinct colours; ``palette(n)`` begins like ``palette(m)``, so a class keeps its colour.

    Args:
        n: number of classes, up to 65,536.

    Returns:
        (n, 3) uint8 RGB, read-only.

    Raises:
        ValueError: n is outside 0..65,536.

    >>> palette(2).tolist()
    [[31, 119, 208], [255, 140, 26]]
    """
    if not 0 <= n <= MOST:
        raise ValueError(f"palette of {n} colours: expected 0..{MOST}")
    return _table()[:n]


@cache
def _table() -> NDArray[np.uint8]:
    pool = _vivid_colours()
    chosen = np.frombuffer(FIRST, np.uint8).reshape(-1, 3)
    chosen = _spread(chosen, pool[:8192], SPREAD)
    left = pool[~np.isin(_code(pool), _code(chosen))]
    table = np.concatenate([chosen, left])[:MOST]
    table.flags.writeable = False
    return table


def _vivid_colours() -> NDArray[np.uint8]:
    """(m, 3) colours, all different, neither dark nor pale nor grey, in a scattered order."""
    # An odd factor makes this a permutation of the 24-bit colours, so none comes twice.
    codes = np.arange(1 << 18, dtype=np.int64) * 0x9E3779 % (1 << 24)
    colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1)
    lightness, *_ = _perceived(colours).T
    vivid = (lightness > 0.42) & (lightness < 0.92) & (np.ptp(colours, axis=1) > 70)
    return np.asarray(colours[vivid], np.uint8)


def _spread(chosen: NDArray[np.uint8], pool: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Add, one by one, the colour of the pool that is farthest from all those chosen."""
    places, taken = _perceived(pool), list(chosen)
    nearest = ((places[:, None] - _perceived(chosen)) ** 2).sum(2).min(1)
    while len(taken) < count:
        best = int(nearest.argmax())
        taken.append(pool[best])
        nearest = np.minimum(nearest, ((places - places[best]) ** 2).sum(1))
    return np.stack(taken)


def _perceived(rgb: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """OKLab coordinates (Ottosson 2020), where distances follow perception: (m, 3)."""
    linear = (rgb / 255.0) ** 2.2
    to_cones = [[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]]
    to_lab = [[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]
    lab: NDArray[np.float64] = np.cbrt(linear @ np.transpose(to_cones)) @ np.transpose(to_lab)
    return lab


def _code(rgb: NDArray[np.uint8]) -> NDArray[np.int64]:
    """One number for each colour: (m,)."""
    return np.asarray(rgb.astype(np.int64) @ [1 << 16, 1 << 8, 1], np.int64)
