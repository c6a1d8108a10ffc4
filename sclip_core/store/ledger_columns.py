"""The rows of a ledger as columns: about 70 bytes a row, where a Python object takes 700."""

from __future__ import annotations

import json
import zlib
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sclip_core.store.hex_columns import Hex

DIGEST = 64  # hex digits of a sha256, which are kept as its 32 bytes
PLAIN, PACKED = b"t", b"d"  # how the bytes of an id begin
BLOCK = 65_536  # rows that become Python objects at once
NUMBERS = {"start": "int64", "stop": "int64", "crc": "uint32", "place": "int32", "meta": "int32"}
INDEX = {"hash": "uint32", "position": "uint32"}  # by hash, in ascending order
Place = tuple[str, str, int, int]  # id, segment, start, stop


@dataclass(frozen=True, slots=True)
class Row:
    """Where the data of one image (or word) lies."""

    id: str  # digest of the file's bytes; for the text bank, the word
    start: int  # range in the segment's first axis
    stop: int
    crc: int  # CRC-32 of the row's bytes
    meta: dict[str, Any] = field(default_factory=dict)  # small facts, e.g. the image's size
    segment: str = ""
    chunk: int | None = None  # values of the first axis in a chunk; None: as version 0.1.0 wrote

    @property
    def place(self) -> Place:
        """Where the row lies, which differs between two computations of the same row."""
        return (self.id, self.segment, self.start, self.stop)


class Unfit(Exception):
    """A row that the columns cannot hold, which no version writes."""


