"""Many digests in little memory: 32 bytes each, where their 64 hex digits as text take 113."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, overload

import numpy as np
from numpy.typing import NDArray

BYTES = 32  # of a sha256
DIGEST = np.dtype("V32")


class Hex(Sequence[str]):
    """Digests, or several that a colon joins, as text of hex digits; they are kept as bytes."""

    BLOCK: ClassVar[int] = 2**14
    """How many become text, or are looked up, at once."""

    def __init__(self, *parts: NDArray[Any]) -> None:
        """Take the digests.

        Args:
            parts: (N,) digests of 32 bytes each, whose texts a colon joins.
        """
        self.parts = parts

    def __len__(self) -> int:
        """How many there are."""
        return len(self.parts[0])

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> Hex: ...
    def __getitem__(self, at: int | slice) -> str | Hex:
        """One, or some of them."""
        if isinstance(at, slice):
            return Hex(*(part[at] for part in self.parts))
        return ":".join(part[at].tobytes().hex() for part in self.parts)

    def __iter__(self) -> Iterator[str]:
        """All, in order."""
        for first in range(0, len(self), self.BLOCK):
            yield from self._texts(slice(first, first + self.BLOCK))

    def __eq__(self, other: object) -> bool:
        """Whether the others are the same texts in the same order."""
        return isinstance(other, (Hex, list, tuple)) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def taken(self, at: NDArray[Any]) -> Hex:
        """Those at some positions."""
        return Hex(*(part[at] for part in self.parts))

    def joined(self, other: Hex) -> Hex:
        """Each with that of another column after a colon."""
        return Hex(*self.parts, *other.parts)

    def unique(self) -> Hex:
        """Each once, where it is first."""
        beginnings = np.sort(_as(self.parts[0], "<i8")[:, 0])
        if not (beginnings[1:] == beginnings[:-1]).any():
            return self
        _, first = np.unique(self._bytes(), return_index=True)
        return self if len(first) == len(self) else self.taken(np.sort(first))

    def rows(self, at: slice, before: bytes) -> NDArray[np.uint8]:
        """Bytes of some: (n, parts · 33), each digest after a byte."""
        columns = []
        for part in self.parts:
            some = _as(part[at], "u1")
            columns += [np.full((len(some), 1), before[0], np.uint8), some]
        return np.concatenate(columns, axis=1)

    def _bytes(self) -> NDArray[Any]:
        """Of each all bytes, as one value that can be sorted."""
        joined = [_as(part, "u1") for part in self.parts]
        every = np.ascontiguousarray(np.concatenate(joined, axis=1))
        return every.view(f"V{every.shape[1]}").reshape(-1)

    def _texts(self, at: slice) -> list[str]:
        parts = []
        for part in self.parts:
            text = np.ascontiguousarray(part[at]).tobytes().hex()
            parts.append([text[i : i + 2 * BYTES] for i in range(0, len(text), 2 * BYTES)])
        return parts[0] if len(parts) == 1 else list(map(":".join, zip(*parts, strict=True)))


def _as(digests: NDArray[Any], kind: str) -> NDArray[Any]:
    """The bytes of digests as numbers, a row each."""
    columns = BYTES // np.dtype(kind).itemsize  # not -1, which nothing follows from without rows
    return np.ascontiguousarray(digests).view(kind).reshape(len(digests), columns)
