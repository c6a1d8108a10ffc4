"""What all stages have in common: a key, an artifact, and computing only the rows that are missing.

A stage is a class with its own settings, its own rows and its own way to compute them. It knows
nothing of who runs it: a flow, a command, a notebook.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, TypeVar

from sclip_core.config import ImageError, UserError
from sclip_core.datasets import Sample
from sclip_core.pipeline.filling import Filling
from sclip_core.pipeline.mending import Mending
from sclip_core.pipeline.rows import Batch, Table, prefetch
from sclip_core.pipeline.run import Run
from sclip_core.pipeline.status import status_of
from sclip_core.pipeline.work import Work
from sclip_core.progress import Outcome, Status
from sclip_core.store.arrays import DamagedRow, NewRow, RowGone
from sclip_core.store.artifact import Artifact, Identity
from sclip_core.store.ledger import Place, Row
from sclip_core.store.ledger_rows import missing
from sclip_core.store.tables import artifact_of

Loaded = TypeVar("Loaded")
DIGITS = 15  # of an image's digest, which say in which shard it is


class Stage(ABC):
    """A stage of one run; its rows are in an artifact, which other runs may share."""

    name: ClassVar[str]
    version: ClassVar[int]  # bump it when the same settings give another result
    unit: ClassVar[str] = "images"  # what a row is
    shardable: ClassVar[bool] = False  # worth dividing among several workers
    batch_rows: ClassVar[int] = 1  # that are worth a commit
    sees_images: ClassVar[bool] = False  # itself, and not only by what stages upstream made of them
    work: Work  # the stage as plain data, while its command is executed

    def __init__(self, run: Run, *upstream: Stage, kept: Sequence[Stage] = ()) -> None:
        """Place the stage in a run.

        Args:
            run: what all stages share.
            upstream: the stages whose artifacts this one reads.
            kept: stages whose rows save work where they are there. They are no upstream stages:
                the result is the same without them.
        """
        self.run = run
        self.upstream = upstream
        self.kept = tuple(kept)
        self.mending = Mending(self)
        self.together: tuple[Stage, ...] = ()  # of other runs, which the same pass can fill
        self.made: dict[str, float] = {}  # by such a pass: rows, and the seconds that each took
        self.owed = (0, 0.0)  # rows that such a pass made in another process, and seconds
        self.fresh: set[str] = set()  # rows that were made in this process, of all with this key
        self.failed: set[str] = set()  # rows that cannot be computed
        self.executed = False  # or is being so
        self._old: dict[str, Place] | None = None  # where a forced stage began, what was there

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The settings that decide this stage's result, as plain JSON values."""

    def wanted(self) -> Sequence[str]:
        """Ids of the rows that the run's dataset asks for, in order, each once: of its images."""
        return self.run.inputs.image_ids

    def read(self, row: Row) -> Any:
        """What is stored of a row, as the stages above take it.

        Raises:
            DamagedRow: it is not what was written.
        """
        raise NotImplementedError(f"rows of {self.name} are read by its table")

    @abstractmethod
    def compute(self, ids: Iterable[str], shard: int) -> Iterator[NewRow]:
        """Compute rows, a few at a time; those whose image fails are left out (``leave_out``).

        Args:
            ids: the rows to compute, each claimed when it is asked for.
            shard: number of the worker, to choose a device by.
        """

    def compute_shared(
        self, ids: Iterable[str], others: Mapping[Stage, Set[str]], shard: int
    ) -> Iterator[tuple[Stage, list[NewRow]]]:
        """Compute rows of this stage, and of those ``together`` with it.

        Args:
            ids: as in ``compute``.
            others: the rows that those lack.
            shard: number of the worker.

        Yields:
            Rows that are to be committed together, and the stage that they are of.
        """
        return ((self, [row]) for row in self.compute(ids, shard))

    def loaded(
        self, load: Callable[[str], Loaded], ids: Iterable[str]
    ) -> Iterator[tuple[str, Loaded]]:
        """What rows are computed from, read ahead in threads; those that fail are left out.

        Args:
            load: reads what the row of an id is computed from.
            ids: of the rows.
        """
        for row_id, found in prefetch(load, ids, self.run.inputs.threads):
            if isinstance(found, ImageError):
                self.leave_out(row_id, found)
            else:
                yield row_id, found

    def prepare(self) -> None:  # noqa: B027 - most stages need nothing
        """Do once in a process what takes time but belongs to no row, such as compiling."""

    @property
    @abstractmethod
    def table(self) -> Table:
        """How the rows are stored: arrays, parts or records of the artifact."""

    def weights_sha256(self) -> str | None:
        """Of the weights that the stage itself uses."""
        return None

    def needed_for(self, image_ids: Sequence[str]) -> Sequence[str]:
        """The rows of this stage that a stage above it reads for some images."""
        return image_ids

    def image_of(self, row_id: str) -> str:
        """The digest of the image that a row of this stage is of."""
        return row_id

    def computable(self, ids: Sequence[str]) -> Sequence[str]:
        """Those ids for whose images the stages upstream have rows."""
        there = [stage.rows() for stage in self.upstream if stage.unit == "images"]
        images = list(map(self.image_of, ids))
        lacking = {image for rows in there for image in missing(rows, images)}
        return [i for i, image in zip(ids, images, strict=True) if image not in lacking]

    def samples_of(self, row_id: str) -> Sequence[Sample]:
        """The samples that a row stands for: copies of a file share one."""
        return self.run.inputs.samples_of(row_id)

    @property
    def reads(self) -> Sequence[Stage]:
        """The stages whose rows this one reads, be they upstream or only kept."""
        return (*self.upstream, *self.kept)

    @property
    def part(self) -> str:
        """Which of several stages of this name and of one run it is; mostly there is one."""
        return ""

    @property
    def label(self) -> str:
        """The stage's name; of several with this name also which: ``trunk:h4``."""
        return f"{self.name}:{self.part}" if self.part else self.name

    def leave_out(self, row_id: str, error: ImageError) -> None:
        """Take note of a row that cannot be computed, or not before another one is mended.

        Raises:
            UserError: the run is strict.
        """
        if self.mending.again_later(row_id, error):
            return
        self.failed.add(row_id)
        self.run.lease.release(self.artifact.path, [row_id])
        self.run.journal.fail(self.samples_of(row_id), error)
        self.run.reporter.advance(self.name, 1)

    def stop_if_asked(self) -> None:
        """Between two passes or batches.

        Raises:
            UserError: the run is to stop.
        """
        if self.run.stop.is_set():
            raise UserError(f"{self.name} was stopped; what was computed is kept")

    def row(self, row_id: str, rows: Mapping[str, Row]) -> Row:
        """One of the rows of this stage.

        Args:
            row_id: which.
            rows: what was there a moment ago.

        Raises:
            RowGone: it was struck since.
        """
        if row_id not in rows:
            raise RowGone(f"{row_id} in {self.artifact.path} is being computed again")
        return rows[row_id]

    def kept_of(self, row_id: str, stage: Stage, rows: Mapping[str, Row]) -> Any:
        """What one of the stages ``kept`` has of an image.

        Args:
            row_id: digest of the image.
            stage: which.
            rows: of that stage.

        Returns:
            What its ``read`` gives; None: nothing is kept, or it was damaged and the run does not
            have that stage.

        Raises:
            DamagedRow: it is damaged, and is computed again first.
        """
        if row_id not in rows:
            return None
        try:
            return stage.read(rows[row_id])
        except DamagedRow as error:
            if stage.name in self.run.settings.stages and stage in self.reads:
                raise
            error.table.strike(error.rows)
            return None

    @cached_property
    def artifact(self) -> Artifact:
        """The folder of the stage's rows in the store, named by its key."""
        reading = self.run.inputs.reading.changed() if self.sees_images else {}
        identity = Identity(
            stage=self.name,
            version=self.version,
            settings={**self.settings(), **reading},
            upstream={stage.label: stage.artifact.identity.key for stage in self.upstream},
            weights_sha256=self.weights_sha256(),
        )
        return artifact_of(self.run.root, identity)

    @property
    def key(self) -> str:
        """The key of the artifact: a hash of all that decides the stage's result."""
        return self.artifact.identity.key

    @property
    def forced(self) -> bool:
        """Whether the user wants it computed again, or one that it reads."""
        return self.name in self.run.settings.force or any(up.forced for up in self.upstream)

    def rows(self) -> Mapping[str, Row]:
        """The rows that are there, by id."""
        return self.artifact.rows()

    def missing(self, ids: Sequence[str]) -> Sequence[str]:
        """Those that have to be computed: not there, or to be made anew and not so yet."""
        now = self.rows()
        if not self.forced:
            return missing(now, ids) if now else ids
        old = self._old
        return [
            row_id
            for row_id in ids
            if row_id not in self.fresh
            and (old is None or row_id not in now or now[row_id].place == old.get(row_id))
        ]

    def begin(self) -> None:
        """Remember what a forced stage is to replace; mend what describes the artifact."""
        for stage in (self, *self.reads):
            stage.artifact.refresh()
        with self.run.lock:
            if self.forced and self._old is None:
                self._old = {row_id: row.place for row_id, row in self.rows().items()}
            self.mending.mend_artifact()
        self.executed = True

    def in_shard(self, ids: Sequence[str], shard: int, shards: int) -> Sequence[str]:
        """Those rows that belong to a shard: by the digest of the image, wherever it lies."""
        if shards == 1:
            return ids
        return [i for i in ids if int(self.image_of(i)[:DIGITS], 16) % shards == shard]

    def execute(self, shard: int = 0, shards: int = 1, place: int | None = None) -> Outcome:
        """Compute what is missing, and at once what stages ``together`` with this lack of it.

        Args:
            shard: which part of the rows, from 0.
            shards: how many parts there are.
            place: number of the worker, to choose a device by; None: that of the shard.
        """
        started = time.perf_counter()
        self.begin()
        ids = self.in_shard(self.wanted(), shard, shards)
        missing = self.missing(ids)
        if missing:
            began = time.perf_counter()
            self.prepare()
            started += time.perf_counter() - began  # no row's time
        made = [self.made[row_id] for row_id in ids if row_id in self.made]
        filling = Filling(self, ids, shard if place is None else place)
        filling.run()
        stored, elapsed = filling.stored, time.perf_counter() - started
        others = sum(len(rows) for stage, rows in stored.items() if stage is not self)
        per_row = elapsed / max(1, sum(map(len, stored.values())))
        by_others = set(missing) - {*stored[self], *self.failed} - {*self.missing(missing)}
        outcome = self.credited(
            Outcome(
                stage=self.name,
                key=self.key,
                path=str(self.artifact.path),
                cached=len(ids) - len(missing) - len(made) + len(by_others),
                computed=len(stored[self]) + len(made),
                seconds=elapsed - per_row * others + sum(made),
                unit=self.unit,
            )
        )
        self.run.journal.finished(outcome, shards, part=self.part)
        return outcome

    def credited(self, outcome: Outcome) -> Outcome:
        """What the stage did, with the rows that a pass of another process made for it."""
        owed, seconds = self.owed
        count = min(owed, outcome.cached)
        self.owed = (owed - count, 0.0)  # other shards may have the rest of the rows
        return replace(
            outcome,
            cached=outcome.cached - count,
            computed=outcome.computed + count,
            seconds=outcome.seconds + seconds,
        )

    @contextmanager
    def storing(self, stored: list[str], tells: bool) -> Iterator[Batch]:
        """A place for new rows, all of which are committed in the end, whatever happens.

        Args:
            stored: gets the ids of the rows that were committed.
            tells: whether the user is told of them.
        """

        def note(ids: Sequence[str]) -> None:
            stored.extend(ids)
            self.run.lease.release(self.artifact.path, ids)
            if tells:
                self.run.reporter.advance(self.name, len(ids))

        self.artifact.create(self.run.provenance())
        self.artifact.make_durable()
        with self.table.writer() as writer:
            size = self.table.worth_a_commit(self.batch_rows)
            batch = Batch(writer, size, self.table.batch_seconds, note)
            try:
                yield batch
            finally:
                batch.close()

    def status(self) -> Status:
        """What ``execute`` would do, and why."""
        return status_of(self)
