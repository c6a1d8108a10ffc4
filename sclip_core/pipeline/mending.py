"""Stored rows that turn out to be damaged when they are read: struck, and computed again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from threading import RLock
from typing import TYPE_CHECKING

from sclip_core.config import ImageError
from sclip_core.pipeline.filling import MOST_MISSED, Filling
from sclip_core.store import places
from sclip_core.store.arrays import DamagedRow, RowGone
from sclip_core.store.files import DiskError

if TYPE_CHECKING:
    from sclip_core.pipeline.stage import Stage

MOST_MENDED = 2  # times that a row is computed again in one run; then the disk itself is at fault


class Mending:
    """The damaged rows that a stage has found, of itself or of those that it reads.

    Attributes:
        damage: rows that need another one, which is damaged.
        missed: how often another row was gone that a row needs.
    """

    def __init__(self, stage: Stage) -> None:
        """Begin with no damage known."""
        self.damage: dict[str, DamagedRow] = {}
        self.missed: Counter[str] = Counter()
        self._stage = stage
        self._mended: Counter[str] = Counter()  # rows of the stage that were computed again
        self._lock = RLock()  # one shard at a time

    def again_later(self, row_id: str, error: ImageError) -> bool:
        """Whether a row is to be tried again when what it reads was mended."""
        if isinstance(error, RowGone):
            self.missed[row_id] += 1
            return self.missed[row_id] < MOST_MISSED
        if isinstance(error, DamagedRow) and self.possible(error):
            self.damage[row_id] = error
            return True
        return False

    def possible(self, error: DamagedRow) -> bool:
        """Whether damaged rows are of a stage of the run, and were not mended too often already."""
        stage = _stage_of(self._stage, error)
        return stage is not None and all(
            stage.mending._mended[row.id] < MOST_MENDED for row in error.rows
        )

    def mend(self, errors: Iterable[DamagedRow], shard: int = 0) -> None:
        """Strike damaged rows, of the stage or of those below it, and compute them again.

        Args:
            errors: the damage that was found.
            shard: number of the worker.

        Raises:
            DamagedRow: rows that were computed again more than once already.
            UserError: they cannot be computed.
        """
        by_stage: dict[Stage, list[DamagedRow]] = {}
        for error in errors:
            stage = _stage_of(self._stage, error)
            if stage is None or not self.possible(error):
                raise error
            by_stage.setdefault(stage, []).append(error)
        for stage, of_stage in by_stage.items():
            stage.mending._compute_again(of_stage, shard)

    def complete(self, ids: Sequence[str], shard: int) -> None:
        """Compute rows of an executed stage that were struck since; ``ids``: that are needed."""
        stage = self._stage
        if not stage.executed:
            return
        with self._lock:
            there = stage.rows()
            lacking = [i for i in ids if i not in there and i not in stage.failed]
            if lacking:
                Filling(stage, lacking, shard).run()

    def mend_artifact(self) -> None:
        """Before the first row: write again what describes the artifact, where it is damaged.

        Raises:
            UserError: the folder holds other settings than its name says.
        """
        name, run, artifact = self._stage.name, self._stage.run, self._stage.artifact
        path, note = artifact.path, run.reporter.note
        if not places.is_there(path):
            return
        with suppress(DiskError):  # where nothing can be written, reading is still possible
            if artifact.create(run.provenance()):
                note(f"{name}: manifest.json in {path} was damaged; it is written again")
        if not artifact.in_objects:
            artifact.ledger.save_snapshot()  # of a store that an earlier version filled
        odd = artifact.ledger.odd_lines()
        if odd:
            number, fault = next(iter(odd.items()))
            others = f" and {len(odd) - 1} others" if len(odd) > 1 else ""
            note(
                f"{name}: line {number} of {path / 'ledger.jsonl'}{others} cannot be used "
                f"({fault}); rows that no other line has are computed again"
            )
            with suppress(DiskError):
                artifact.ledger.repair()

    def _compute_again(self, errors: Sequence[DamagedRow], shard: int) -> None:
        """Strike rows of the stage, unless that was done already, and compute them."""
        stage = self._stage
        damaged = {row.place: row for error in errors for row in error.rows}
        with self._lock:
            now = stage.rows()
            there = [r for r in damaged.values() if r.id in now and now[r.id].place == r.place]
            if there:  # else another shard or process has seen to it
                errors[0].table.strike(there)
                stage.run.reporter.note(
                    f"{stage.name}: stored data of {len(there)} {stage.unit} in "
                    f"{stage.artifact.path} are damaged; they are computed again"
                )
                struck = [row.id for row in there]
                self._mended.update(struck)
                stage.fresh.difference_update(struck)
                stage.failed.difference_update(struck)
            wanted = set(stage.wanted())  # the store may hold other datasets too
            ids = dict.fromkeys(row.id for row in damaged.values())
            Filling(stage, [row_id for row_id in ids if row_id in wanted], shard).run()


def _stage_of(stage: Stage, error: DamagedRow) -> Stage | None:
    """The stage that computes damaged rows: this one, or one that it reads."""
    if error.table.artifact.path == stage.artifact.path:
        return stage
    found = (_stage_of(other, error) for other in stage.reads)
    return next((other for other in found if other), None)
