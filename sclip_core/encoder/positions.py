"""Position tables of image towers on other patch grids than the one they were trained on."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import interpolate

REMEMBERED = 16  # resized position tables: one for each shape of image would fill a GPU


def resize_positions(
    table: Tensor, native: tuple[int, int], grid: tuple[int, int], prefix: int = 1
) -> Tensor:
    """Resize a position table to another patch grid: docs/protocol.md, section 3.

    The 0.1 keeps the size from being rounded down. It enters the sampling coordinates too, because
    PyTorch is given the scale, not the size.

    Args:
        table: (prefix + rows·columns, width), CLS first, for the native grid.
        native: rows and columns of the table; equal in all of OpenAI's models.
        grid: rows and columns of the result.
        prefix: rows of the table that belong to no patch, such as that of CLS.

    Returns:
        (prefix + rows·columns, width) in the table's dtype, computed in float32.
    """
    planes = _planes(table[prefix:], native)
    scale = ((grid[0] + 0.1) / native[0], (grid[1] + 0.1) / native[1])
    resized = interpolate(planes, scale_factor=scale, mode="bicubic", recompute_scale_factor=False)
    if resized.shape[-2:] != grid:
        raise AssertionError(f"positions of {tuple(resized.shape[-2:])}, wanted {grid}")
    return torch.cat([table[:prefix], resized[0].flatten(1).T.to(table.dtype)])


def antialiased_positions(
    table: Tensor, native: tuple[int, int], grid: tuple[int, int], prefix: int = 1
) -> Tensor:
    """Resize a position table as open_clip does, by its size: docs/methods.md, GEM.

    Arguments and result as of ``resize_positions``.
    """
    planes = _planes(table[prefix:], native)
    resized = interpolate(planes, size=grid, mode="bicubic", antialias=True)
    return torch.cat([table[:prefix], resized[0].flatten(1).T.to(table.dtype)])


def _planes(patches: Tensor, native: tuple[int, int]) -> Tensor:
    """A position table without CLS as an image: (1, width, rows, columns) float32."""
    return patches.float().reshape(1, *native, -1).permute(0, 3, 1, 2)


# By name: what the protocol's reference does, and what open_clip does.
POSITIONS = {"reference": resize_positions, "antialiased": antialiased_positions}


class PositionTable:
    """The learned positions of a tower, resized by a rule unless that takes them as they are."""

    def __init__(self, table: Callable[[], Tensor], native: tuple[int, int], prefix: int) -> None:
        """Wrap a table.

        Args:
            table: gives it, (prefix + rows·columns, width).
            native: its rows and columns.
            prefix: rows of the table that belong to no patch.
        """
        self._table, self._native, self._prefix = table, native, prefix
        self.resized = lru_cache(maxsize=REMEMBERED)(self._resize)

    def of(self, grid: tuple[int, int], rule: str) -> Tensor:
        """The table (prefix + rows·columns, width) of a grid, by a rule of ``POSITIONS``."""
        table = self._table()
        # The reference looks at the number of tokens, not at the shape.
        same = rule == "reference" and self._prefix + grid[0] * grid[1] == len(table)
        return table if same or grid == self._native else self.resized(rule, grid)

    def _resize(self, rule: str, grid: tuple[int, int]) -> Tensor:
        return POSITIONS[rule](self._table(), self._native, grid, self._prefix)
