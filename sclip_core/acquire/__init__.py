"""The benchmarks' data, from nothing to checked: sources, download, conversion, checks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

AGAIN = "run this command again"
Item = TypeVar("Item")


class Progress(Protocol):
    """Shows how far a task has come."""

    def start(self, name: str, total: int | None, done: int) -> None:
        """A task begins; called again when a download has to start from an earlier byte.

        Args:
            name: the file or the benchmark.
            total: its bytes or images; None: not known.
            done: how many of them are there already.
        """

    def advance(self, count: int) -> None:
        """So many more bytes or images are done."""

    def finish(self) -> None:
        """The task has ended, successfully or not."""


class Silent:
    """A progress that shows nothing."""

    def start(self, name: str, total: int | None, done: int) -> None:
        """Show nothing."""

    def advance(self, count: int) -> None:
        """Show nothing."""

    def finish(self) -> None:
        """Show nothing."""


SILENT = Silent()


def counted(items: Iterable[Item], name: str, total: int, progress: Progress) -> Iterator[Item]:
    """The items, one after the other, while ``progress`` counts them."""
    progress.start(name, total, 0)
    try:
        for item in items:
            yield item
            progress.advance(1)
    finally:
        progress.finish()
