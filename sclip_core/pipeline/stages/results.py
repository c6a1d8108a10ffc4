"""Stage ``results``: the areas of a dataset to scores, as Parquet tables.

A run's id comes from what went in. The same run twice is one row of ``runs``. Tables that are
damaged or missing are written again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from sclip_core.config import UserError
from sclip_core.config.counts import number_of
from sclip_core.datasets import Dataset
from sclip_core.datasets.record import made_from
from sclip_core.datasets.sample_columns import ids_of
from sclip_core.datasets.vocabulary import Vocabulary
from sclip_core.datasets.word_files import words_sha256
from sclip_core.evaluation import Scores, scores
from sclip_core.pipeline.run import Run
from sclip_core.pipeline.stages.details import DetailStage
from sclip_core.pipeline.stages.metrics import MetricsStage, Scored
from sclip_core.pipeline.work import Work
from sclip_core.progress import Outcome, Status
from sclip_core.provenance import versions
from sclip_core.results.build import class_table, confusion_table, image_tables, run_name
from sclip_core.results.derived import OF_IMAGES, OF_RUNS
from sclip_core.results.files import (
    SCHEMA_VERSION,
    ResultsError,
    check_run,
    has_run,
    read_run,
    write_run,
)
from sclip_core.results.on_demand import fault_of, has_table, write_table
from sclip_core.results.recorded import recorded, typed
from sclip_core.results.settings import ingredients
from sclip_core.store.keys import artifact_key_of_many
from sclip_core.store.places import writable


class ResultsStage:
    """Scores of the run: the tables ``runs``, ``class_iou``, ``confusion`` and ``image_areas``."""

    name: ClassVar[str] = "results"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "run"
    shardable: ClassVar[bool] = False
    label: ClassVar[str] = name
    work: Work

    def __init__(
        self, run: Run, metrics: MetricsStage, details: Sequence[DetailStage] = ()
    ) -> None:
        """Connect the stage to the areas that it sums up, and to what may be asked for beside."""
        self.run = run
        self.metrics = metrics
        self.details = [each for each in details if each.name in run.settings.stages]

    @property
    def reads(self) -> tuple[MetricsStage, ...]:
        """The stages whose rows this one reads."""
        return (self.metrics, *self.details)

    @cached_property
    def key(self) -> str:
        """Of the metrics and of the images that they cover."""
        return key_of(self.run.inputs.dataset, self.metrics.key, self._images())

    def _images(self) -> Iterator[list[str | None]]:
        """Of each image of the dataset, in order: its id and its row's; None: left out."""
        scored = zip(self.metrics.row_ids, self.metrics.scored(), strict=True)
        known = (row_id if there else None for row_id, there in scored)
        # Of the samples of the dataset, those that can be read are known.
        inputs = self.run.inputs
        for image_id, is_read in zip(ids_of(inputs.dataset.samples), inputs.is_read(), strict=True):
            yield [image_id, next(known) if is_read else None]

    @property
    def run_id(self) -> str:
        """Name of the run, and of its files."""
        return run_name(self.run.inputs.dataset.name, self.key)

    @property
    def path(self) -> str:
        """The file of the run in the table ``runs``."""
        return str(self.run.root / "results" / "runs" / f"{self.run_id}.parquet")

    @property
    def forced(self) -> bool:
        """Whether the user wants the tables written again."""
        return self.name in self.run.settings.force or self.metrics.forced

    def status(self) -> Status:
        """What ``execute`` would do, and why."""
        path = str(self.run.root / "results")
        if self.metrics.status().state != "complete":
            waits = "the metrics are not complete"
        elif not has_run(self.run.root, self.run_id):
            waits = "not written yet"
        elif self.forced:
            waits = "asked for by --force"
        elif lacking := self._lacking():
            waits = f"no {lacking[0].table_name} yet"
        elif fault := self._fault():
            waits = str(fault) if fault.later else f"{fault.what}: written again"
        else:
            reason = f"{self.run_id} is there"
            return Status(self.name, self.key, "complete", reason, self.path, 1, 1)
        return Status(self.name, self.key, "missing", waits, path, 0, 1)

    def _fault(self) -> ResultsError | None:
        """Why the tables of a run that is listed cannot be used; None: they can."""
        try:
            check_run(self.run.root, self.run_id)
        except ResultsError as error:
            return error
        return None

    def execute(self, shard: int = 0, shards: int = 1, place: int | None = None) -> Outcome:
        """Write the tables, unless they are there and as they were written.

        Raises:
            UserError: no image could be used, or none has a pixel that is evaluated; an image has
                neither metrics nor an error that says why; a later version wrote the tables.
        """
        started = time.perf_counter()
        self._refuse_gaps(self._scored_images())
        there = self._there()
        if not there:
            key = self.key
            scored = self.metrics.tally()
            # Damaged rows were computed again, or their images left out: then it is another run.
            self.__dict__.pop("key", None)
            there = self.key != key and self._there()
        if not there:
            writable(self.run.root)
            write_run(self.run.root, self.run_id, self._tables(scored))
        lacking = self._lacking()
        for detail in lacking:
            self._write_detail(detail)
        there = there and not lacking
        seconds = time.perf_counter() - started
        outcome = Outcome(
            self.name, self.key, self.path, int(there), int(not there), seconds, self.unit
        )
        self.run.journal.finished(outcome)
        return outcome

    def _lacking(self) -> list[DetailStage]:
        """What was asked for, and has no table in the results that can be used."""
        root, run_id = self.run.root, self.run_id
        return [
            each
            for each in self.details
            if each.forced
            or self.forced
            or not has_table(root, each.table_name, run_id)
            or fault_of(root, each.table_name, run_id)
        ]

    def _write_detail(self, detail: DetailStage) -> None:
        """Write its table, of the images that were scored.

        Raises:
            UserError: some of them have no row, nor an error that says why.
        """
        ids = list(self._scored_images())
        pairs = zip(self.run.inputs.samples, detail.scored(), strict=True)
        there = {sample.image_id for sample, has in pairs if has}
        lost = [image_id for image_id in ids if image_id not in there]
        if lost:
            raise UserError(
                f"{len(lost):,} of {len(ids):,} images have no row in {detail.name}, {lost[0]} is "
                "the first: run again, which computes what is missing"
            )
        writable(self.run.root)
        write_table(self.run.root, self.run_id, detail.table_name, detail.tables(self.run_id, ids))

    def _there(self) -> bool:
        """Whether nothing has to be written; says so where it is because of damage.

        Raises:
            UserError: a later version wrote the tables, which this one does not replace unasked.
        """
        if self.forced or not has_run(self.run.root, self.run_id):
            return False
        fault = self._fault()
        if fault and fault.later:
            raise fault
        if fault:
            self.run.reporter.note(f"{fault.what}: the run's tables are written again")
        return fault is None

    def _scored_images(self) -> Iterator[str]:
        """Ids of the images that have metrics."""
        pairs = zip(self.run.inputs.samples, self.metrics.scored(), strict=True)
        return (sample.image_id for sample, there in pairs if there)

    def _refuse_gaps(self, scored: Iterable[str]) -> None:
        """See that every image is scored, or known to have failed.

        Raises:
            UserError: some are neither: a score without them would look like one of all.
        """
        refuse_gaps(self.run, scored, "metrics")

    def read(self, table: str = "runs") -> list[dict[str, Any]]:
        """The rows of this run in one of the tables."""
        return read_run(self.run.root, self.run_id, table)

    def _tables(self, found: Scored) -> dict[str, pa.Table | Iterator[pa.Table]]:
        """The tables of ``TABLES``, of what the pixels of each image were called."""
        self._refuse_gaps(found.ids)  # rows may have been found damaged on reading
        if not found.ids:
            raise nothing_usable(self.run)
        names = self.run.inputs.dataset.vocabulary.class_names
        summed = found.areas.summed()
        if not summed.label.any():
            raise nothing_evaluated(self.run, len(found.ids))
        scored = scores(summed)
        return {
            "image_areas": image_tables(self.run_id, found.ids, found.areas),
            "confusion": confusion_table(self.run_id, names, found.confusion),
            "class_iou": class_table(self.run_id, names, summed, scored),
            "runs": self._run_table(scored, found),
        }

    def _run_table(self, scored: Scores, found: Scored) -> pa.Table:
        run = self.run
        row: dict[str, Any] = {
            "run_id": self.run_id,
            "created_at": datetime.now(UTC),
            "dataset": run.inputs.dataset.name,
            **self.made_by(),
            "num_images": len(found.ids),
            "num_failed": len(run.journal.failures),
            "miou": scored.miou,
            "macc": scored.macc,
            "aacc": scored.aacc,
            **{name: getattr(scored, name) for name in OF_RUNS},
            **dict(zip(OF_IMAGES, found.areas.fine_grained(), strict=True)),
        }
        row["ingredients"] = ingredients(row)
        for name, outcome in run.journal.outcomes.items():
            row[f"seconds_{name}"] = outcome.seconds
            row[f"state_{name}"] = outcome.state
            row[f"key_{name}"] = outcome.key
        row["versions"] = json.dumps(versions())
        row["schema_version"] = SCHEMA_VERSION
        return typed(pa.Table.from_pylist([row]))

    def made_by(self) -> dict[str, Any]:
        """Columns of ``runs``: what made the label maps, of which images."""
        run, settings, models = self.run, self.run.settings, self.run.models
        dataset = run.inputs.dataset
        by_attention = settings.mode != "baseline" and not run.chosen.method
        return {
            "mode": settings.mode,
            "model": models.spec.name,
            "pretrained": models.spec.pretrained,
            "weights_sha256": models.weights_sha256,
            "sam_sha256": models.masks_sha256 if "proposals" in settings.stages else None,
            "attention": str(run.attention) if by_attention else None,
            "dtype": models.dtype,
            "ground_truth": made_from(dataset),
            **recorded(settings),
            **_words(dataset.vocabulary),
            **self._second_networks(),
        }

    def _second_networks(self) -> dict[str, str | None]:
        """Names of the networks that the method reads beside CLIP, and digests of their weights."""
        models, settings = self.run.models, self.run.settings
        method = self.run.chosen.method if settings.mode != "baseline" else None
        second, sam = bool(method and method.second_taps), bool(method and method.reads_sam)
        return {
            "proxy_model": models.second_spec(settings).name if second else None,
            "proxy_sha256": models.second_sha256(settings) if second else None,
            "proxy_weights": _name(settings.proxy_weights) if second else None,
            "sam_encoder": models.sam_spec(settings).name if sam else None,
            "sam_encoder_sha256": models.sam_trunk_sha256(settings) if sam else None,
        }


