"""What became of a run: what its stages did, which images failed, and who is told."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Mapping
from dataclasses import replace
from threading import Lock

from sclip_core.config import UserError
from sclip_core.datasets import Sample
from sclip_core.progress import Outcome, Reporter


class Journal:
    """Outcomes of stages and failures of images.

    Attributes:
        outcomes: what each stage did, by its name.
        failures: why an image could not be used, by its id.
        faults: what is left out of the ground truth of images that are scored, a line each.
    """

    def __init__(self, reporter: Reporter, strict: bool, files: Journal | None = None) -> None:
        """Nothing has happened yet.

        Args:
            reporter: who is told.
            strict: whether the first image that fails ends the run.
            files: has the failures of files that cannot be read, which are those of every run.
        """
        self.reporter = reporter
        self.outcomes: dict[str, Outcome] = {}
        self.failures: ChainMap[str, str] = ChainMap({}, files.failures if files else {})
        self.faults: list[str] = files.faults if files else []
        self._strict = strict
        self._parts: dict[str, dict[str, Outcome]] = {}  # by stage
        self._untold: dict[str, tuple[int, Outcome]] = {}  # by stage and part: shards, all of them
        self._lock = Lock()

    def fail(self, samples: Iterable[Sample], error: UserError) -> None:
        """Take note of an image that cannot be used, or stop where the run is strict.

        Args:
            samples: the image and its copies.
            error: what is wrong with it.

        Raises:
            UserError: the run is strict.
        """
        for sample in samples:
            named = any(str(path) in str(error) for path in sample.files)
            failure = error if named else UserError(f"{sample.image_id}: {error}")
            if self._strict:
                raise UserError(f"{failure} (--strict: stopped here; what was computed is kept)")
            if self.failures.get(sample.image_id) != str(failure):
                self.failures[sample.image_id] = str(failure)
                self.reporter.warn(str(failure))

    def heard(self, failures: Mapping[str, str]) -> None:
        """Take note of images that another process could not use: of each, why."""
        for image_id, why in failures.items():
            if self.failures.get(image_id) != why:
                self.failures[image_id] = why
                self.reporter.warn(why)

    def heard_faults(self, faults: Iterable[str]) -> None:
        """Take note of what another process leaves out of the ground truth."""
        for line in faults:
            if line not in self.faults:
                self.faults.append(line)
                self.reporter.note(line)

    def fault(self, line: str) -> None:
        """Take note of a part of the ground truth that is left out, or stop if the run is strict.

        Raises:
            UserError: the run is strict.
        """
        if self._strict:
            raise UserError(f"{line} (--strict: stopped here; what was computed is kept)")
        self.faults.append(line)
        self.reporter.note(line)

    def finished(self, outcome: Outcome, shards: int = 1, part: str = "") -> None:
        """Take note of what a stage did; the user is told of it once, with its last shard.

        Args:
            outcome: of the stage, or of one of its shards.
            shards: how many there are.
            part: which of several stages of one name it is; they are one in ``outcomes``.
        """
        with self._lock:
            parts = self._parts.setdefault(outcome.stage, {})
            before = parts.get(part) if shards > 1 else None
            parts[part] = whole = before.plus(outcome) if before else outcome
            first, *others = parts.values()
            for other in others:
                first = first.beside(other)
            self.outcomes[outcome.stage] = first
            name = f"{outcome.stage}:{part}" if part else outcome.stage
            seen = self._untold.get(name, (0, whole))[0] + 1
            self._untold[name] = seen, replace(whole, stage=name)
        if seen == shards:
            self.tell()

    def tell(self) -> None:
        """Tell the user of stages some of whose shards are computed elsewhere, or are to follow."""
        with self._lock:
            untold, self._untold = self._untold, {}
        for _, outcome in untold.values():
            self.reporter.finish(outcome)
