"""What all stages have in common: a key, an artifact, and computing only the rows that are missing.

A stage is a class with its own settings, its own rows and its own way to compute them. It knows
nothing of who runs it: a flow, a command, a notebook.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cached_property
from threading import RLock
from typing import Any, ClassVar, Literal, Protocol

from sclip_core.config import ImageError
from sclip_core.datasets import Sample
from sclip_core.pipeline.filling import MOST_MENDED, MOST_MISSED, Filling, Todo
from sclip_core.pipeline.rows import Batch, Writer
from sclip_core.pipeline.run import Run
from sclip_core.pipeline.work import Work
from sclip_core.progress import Outcome, Status
from sclip_core.store.arrays import DamagedRow, NewRow, RowGone
from sclip_core.store.artifact import Artifact, Identity, identity_in
from sclip_core.store.files import DiskError
from sclip_core.store.ledger import Place, Row


class Table(Protocol):
    """How the rows of a stage are stored."""

    def writer(self) -> AbstractContextManager[Writer]:
        """A place of one's own to append to."""


class Stage(ABC):
    """One box of the picture."""

    name: ClassVar[str]
    version: ClassVar[int]  # bump it when the same settings give another result
    unit: ClassVar[str] = "images"  # what a row is
    shardable: ClassVar[bool] = False  # worth dividing among several workers
    batch_rows: ClassVar[int] = 1  # that are worth a commit
    work: Work  # the stage as plain data, while its command is executed

    def __init__(self, run: Run, *upstream: Stage) -> None:
        """Place the stage in a run.

        Args:
            run: what all stages share.
            upstream: the stages whose artifacts this one reads.
        """
        self.run = run
        self.upstream = upstream
        self.together: tuple[Stage, ...] = ()  # of other runs, which the same pass can fill
        self.made: dict[str, float] = {}  # by such a pass: rows, and the seconds that each took
        self.fresh: set[str] = set()  # rows that were made in this process, of all with this key
        self.failed: set[str] = set()  # rows that cannot be computed
        self.damage: dict[str, DamagedRow] = {}  # rows that need another one, which is damaged
        self._mended: Counter[str] = Counter()  # rows of this stage that were computed again
        self.missed: Counter[str] = Counter()  # rows for which another one was gone
        self._mending = RLock()  # one shard at a time
        self._executed = False
        self._old: dict[str, Place] | None = None  # where a forced stage began, what was there

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The settings that decide this stage's result, as plain JSON values."""

    @abstractmethod
    def wanted(self) -> Sequence[str]:
        """Ids of the rows that the run's dataset asks for, in order, each once."""

    def read(self, row: Row) -> Any:
        """What is stored of a row, as the stages above take it.

        Raises:
            DamagedRow: it is not what was written.
        """
        raise NotImplementedError(f"rows of {self.name} are read by its table")

    @abstractmethod
    def compute(self, todo: Todo, shard: int) -> Iterator[tuple[Stage, list[NewRow]]]:
        """Compute rows, a few at a time; those whose image fails are left out (``leave_out``).

        Args:
            todo: the rows to compute, of this stage and of those ``together`` with it.
            shard: number of the worker, to choose a device by.

        Yields:
            Rows, and the stage that they are of.
        """

    @property
    @abstractmethod
    def table(self) -> Table:
        """Where the rows go."""

    def weights_sha256(self) -> str | None:
        """Of the weights that the stage itself uses."""
        return None

    def needed_for(self, image_ids: Sequence[str]) -> Sequence[str]:
        """The rows of this stage that a stage above it reads for some images."""
        return image_ids

    def images_of(self, ids: Sequence[str]) -> Sequence[str]:
        """The digests of the images that rows of this stage are of."""
        return ids

    def computable(self, ids: Sequence[str]) -> Sequence[str]:
        """Those ids whose upstream rows are there."""
        return ids

    def samples_of(self, row_id: str) -> Sequence[Sample]:
        """The samples that a row stands for: copies of a file share one."""
        return self.run.samples_of(row_id)

    @property
    def reads(self) -> Sequence[Stage]:
        """The stages whose rows this one reads, be they upstream or only kept."""
        return self.upstream

    def leave_out(self, row_id: str, error: ImageError) -> None:
        """Take note of a row that cannot be computed, or not before another one is mended.

        Raises:
            UserError: the run is strict.
        """
        if self._again_later(row_id, error):
            return
        self.failed.add(row_id)
        self.run.lease.release(self.artifact.path, [row_id])
        self.run.fail(self.samples_of(row_id), error)
        self.run.reporter.advance(self.name, 1)

    def _again_later(self, row_id: str, error: ImageError) -> bool:
        """Whether a row is to be tried again when what it reads was mended."""
        if isinstance(error, RowGone):
            self.missed[row_id] += 1
            return self.missed[row_id] < MOST_MISSED
        if isinstance(error, DamagedRow) and self.can_be_mended(error):
            self.damage[row_id] = error
            return True
        return False

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

    def kept_of(self, stage: Stage, row_id: str, rows: Mapping[str, Row]) -> Any:
        """What a stage that this one can do without has kept of an image.

        Args:
            stage: of ``reads``, not upstream: the trunk, SAM's embeddings.
            row_id: digest of the image.
            rows: of that stage.

        Returns:
            What ``stage.read`` gives; None: nothing is kept, or it was damaged and the run does not
            have that stage.

        Raises:
            DamagedRow: it is damaged, and is computed again first.
        """
        if row_id not in rows:
            return None
        try:
            return stage.read(rows[row_id])
        except DamagedRow as error:
            if stage.name in self.run.settings.stages:
                raise
            error.table.strike(error.rows)
            return None

    def mend(self, errors: Iterable[DamagedRow], shard: int = 0) -> None:
        """Strike damaged rows, of this stage or of those below it, and compute them again.

        Args:
            errors: the damage that was found.
            shard: number of the worker.

        Raises:
            DamagedRow: rows that were computed again more than once already.
            UserError: they cannot be computed.
        """
        by_stage: dict[Stage, list[DamagedRow]] = {}
        for error in errors:
            stage = self._stage_of(error)
            if stage is None or not self.can_be_mended(error):
                raise error
            by_stage.setdefault(stage, []).append(error)
        for stage, of_stage in by_stage.items():
            stage._compute_again(of_stage, shard)

    def _compute_again(self, errors: Sequence[DamagedRow], shard: int) -> None:
        """Strike rows of this stage, unless that was done already, and compute them."""
        damaged = {row.place: row for error in errors for row in error.rows}
        with self._mending:
            now = self.rows()
            there = [r for r in damaged.values() if r.id in now and now[r.id].place == r.place]
            if there:  # else another shard or process has seen to it
                errors[0].table.strike(there)
                self.run.reporter.note(
                    f"{self.name}: stored data of {len(there)} {self.unit} in "
                    f"{self.artifact.path} are damaged; they are computed again"
                )
                struck = [row.id for row in there]
                self._mended.update(struck)
                self.fresh.difference_update(struck)
                self.failed.difference_update(struck)
            wanted = set(self.wanted())  # the store may hold other datasets too
            ids = dict.fromkeys(row.id for row in damaged.values())
            Filling(self, [row_id for row_id in ids if row_id in wanted], shard).run()

    def complete(self, ids: Sequence[str], shard: int) -> None:
        """Compute what a stage above this one needs and what was struck since this one was done."""
        if not self._executed:
            return
        with self._mending:
            lacking = [row_id for row_id in self.missing(ids) if row_id not in self.failed]
            if lacking:
                Filling(self, lacking, shard).run()

    def can_be_mended(self, error: DamagedRow) -> bool:
        """Whether damaged rows are of a stage of the run, and were not mended too often already."""
        stage = self._stage_of(error)
        return stage is not None and all(stage._mended[row.id] < MOST_MENDED for row in error.rows)

    def _stage_of(self, error: DamagedRow) -> Stage | None:
        """The stage that computes damaged rows: this one, or one that it reads."""
        if error.table.artifact.path == self.artifact.path:
            return self
        found = (stage._stage_of(error) for stage in self.reads)
        return next((stage for stage in found if stage), None)

    @cached_property
    def artifact(self) -> Artifact:
        """The folder in the store."""
        identity = Identity(
            stage=self.name,
            version=self.version,
            settings=self.settings(),
            upstream={stage.name: stage.artifact.identity.key for stage in self.upstream},
            weights_sha256=self.weights_sha256(),
        )
        return Artifact(self.run.root, identity)

    @property
    def key(self) -> str:
        """The artifact's key."""
        return self.artifact.identity.key

    @property
    def forced(self) -> bool:
        """Whether the user wants it computed again, or one that it reads."""
        return self.name in self.run.settings.force or any(up.forced for up in self.upstream)

    def rows(self) -> dict[str, Row]:
        """The rows that are there, by id."""
        return self.artifact.rows()

    def missing(self, ids: Sequence[str]) -> Sequence[str]:
        """Those that have to be computed: not there, or to be made anew and not so yet."""
        now = self.rows()
        if not self.forced:
            return [row_id for row_id in ids if row_id not in now]
        old = self._old
        return [
            row_id
            for row_id in ids
            if row_id not in self.fresh
            and (old is None or row_id not in now or now[row_id].place == old.get(row_id))
        ]

    def execute(self, shard: int = 0, shards: int = 1) -> Outcome:
        """Compute what is missing, and at once what stages ``together`` with this lack of it.

        Args:
            shard: which part of the rows, from 0.
            shards: how many parts there are.
        """
        started = time.perf_counter()
        self._look_at_artifact()
        self._executed = True
        ids = self.wanted()[shard::shards]
        missing = self.missing(ids)
        made = [self.made[row_id] for row_id in ids if row_id in self.made]
        filling = Filling(self, ids, shard)
        filling.run()
        stored, elapsed = filling.stored, time.perf_counter() - started
        others = sum(len(rows) for stage, rows in stored.items() if stage is not self)
        per_row = elapsed / max(1, sum(map(len, stored.values())))
        by_others = set(missing) - {*stored[self], *self.failed} - {*self.missing(missing)}
        outcome = Outcome(
            stage=self.name,
            key=self.key,
            path=str(self.artifact.path),
            cached=len(ids) - len(missing) - len(made) + len(by_others),
            computed=len(stored[self]) + len(made),
            seconds=elapsed - per_row * others + sum(made),
            unit=self.unit,
        )
        self.run.finished(outcome, shards)
        return outcome

    def _look_at_artifact(self) -> None:
        """Before the first row: mend what describes the artifact, remember what is to be replaced.

        Raises:
            UserError: the folder holds other settings than its name says.
        """
        with self.run.lock:
            if self.forced and self._old is None:
                self._old = {row_id: row.place for row_id, row in self.rows().items()}
            if not self.artifact.path.is_dir():
                return
            note, path = self.run.reporter.note, self.artifact.path
            with suppress(DiskError):  # where nothing can be written, reading is still possible
                if self.artifact.create(self.run.provenance()):
                    note(f"{self.name}: manifest.json in {path} was damaged; it is written again")
            odd = self.artifact.ledger.odd_lines()
            if odd:
                number, fault = next(iter(odd.items()))
                others = f" and {len(odd) - 1} others" if len(odd) > 1 else ""
                note(
                    f"{self.name}: line {number} of {path / 'ledger.jsonl'}{others} cannot be used "
                    f"({fault}); rows that no other line has are computed again"
                )
                with suppress(DiskError):
                    self.artifact.ledger.repair()

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
            batch = Batch(writer, self.batch_rows, note)
            try:
                yield batch
            finally:
                batch.close()

    def status(self) -> Status:
        """What ``execute`` would do, and why."""
        wanted = self.wanted()
        missing = len(self.missing(wanted))
        done = len(wanted) - missing
        state: Literal["complete", "partial", "missing"] = "partial"
        if missing == 0:
            state, reason = "complete", f"all {len(wanted)} {self.unit} are there"
        elif self.forced:
            state, reason = "missing", "asked for by --force, or reads a stage that is"
        elif done:
            reason = f"{missing} of {len(wanted)} {self.unit} are not there yet"
        else:
            state, reason = "missing", self._difference()
        path = str(self.artifact.path)
        return Status(self.name, self.key, state, reason, path, done, len(wanted))

    def _difference(self) -> str:
        """What sets this artifact apart from the most similar one of the stage."""
        manifests = sorted(self.artifact.path.parent.glob("*/manifest.json"))
        identity = _flat(self.artifact.identity.as_dict())
        if self.artifact.path.is_dir():
            return "these settings are new for these " + self.unit
        differences: list[list[str]] = []
        for path in manifests:
            try:
                other = _flat(identity_in(path).as_dict())
            except (OSError, ValueError):
                continue
            differences.append(
                [
                    _change(key, other.get(key), now)
                    for key, now in identity.items()
                    if other.get(key) != now
                ]
            )
        if not differences:
            return "nothing computed yet"
        return "changed: " + ", ".join(sorted(differences, key=len)[0])


def _flat(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Settings and upstream keys side by side."""
    flat = {"version": identity.get("version"), "weights": identity.get("weights_sha256")}
    upstream = {f"another {stage}": key for stage, key in identity.get("upstream", {}).items()}
    return {**flat, **identity.get("settings", {}), **upstream}


def _change(name: str, before: Any, now: Any) -> str:
    """``pamr_steps 10 -> 5``; what is long, or a key, by name alone."""
    text = f"{name} {before} -> {now}"
    return name if len(text) > 60 or name.startswith("another ") else text
