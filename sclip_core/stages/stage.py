"""What all stages have in common: a key, an artifact, and computing only the rows that are missing.

A stage is a class with its own settings, its own rows and its own way to compute them. It knows
nothing of who runs it: a flow, a command, a notebook.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
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

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The settings that decide this stage's result, as plain JSON values."""

    @abstractmethod
    def wanted(self) -> Sequence[str]:
        """Ids of the rows that the run's dataset asks for, in order, each once."""

    @abstractmethod
    def compute(self, ids: Sequence[str], shard: int) -> Iterator[list[NewRow]]:
        """Compute rows, a few at a time; those whose image fails are left out (``leave_out``).

        Args:
            ids: of the rows to compute.
            shard: number of the worker, to choose a device by.
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

    def execute(self, shard: int = 0, shards: int = 1) -> Outcome:
        """Compute what is missing.

        Args:
            shard: which part of the rows, from 0.
            shards: how many parts there are.
        """
        started = time.perf_counter()
        ids = self.computable(self.wanted())[shard::shards]
        todo = ids if self.forced else self.artifact.missing(ids)
        computed = self._compute_and_store(todo, shard, len(ids)) if todo else 0
        outcome = Outcome(
            stage=self.name,
            key=self.key,
            path=str(self.artifact.path),
            cached=len(ids) - len(todo),
            computed=computed,
            seconds=time.perf_counter() - started,
            unit=self.unit,
        )
        self.run.finished(outcome, shards)
        return outcome

    def _compute_and_store(self, todo: Sequence[str], shard: int, total: int) -> int:
        """Commit batch after batch, the last one also where the stage is stopped.

        Returns:
            The number of new rows.
        """
        computed = 0

        def stored(rows: int) -> None:
            nonlocal computed
            computed += rows
            self.run.reporter.advance(self.name, rows)

        writable_folder(self.run.root)
        self.artifact.create(self.run.provenance())
        self.run.reporter.start(self.name, total, total - len(todo), self.unit)
        with self.table.writer() as writer:
            batch = Batch(writer, self.batch_rows, stored)
            try:
                for rows in self.compute(todo, shard):
                    batch.add(rows)
                    if self.run.stop.is_set():
                        raise UserError(f"{self.name} was stopped; what was computed is kept")
            finally:
                batch.commit()
        return computed

    def status(self) -> Status:
        """What ``execute`` would do, and why."""
        wanted = self.wanted()
        missing = len(wanted) if self.forced else len(self.artifact.missing(wanted))
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


def _flat(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Settings and upstream keys side by side."""
    flat = {"version": identity.get("version"), "weights": identity.get("weights_sha256")}
    upstream = {f"another {stage}": key for stage, key in identity.get("upstream", {}).items()}
    return {**flat, **identity.get("settings", {}), **upstream}


def _change(name: str, before: Any, now: Any) -> str:
    """``pamr_steps 10 -> 5``; what is long, or a key, by name alone."""
    text = f"{name} {before} -> {now}"
    return name if len(text) > 60 or name.startswith("another ") else text
