"""The rows of a ledger by their ids: most of them in columns, the last ones in dicts."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping, Sequence, ValuesView
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sclip_core.store.ledger_columns import Columns, Place, Row, Unfit

FEW = 256  # rows that are looked up one by one
MOST = 2**17  # rows in dicts while many lines are read; a row takes about 500 bytes there
AT_REST = 2**13  # and when they have been read
ENDLESS = 2**62


class Rows(Mapping[str, Row]):
    """The rows that a ledger had at one moment; what is appended later does not change it."""

    def __init__(
        self,
        columns: Columns,
        replaced: Mapping[int, Row],
        gone: frozenset[int] | set[int],
        new: Mapping[str, Row],
    ) -> None:
        """Put the parts together.

        Args:
            columns: the rows at one moment.
            replaced: what became of some of them since, by their position there.
            gone: positions of those that were struck since.
            new: the other rows since then, in order.
        """
        self._columns, self._replaced, self._gone, self._new = columns, replaced, gone, new

    def __getitem__(self, row_id: str) -> Row:
        """A row.

        Raises:
            KeyError: there is none.
        """
        row = self._new.get(row_id)
        if row is not None:
            return row
        position = self._columns.find(row_id) if isinstance(row_id, str) else None
        if position is None or position in self._gone:
            raise KeyError(row_id)
        return self._replaced.get(position) or self._columns.row(position)

    def __contains__(self, row_id: object) -> bool:
        """Whether there is a row."""
        if not isinstance(row_id, str):
            return False
        if row_id in self._new:
            return True
        position = self._columns.find(row_id)
        return position is not None and position not in self._gone

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._columns) - len(self._gone) + len(self._new)

    def __iter__(self) -> Iterator[str]:
        """The ids, in the order in which the rows were stored first."""
        for position, row_id in enumerate(self._columns.ids_in_order()):
            if position not in self._gone:
                yield row_id
        yield from self._new

    def values(self) -> ValuesView[Row]:
        """The rows, in the order of their ids."""
        return _Values(self)

    def items(self) -> ItemsView[str, Row]:
        """The ids and rows."""
        return _Items(self)

    def in_order(self) -> Iterator[Row]:
        """The rows; faster than one by one."""
        for position, row in enumerate(self._columns.rows_in_order()):
            if position not in self._gone:
                yield self._replaced.get(position, row)
        yield from self._new.values()

    def missing(self, ids: Sequence[str]) -> list[str]:
        """The ids that have no row, in order."""
        if len(ids) < FEW:
            return [row_id for row_id in ids if row_id not in self]
        return [
            i for i, is_there in zip(ids, self.there(ids).tolist(), strict=True) if not is_there
        ]

    def there(self, ids: Sequence[str]) -> NDArray[np.bool_]:
        """Of each id whether it has a row."""
        found = self._columns.find_many(ids)
        is_there = found >= 0
        if self._gone:
            is_there &= ~np.isin(found, list(self._gone))
        if self._new:
            is_there |= np.fromiter((i in self._new for i in ids), bool, len(ids))
        return is_there

    def within(self, segment: str, start: int = -1, stop: int = ENDLESS) -> list[Row]:
        """The rows of a segment that begin before ``stop`` and end after ``start``."""
        recent = [
            row
            for row in (*self._replaced.values(), *self._new.values())
            if row.segment == segment and row.start < stop and row.stop > start
        ]
        earlier = self._columns.within(segment, start, stop)
        stay = (p for p in earlier if p not in self._gone and p not in self._replaced)
        return [*map(self._columns.row, stay), *recent]


class _Values(ValuesView[Row]):
    _mapping: Rows

    def __iter__(self) -> Iterator[Row]:
        return self._mapping.in_order()


class _Items(ItemsView[str, Row]):
    _mapping: Rows

    def __iter__(self) -> Iterator[tuple[str, Row]]:
        return ((row.id, row) for row in self._mapping.in_order())


class GrowingRows:
    """The rows of a ledger while its lines are read, one after the other."""

    def __init__(self, columns: Columns | None = None) -> None:
        """Begin with rows that are known."""
        self.columns = columns or Columns.empty()
        self._replaced: dict[int, Row] = {}
        self._gone: set[int] = set()
        self._new: dict[str, Row] = {}
        self._seen = False  # whether a view has these dicts, so that they must not change
        self._most = MOST  # new rows before all are brought into columns

    def view(self) -> Rows:
        """The rows as they are now."""
        self._seen = True
        return Rows(self.columns, self._replaced, self._gone, self._new)

    def put(self, row: Row) -> None:
        """Add a row, or replace it where it stands."""
        self._change()
        if row.id not in self._new:
            position = self.columns.find(row.id)
            if position is not None and position not in self._gone:
                self._replaced[position] = row
                return
        self._new[row.id] = row
        if len(self._new) > self._most:
            self.settle()

    def strike(self, place: Place) -> None:
        """Remove a row, if it still lies there."""
        row = self._new.get(place[0])
        if row is not None:
            if row.place == place:
                self._change()
                del self._new[place[0]]
            return
        position = self.columns.find(place[0])
        if position is None or position in self._gone:
            return
        if (self._replaced.get(position) or self.columns.row(position)).place == place:
            self._change()
            self._gone.add(position)
            self._replaced.pop(position, None)

    def rest(self) -> None:
        """Bring the rows into columns if there are many others."""
        few = max(AT_REST, len(self.columns) // 64)
        if few < self._recent() and self._most <= max(MOST, len(self.columns) // 8):
            self.settle()

    def settle(self) -> bool:
        """Bring all rows into columns.

        Returns:
            Whether they are; rows that no version writes stay where they are.
        """
        if not self._recent():
            return True
        try:
            self.columns = self.columns.merged(self._replaced, self._gone, self._new.values())
        except Unfit:
            self._most = 2 * len(self._new)
            return False
        self._replaced, self._gone, self._new, self._seen = {}, set(), {}, False
        self._most = max(MOST, len(self.columns) // 8)
        return True

    def _recent(self) -> int:
        return len(self._new) + len(self._replaced) + len(self._gone)

    def _change(self) -> None:
        """Leave the views as they are."""
        if self._seen:
            self._replaced, self._gone = dict(self._replaced), set(self._gone)
            self._new, self._seen = dict(self._new), False


def there(rows: Mapping[str, Any], ids: Sequence[str]) -> NDArray[np.bool_]:
    """Of each id whether it has a row."""
    if isinstance(rows, Rows):
        return rows.there(ids)
    return np.fromiter((row_id in rows for row_id in ids), bool, len(ids))


def missing(rows: Mapping[str, Any], ids: Iterable[str]) -> list[str]:
    """The ids that have no row, in order."""
    if isinstance(rows, Rows):
        return rows.missing(ids if isinstance(ids, Sequence) else list(ids))
    return [row_id for row_id in ids if row_id not in rows]


def within(
    rows: Mapping[str, Row], segment: str, start: int = -1, stop: int = ENDLESS
) -> list[Row]:
    """The rows of a segment that begin before ``stop`` and end after ``start``."""
    if isinstance(rows, Rows):
        return rows.within(segment, start, stop)
    return [r for r in rows.values() if r.segment == segment and r.start < stop and r.stop > start]
