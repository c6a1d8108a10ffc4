"""Several runs of one command, which differ in a few settings: one pass fills what they share."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

from sclip_core.pipeline.stage import Stage
from sclip_core.store.arrays import NewRow
from sclip_core.store.keys import canonical_json


class SharingStage(Stage):
    """A stage one pass of which gives the rows of others too, which are ``together`` with it."""

    @abstractmethod
    def compute_shared(
        self, ids: Iterable[str], others: Mapping[Stage, Set[str]], shard: int
    ) -> Iterator[tuple[Stage, list[NewRow]]]:
        """Compute rows of this stage, and of the others those that they lack; see ``Stage``."""

    @abstractmethod
    def pass_settings(self) -> dict[str, Any]:
        """What stages must have in common for one pass to fill them, as plain JSON values."""

    def compute(self, ids: Iterable[str], shard: int) -> Iterator[NewRow]:
        """Compute rows of this stage alone."""
        return (row for _, rows in self.compute_shared(ids, {}, shard) for row in rows)


def share_passes(stages: Iterable[SharingStage]) -> None:
    """Let stages share a pass where one can fill them."""
    passes: dict[str, list[SharingStage]] = defaultdict(list)
    for stage in stages:
        passes[canonical_json({stage.name: stage.pass_settings()})].append(stage)
    for alike in passes.values():
        share(alike)


def share(stages: Sequence[Stage]) -> None:
    """Let the first of these stages that lacks a row compute it for all.

    Several may have one artifact, as runs do that differ in PAMR steps alone: the first is told.
    """
    first_of: dict[str, Stage] = {}
    for stage in stages:
        first_of.setdefault(stage.key, stage)
    for stage in stages:
        stage.together = tuple(other for key, other in first_of.items() if key != stage.key)


def share_fresh(stages: Iterable[Stage]) -> None:
    """Let stages with one artifact know of the rows that any of them has made."""
    fresh: dict[str, set[str]] = defaultdict(set)
    for stage in stages:
        stage.fresh = fresh[stage.key]
