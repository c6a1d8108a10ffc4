"""Python's search for reference cycles, which takes a fifth of the time of large imports.

A million objects are made while libraries are imported, and none of them is garbage. Standard
library only.
"""

from __future__ import annotations

import gc

SELDOM = 100_000, 50, 50  # objects between two searches of the young, and how many of these
_usual = gc.get_threshold()


def search_seldom() -> None:
    """Search seldom until ``search_as_usual``."""
    gc.set_threshold(*SELDOM)


def search_as_usual() -> None:
    """Search as Python does by itself: from now on there are images, and memory counts."""
    gc.set_threshold(*_usual)
