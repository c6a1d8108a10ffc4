"""What all stages have in common: a key, an artifact, and computing only the rows that are missing.

A stage is a class with its own settings, its own rows and its own way to compute them. It knows
nothing of who runs it: a flow, a command, a notebook.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cached_property
from typing import Any, ClassVar, Literal, Protocol

from sclip_core.config import ImageError, UserError
from sclip_core.datasets import Sample
from sclip_core.stages.batch import Batch, Writer
from sclip_core.stages.report import Outcome, Status
from sclip_core.stages.run import Run
from sclip_core.store.arrays import NewRow
from sclip_core.store.artifact import Artifact, Identity
from sclip_core.store.files import writable_folder
from sclip_core.store.ledger import Row


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

    def __init__(self, run: Run, *upstream: Stage) -> None:
        """Place the stage in a run.

        Args:
            run: what all stages share.
            upstream: the stages whose artifacts this one reads.
        """
        self.run = run
        self.upstream = upstream
        self.together: tuple[Stage, ...] = ()  # of other runs, which the same pass can fill
        self._made: dict[str, float] = {}  # by such a pass: rows, and the seconds that each took
        self.fresh: set[str] = set()  # rows that were made in this process, of all with this key

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The settings that decide this stage's result, as plain JSON values."""

    @abstractmethod
    def wanted(self) -> Sequence[str]:
        """Ids of the rows that the run's dataset asks for, in order, each once."""

    @abstractmethod
    def compute(self, todo: Todo, shard: int) -> Iterator[tuple[Stage, list[NewRow]]]:
        """Compute rows, a few at a time; those whose image fails are left out (``leave_out``).

        Args:
            todo: ids of the rows to compute, in order, of this stage and of those ``together``
                with it.
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

    def computable(self, ids: Sequence[str]) -> Sequence[str]:
        """Those ids whose upstream rows are there."""
        return ids

    def samples_of(self, row_id: str) -> Sequence[Sample]:
        """The samples that a row stands for: copies of a file share one."""
        return self.run.samples_of(row_id)

    def leave_out(self, row_id: str, error: ImageError) -> None:
        """Take note of a row that cannot be computed.

        Raises:
            UserError: the run is strict.
        """
        self.run.fail(self.samples_of(row_id), error)
        self.run.reporter.advance(self.name, 1)

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
        rows = ids if self.forced else self.artifact.missing(ids)
        return [row_id for row_id in rows if row_id not in self.fresh]

    def execute(self, shard: int = 0, shards: int = 1) -> Outcome:
        """Compute what is missing, and at once what stages ``together`` with this lack of it.

        Args:
            shard: which part of the rows, from 0.
            shards: how many parts there are.
        """
        started = time.perf_counter()
        ids = self.computable(self.wanted())[shard::shards]
        missing = self.missing(ids)
        made = [self._made[row_id] for row_id in ids if row_id in self._made]
        todo = {self: missing, **{other: other.missing(missing) for other in self.together}}
        stored = self._compute_and_store(todo, shard, len(ids)) if missing else {self: []}
        elapsed = time.perf_counter() - started
        per_row = elapsed / max(1, sum(map(len, stored.values())))
        for other in self.together:
            other._made.update(dict.fromkeys(stored.get(other, []), per_row))
        others = sum(len(rows) for stage, rows in stored.items() if stage is not self)
        for stage, rows in stored.items():
            stage.fresh.update(rows)
        outcome = Outcome(
            stage=self.name,
            key=self.key,
            path=str(self.artifact.path),
            cached=len(ids) - len(missing) - len(made),
            computed=len(stored[self]) + len(made),
            seconds=elapsed - per_row * others + sum(made),
            unit=self.unit,
        )
        self.run.finished(outcome, shards)
        return outcome

    def _compute_and_store(self, todo: Todo, shard: int, total: int) -> dict[Stage, list[str]]:
        """Commit batch after batch, the last ones also where the stage is stopped.

        Returns:
            The ids of the new rows, by stage.
        """
        stored: dict[Stage, list[str]] = {}
        writable_folder(self.run.root)
        self.run.reporter.start(self.name, total, total - len(todo[self]), self.unit)
        with ExitStack() as open_batches:
            batches = {
                stage: open_batches.enter_context(
                    stage._storing(stored.setdefault(stage, []), tells=stage is self)
                )
                for stage, ids in todo.items()
                if ids
            }
            for stage, rows in self.compute(todo, shard):
                batches[stage].add(rows)
                if self.run.stop.is_set():
                    raise UserError(f"{self.name} was stopped; what was computed is kept")
        return stored

    @contextmanager
    def _storing(self, stored: list[str], tells: bool) -> Iterator[Batch]:
        """A place for new rows, all of which are committed in the end, whatever happens.

        Args:
            stored: gets the ids of the rows that were committed.
            tells: whether the user is told of them.
        """

        def note(ids: Sequence[str]) -> None:
            stored.extend(ids)
            if tells:
                self.run.reporter.advance(self.name, len(ids))

        self.artifact.create(self.run.provenance())
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
                other = _flat(json.loads(path.read_text("utf-8")))
            except (OSError, ValueError, AttributeError):
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


Todo = Mapping[Stage, Sequence[str]]  # ids of rows to compute


def _flat(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Settings and upstream keys side by side."""
    flat = {"version": identity.get("version"), "weights": identity.get("weights_sha256")}
    upstream = {f"another {stage}": key for stage, key in identity.get("upstream", {}).items()}
    return {**flat, **identity.get("settings", {}), **upstream}


def _change(name: str, before: Any, now: Any) -> str:
    """``pamr_steps 10 -> 5``; what is long, or a key, by name alone."""
    text = f"{name} {before} -> {now}"
    return name if len(text) > 60 or name.startswith("another ") else text
