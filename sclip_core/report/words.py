"""The section on words: the audit that the page's runs belong to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sclip_core.config.errors import few
from sclip_core.config.places import Place
from sclip_core.results.audits import Moved, audits, moved, spread_of, worst_of

MOST_MOVED = 8  # classes that are shown
MOST_WORDS = 6  # of a class


@dataclass(frozen=True)
class Words:
    """An audit as a page shows it."""

    rows: list[dict[str, Any]]  # of the table ``audit``
    worst: Mapping[str, Any]
    spread: float  # percentage points
    moved: list[Moved]  # by the worst list; none where that is the own one
    distractors: int  # of the worst list

    @staticmethod
    def shown(words: Sequence[str]) -> str:
        """Some of the words of a class."""
        return few(list(words), MOST_WORDS)


def words_of(run_ids: Sequence[str], artifacts: Place) -> Words | None:
    """The audit with most of the runs, of several the newest; None: they belong to none.

    Args:
        run_ids: of the page's runs.
        artifacts: the folder of all artifacts.
    """
    by_audit: dict[str, list[dict[str, Any]]] = {}
    for row in audits(artifacts=artifacts).to_pylist():  # the newest first
        by_audit.setdefault(row["audit_id"], []).append(row)
    shared = {
        name: len({row["run_id"] for row in rows} & {*run_ids}) for name, rows in by_audit.items()
    }
    best = max(shared, key=lambda name: shared[name], default=None)
    if best is None or not shared[best]:
        return None
    rows = by_audit[best]
    worst = worst_of(rows)
    changed = worst["run_id"] != rows[0]["run_id"]
    return Words(
        rows=rows,
        worst=worst,
        spread=spread_of(rows),
        moved=moved(rows[0], worst, artifacts)[:MOST_MOVED] if changed else [],
        distractors=len(json.loads(worst["distractors"])),
    )