@dataclass(frozen=True)
class Columns:
    """Rows in order, each id once; nothing of it is ever changed.

    Attributes:
        ids: ``packed`` ids, as Arrow's large_binary.
        numbers: by the names of ``NUMBERS``; ``place`` and ``meta`` are indices of the lists below.
        index: by the names of ``INDEX``: hashes of the packed ids, sorted, and where these are.
        places: segments, each with the length of its chunks.
        metas: the ``meta`` of rows as JSON, each text once.
    """

    ids: Any
    numbers: Mapping[str, NDArray[Any]]
    index: Mapping[str, NDArray[np.uint32]]
    places: Sequence[tuple[str, int | None]]
    metas: Sequence[str]

    def __post_init__(self) -> None:
        """Make what single look-ups read available without Arrow's and numpy's objects."""
        _, ends, data = self.ids.buffers()
        views = {
            "_ends": memoryview(ends or bytes(8)).cast("B")[: 8 * (len(self.ids) + 1)].cast("q"),
            "_data": memoryview(data or b"").cast("B"),
            "_hashes": self.index["hash"].data,
            "_positions": self.index["position"].data,
        }
        for name, view in views.items():
            object.__setattr__(self, name, view)

    @classmethod
    def empty(cls) -> Columns:
        """No rows."""
        numbers = {name: np.empty(0, dtype) for name, dtype in NUMBERS.items()}
        index = {name: np.empty(0, np.uint32) for name in INDEX}
        return cls(pa.array([], pa.large_binary()), numbers, index, (), ())

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.ids)

    def find(self, row_id: str) -> int | None:
        """The position of a row; None if there is none."""
        if not len(self):
            return None
        key = packed(row_id)
        wanted = zlib.crc32(key)
        hashes: Any = self._hashes  # type: ignore[attr-defined]
        at = bisect_left(hashes, wanted)
        while at < len(hashes) and hashes[at] == wanted:
            position: int = self._positions[at]  # type: ignore[attr-defined]
            if self._key(position) == key:
                return position
            at += 1
        return None

    def find_many(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """The position of each row; -1 for those that are not there."""
        if isinstance(ids, Hex):
            blocks = range(0, len(ids), ids.BLOCK)
            found = [self._find_hex(ids[begin : begin + ids.BLOCK]) for begin in blocks]
            return np.concatenate([np.empty(0, np.int64), *found])
        keys = [
            pa.array(list(map(packed, ids[begin : begin + BLOCK])), pa.large_binary())
            for begin in range(0, len(ids), BLOCK)
        ]
        several = pa.chunked_array(keys, pa.large_binary())
        at = pc.index_in(several, value_set=self.ids).fill_null(-1).to_numpy()
        return np.asarray(at, np.int64)

    def _find_hex(self, ids: Hex) -> NDArray[np.int64]:
        """The same of digests, by the index alone: it needs no table of all ids."""
        keys = ids.rows(slice(None), PACKED)
        count, width = keys.shape
        found = np.full(count, -1, np.int64)
        if not len(self):
            return found
        whole = keys.tobytes()
        hashes = np.array(
            [zlib.crc32(whole[at : at + width]) for at in range(0, len(whole), width)], np.uint32
        )
        at = np.minimum(np.searchsorted(self.index["hash"], hashes), len(self) - 1)
        same = (self.index["hash"][at] == hashes).nonzero()[0]
        positions = self.index["position"][at[same]].astype(np.int64)
        ends = np.frombuffer(self._ends, np.int64)  # type: ignore[attr-defined]
        data = np.frombuffer(self._data, np.uint8)  # type: ignore[attr-defined]
        fits = ends[positions + 1] - ends[positions] == width
        here = ends[positions[fits]][:, None] + np.arange(width)
        equal = (data[here] == keys[same[fits]]).all(axis=1)
        right = same[fits][equal]
        found[right] = positions[fits][equal]
        for k in np.setdiff1d(same, right, assume_unique=True).tolist():  # of equal hashes
            other = self.find(ids[k])
            found[k] = -1 if other is None else other
        return found

    def row(self, position: int) -> Row:
        """The row at a position."""
        numbers = self.numbers
        segment, chunk = self.places[numbers["place"].item(position)]
        return Row(
            unpacked(self._key(position)),
            numbers["start"].item(position),
            numbers["stop"].item(position),
            numbers["crc"].item(position),
            _meta(self.metas[numbers["meta"].item(position)]),
            segment,
            chunk,
        )

    def ids_in_order(self) -> Iterator[str]:
        """The ids of all rows."""
        for begin in range(0, len(self), BLOCK):
            yield from map(unpacked, self.ids.slice(begin, BLOCK).to_pylist())

    def rows_in_order(self) -> Iterator[Row]:
        """All rows."""
        metas = [_meta(text) for text in self.metas] if len(self.metas) < BLOCK else None
        for begin in range(0, len(self), BLOCK):
            keys = self.ids.slice(begin, BLOCK).to_pylist()
            some = (self.numbers[name][begin : begin + BLOCK].tolist() for name in NUMBERS)
            for key, start, stop, crc, place, meta in zip(keys, *some, strict=True):
                found = metas[meta] if metas is not None else _meta(self.metas[meta])
                yield Row(unpacked(key), start, stop, crc, found, *self.places[place])

    def within(self, segment: str, start: int, stop: int) -> list[int]:
        """The positions of rows of a segment that begin before ``stop`` and end after ``start``."""
        places = [i for i, place in enumerate(self.places) if place[0] == segment]
        inside = np.isin(self.numbers["place"], places)
        inside &= (self.numbers["start"] < stop) & (self.numbers["stop"] > start)
        found: list[int] = inside.nonzero()[0].tolist()
        return found

    def merged(
        self, replaced: Mapping[int, Row], gone: Collection[int], new: Collection[Row]
    ) -> Columns:
        """These rows with some of them replaced, some gone, and new ones after them.

        Raises:
            Unfit: a row cannot be held.
        """
        places = {place: i for i, place in enumerate(self.places)}
        metas = {meta: i for i, meta in enumerate(self.metas)}
        numbers = {name: np.array(values) for name, values in self.numbers.items()}
        at = np.fromiter(replaced, np.int64, len(replaced))
        for name, values in _numbers_of(replaced.values(), places, metas).items():
            numbers[name][at] = values
        added = _numbers_of(new, places, metas)
        keys = [packed(row.id) for row in new]
        ids, index = self.ids, self.index
        if gone:
            stay = np.ones(len(self), bool)
            stay[list(gone)] = False
            numbers = {name: values[stay] for name, values in numbers.items()}
            ids, index = ids.filter(pa.array(stay)), _without(index, stay)
        hashes = np.fromiter(map(zlib.crc32, keys), np.uint32, len(keys))
        return Columns(
            pa.concat_arrays([ids, pa.array(keys, pa.large_binary())]),
            {name: np.concatenate([numbers[name], added[name]]) for name in NUMBERS},
            _with(index, hashes, len(ids)),
            list(places),
            list(metas),
        )

    def _key(self, position: int) -> bytes:
        ends: Any = self._ends  # type: ignore[attr-defined]
        return bytes(self._data[ends[position] : ends[position + 1]])  # type: ignore[attr-defined]


def packed(row_id: str) -> bytes:
    """An id as bytes: digests, and digests that a colon joins to more, as what they stand for."""
    head = row_id[:DIGEST]
    if len(head) == DIGEST and row_id[DIGEST : DIGEST + 1] in ("", ":"):
        try:
            digest = bytes.fromhex(head)
        except ValueError:
            pass
        else:
            if digest.hex() == head:
                rest = row_id[DIGEST + 1 :]
                return PACKED + digest + (packed(rest) if len(row_id) > DIGEST else b"")
    return PLAIN + row_id.encode("utf-8", "surrogatepass")


def unpacked(key: bytes) -> str:
    """The id that ``packed`` gave these bytes for."""
    if key[:1] == PLAIN:
        return key[1:].decode("utf-8", "surrogatepass")
    digest, rest = key[1:33].hex(), key[33:]
    return f"{digest}:{unpacked(rest)}" if rest else digest


def _numbers_of(
    rows: Iterable[Row], places: dict[tuple[str, int | None], int], metas: dict[str, int]
) -> dict[str, NDArray[Any]]:
    """The numbers of rows; new places and metas are added to those that are there.

    Raises:
        Unfit: a number is too large, or ``meta`` is nested too deeply.
    """
    found = []
    seen: dict[str, int] = {}  # equal texts of Python's, which are made faster, are equal JSON
    try:
        for row in rows:
            place = places.setdefault((row.segment, row.chunk), len(places))
            text = repr(row.meta)
            if (meta := seen.get(text)) is None:
                meta = seen[text] = metas.setdefault(json.dumps(row.meta), len(metas))
            found.append((row.start, row.stop, row.crc, place, meta))
        columns = zip(*found, strict=True) if found else [()] * len(NUMBERS)
        return {
            name: np.array(values, dtype)
            for (name, dtype), values in zip(NUMBERS.items(), columns, strict=True)
        }
    except (OverflowError, RecursionError, ValueError) as error:
        raise Unfit(str(error)) from None


def _without(
    index: Mapping[str, NDArray[np.uint32]], stay: NDArray[np.bool_]
) -> dict[str, NDArray[np.uint32]]:
    """An index of the rows that stay."""
    kept = stay[index["position"]]
    moved = (np.cumsum(stay) - 1).astype(np.uint32)
    return {"hash": index["hash"][kept], "position": moved[index["position"][kept]]}


def _with(
    index: Mapping[str, NDArray[np.uint32]], hashes: NDArray[np.uint32], first: int
) -> dict[str, NDArray[np.uint32]]:
    """An index with rows that were added at a position."""
    order = np.argsort(hashes, kind="stable")
    at = np.searchsorted(index["hash"], hashes[order])
    positions = (order + first).astype(np.uint32)
    return {
        "hash": np.insert(index["hash"], at, hashes[order]),
        "position": np.insert(index["position"], at, positions),
    }


@lru_cache(maxsize=4096)
def _meta(text: str) -> dict[str, Any]:
    """The ``meta`` of rows, which share it."""
    found: dict[str, Any] = json.loads(text)
    return found
