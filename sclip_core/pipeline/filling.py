"""How the missing rows of a stage get there: claimed, computed, stored.

Processes that were started together share the rows of an artifact: each claims a few at a time, and
waits in the end for those that another one computes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import ExitStack
from typing import TYPE_CHECKING

from sclip_core.pipeline.rows import Batch
from sclip_core.store.arrays import DamagedRow, RowGone
from sclip_core.store.places import writable

if TYPE_CHECKING:
    from sclip_core.pipeline.stage import Stage

SHORTEST, LONGEST = 0.02, 0.5  # seconds between looks at what another process computes
# A claim costs about a millisecond, but whoever ends first waits for the rows that others have
# claimed. So claims are small where rows are slow, and grow where they are quick.
QUICK = 0.2  # seconds that the rows of one claim took: below it the next claim is twice as large
MOST_CLAIMED = 64  # rows of one claim
MOST_MISSED = 20  # times that a row waits for another one that was struck from its ledger


class Claims:
    """Rows of a stage, each taken when it is asked for, without those that others compute."""

    def __init__(self, stage: Stage, ids: Sequence[str]) -> None:
        """Take the first few.

        Args:
            stage: that computes them.
            ids: rows that it lacks, in order.
        """
        self.taken: list[str] = []
        self._stage = stage
        self._most, self._time = stage.batch_rows, time.monotonic()
        self._rest = iter(ids)
        self._next = self._take()

    def __bool__(self) -> bool:
        """Whether there is anything to compute."""
        return bool(self._next)

    def __iter__(self) -> Iterator[str]:
        """The ids of the rows, claimed a few at a time."""
        while self._next:
            yield from self._next
            self._next = self._take()

    def _take(self) -> list[str]:
        """A few more rows; none where all others are taken."""
        stage, path = self._stage, self._stage.artifact.path
        now = time.monotonic()
        if self.taken and now - self._time < QUICK:
            self._most = min(2 * self._most, MOST_CLAIMED)
        self._time = now
        while ours := stage.run.lease.claim(path, self._rest, self._most):
            missing = stage.missing(ours)  # one may have been stored, and given back, a moment ago
            stage.run.lease.release(path, set(ours) - set(missing))
            self.taken += missing
            if missing:
                return list(missing)
        return []


class Filling:
    """One execution of a stage, or of one of its shards."""

    def __init__(self, stage: Stage, ids: Sequence[str], shard: int) -> None:
        """Nothing is computed yet.

        Args:
            stage: whose rows they are.
            ids: the rows that are wanted.
            shard: number of the worker.
        """
        self.stored: dict[Stage, list[str]] = {stage: []}
        self._stage, self._ids, self._shard = stage, ids, shard
        self._given_up: set[str] = set()  # neither computed nor refused
        self._damage: list[DamagedRow] = []  # found in what all rows need, such as the words
        self._missed = 0  # times that a row which all need was gone
        self._waited = SHORTEST

    def run(self) -> None:
        """Until every row is there, or has failed.

        Raises:
            UserError: the stage was stopped, or a row that cannot be mended.
        """
        stage, left = self._stage, None
        while todo := self._todo():
            if left is None:
                writable(stage.run.root)
                done = len(self._ids) - len(stage.missing(self._ids))
                stage.run.reporter.start(stage.name, done + len(todo), done, stage.unit)
            elif len(todo) < left:  # others have stored some
                stage.run.reporter.advance(stage.name, left - len(todo))
            left = len(todo)
            if claims := Claims(stage, todo):
                left -= self._compute(todo, claims)
                self._mend()
            else:
                self._wait(todo)

    def _todo(self) -> list[str]:
        """The rows that are missing and can be computed."""
        stage = self._stage
        left_out = stage.failed | self._given_up
        missing = stage.missing([row_id for row_id in self._ids if row_id not in left_out])
        if missing:  # what it is computed from may have been found damaged meanwhile
            images = list(dict.fromkeys(map(stage.image_of, missing)))
            for upstream in stage.upstream:
                upstream.mending.complete(upstream.needed_for(images), self._shard)
        return list(stage.computable(missing))

    def _compute(self, todo: Sequence[str], claims: Claims) -> int:
        """Compute and store what can be claimed, and what stages ``together`` lack of it.

        Returns:
            How many rows were stored or refused.
        """
        stage = self._stage
        lacking = {
            other: frozenset(other.computable(other.missing(todo))) for other in stage.together
        }
        others = {other: ids for other, ids in lacking.items() if ids}
        before = {each: len(ids) for each, ids in self.stored.items()}
        started = time.perf_counter()
        own = set(self._ids)
        failed = len(stage.failed & own)
        try:
            self._store(claims, others)
        except RowGone:
            self._missed += 1
            if self._missed == MOST_MISSED:
                raise
        except DamagedRow as error:
            self._damage.append(error)
        else:
            mending = stage.mending
            done = {*self.stored[stage], *stage.failed, *mending.damage, *mending.missed}
            self._given_up.update(row_id for row_id in claims.taken if row_id not in done)
        finally:
            stage.run.lease.release(stage.artifact.path, claims.taken)
        new = {each: ids[before.get(each, 0) :] for each, ids in self.stored.items()}
        per_row = (time.perf_counter() - started) / max(1, sum(map(len, new.values())))
        for each, ids in new.items():
            each.fresh.update(ids)
            if each is not stage:  # it is told what was made for it, and what that took
                each.made.update(dict.fromkeys(ids, per_row))
        return len(new[stage]) + len(stage.failed & own) - failed

    def _store(self, claims: Claims, others: Mapping[Stage, Set[str]]) -> None:
        """Commit batch after batch, the last ones also where the stage is stopped."""
        stage = self._stage
        with ExitStack() as open_batches:
            batches: dict[Stage, Batch] = {
                each: open_batches.enter_context(
                    each.storing(self.stored.setdefault(each, []), tells=each is stage)
                )
                for each in (stage, *others)
            }
            for each, rows in stage.compute_shared(claims, others, self._shard):
                batches[each].add(rows)
                stage.stop_if_asked()

    def _mend(self) -> None:
        """Compute the damaged rows again that this pass has found."""
        stage, own = self._stage, set(self._ids)
        damage = stage.mending.damage
        found = [damage.pop(row_id) for row_id in list(damage) if row_id in own]
        errors, self._damage = self._damage + found, []
        stage.mending.mend(errors, self._shard)

    def _wait(self, todo: Sequence[str]) -> None:
        """Wait a moment for the rows that other processes compute; say so, once."""
        stage = self._stage
        taken = stage.run.lease.taken(stage.artifact.path)
        owners = sorted({taken[row_id] for row_id in todo if row_id in taken})
        if owners and self._waited == SHORTEST:
            count = sum(row_id in taken for row_id in todo)
            stage.run.reporter.note(
                f"{stage.name}: waiting for {count} {stage.unit} that {', '.join(owners)} computes"
            )
        time.sleep(self._waited)
        self._waited = min(1.5 * self._waited, LONGEST)
        stage.stop_if_asked()