def key_of(
    dataset: Dataset, metrics: str, images: Iterable[list[str | None]], name: str | None = None
) -> str:
    """The key of results.

    Args:
        dataset: that is scored.
        metrics: the key of the stage.
        images: of each image of the dataset, in order: its id and its row's; None: left out.
        name: of the tool that made the label maps; None: they are a run's own.
    """
    identity = {
        "stage": ResultsStage.name,
        "version": ResultsStage.version,
        "dataset": dataset.name,
        "class_names": dataset.vocabulary.class_names,
        "metrics": metrics,
        **_named("ground_truth", made_from(dataset)),
        **_named("name", name),
    }
    return artifact_key_of_many(identity, "images", images)


def _words(vocabulary: Vocabulary) -> dict[str, str | None]:
    """What tells the words of a run from others: their digest, and how their list was read."""
    words, distractors = vocabulary.words, vocabulary.distractors
    reading = "closed" if vocabulary.closed else "open"
    return {
        "words_sha256": words_sha256(words, distractors),
        "words_separator": vocabulary.separator,
        "distractors": f"{len(distractors)} {reading}" if distractors else None,
    }


def _named(name: str, value: str | None) -> dict[str, str]:
    """A field of the key, only where its value is known: what is not known changes no key."""
    return {} if value is None else {name: value}


