"""What methods read of CLIP's image tower: outputs of its blocks, and means of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Tap(NamedTuple):
    """The mean of the outputs H_first … H_last of the tower's blocks; of one where they are equal.

    H_l is what block l, counted from 1, gives, and what the next one reads: ``Tap(11, 11)`` is the
    input of the last of 12 blocks, ``Tap(0, 0)`` that of the first, after ln_pre.
    """

    first: int
    last: int

    @classmethod
    def of(cls, block: int) -> Tap:
        """The output of one block, counted from 1."""
        return cls(block, block)

    def __str__(self) -> str:
        """``h11``, or ``h6-10`` for a mean."""
        return f"h{self.first}" if self.first == self.last else f"h{self.first}-{self.last}"


class Taken:
    """Collects the taps of one pass; what a block overwrites is copied."""

    def __init__(self, wanted: Iterable[Tap]) -> None:
        """Nothing has been taken yet."""
        self.wanted = tuple(dict.fromkeys(wanted))
        self._sums: dict[Tap, Tensor] = {}

    @property
    def last(self) -> int:
        """The last block that has to be run, counted from 1."""
        return max((tap.last for tap in self.wanted), default=0)

    def add(self, block: int, x: Tensor) -> None:
        """Take note of the output of a block, counted from 1; 0: what the first one reads."""
        for tap in self.wanted:
            if tap.first <= block <= tap.last:
                single = tap.first == tap.last
                value = x if single else x.float()  # a sum of halves would round
                self._sums[tap] = self._sums[tap] + value if tap in self._sums else value.clone()

    def of(self, dtype: torch.dtype) -> dict[Tap, Tensor]:
        """The taps, each (B, 1+N, width) with CLS first."""
        return {
            tap: (self._sums[tap] / (tap.last - tap.first + 1)).to(dtype)
            if tap.first != tap.last
            else self._sums[tap]
            for tap in self.wanted
        }


def union(taps: Iterable[Sequence[Tap]]) -> tuple[Tap, ...]:
    """All taps of several methods, each once, in order."""
    return tuple(sorted({tap for of_one in taps for tap in of_one}))
