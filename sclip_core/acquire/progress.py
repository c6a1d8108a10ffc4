"""What the ways of a file have in common: who is told how far it is, and what to do next."""

from __future__ import annotations

from typing import Protocol

AGAIN = "run this command again"


class Progress(Protocol):
    """What is told how far a file has come."""

    def start(self, name: str, total: int | None, done: int) -> None:
        """A file begins; again with each answer of a server, as that may begin anew.

        Args:
            name: of the file.
            total: its bytes; None: not known.
            done: bytes that are there.
        """

    def advance(self, count: int) -> None:
        """So many more bytes are there."""

    def finish(self) -> None:
        """Nothing more comes, whether the file is whole or not."""