def _name(path: str | None) -> str | None:
    """The name of a file; None: nobody gave one."""
    return Path(path).name if path else None


def refuse_gaps(run: Run, there: Iterable[str], what: str) -> None:
    """See that every image has a result, or is known to have failed.

    Args:
        run: of which all stages but this were executed, in whichever processes.
        there: ids of the images that have it.
        what: they have: ``metrics``, ``a label map``.

    Raises:
        UserError: some are neither: a score without them would look like one of all.
    """
    known, dataset = {*there, *run.journal.failures}, run.inputs.dataset
    lost = [s.image_id for s in dataset.samples if s.image_id not in known]
    if lost:
        kept = "no scores were written" if run.settings.scored else "what there is was saved"
        raise UserError(
            f"{len(lost):,} of {len(dataset):,} images have neither {what} nor an "
            f"error that says why, {lost[0]} is the first: {kept}; run again, "
            "which computes what is missing"
        )


def nothing_usable(run: Run) -> UserError:
    """The error of a run whose images all failed; it names the first."""
    first = next(iter(run.journal.failures.values()), "the dataset is empty")
    images = number_of(len(run.inputs.dataset), "image")
    return UserError(f"none of {images} could be used: {first}")


def nothing_evaluated(run: Run, count: int) -> UserError:
    """The error of a run whose label maps hold nothing but ignored values."""
    dataset = run.inputs.dataset
    ignored = ", ".join(map(str, dataset.ignore_label))
    zero = ", and 0 (--reduce-zero-label)" if dataset.reduce_zero_label else ""
    return UserError(
        f"{dataset.name}: none of the {count:,} label maps has a pixel to evaluate, all have "
        f"ignored values ({ignored}{zero}): there is no score; are they the maps of another set, "
        "or is --ignore-label wrong?"
    )
