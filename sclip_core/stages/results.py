"""Stage ``results``: the areas of a dataset to scores, as Parquet tables.

A run's id comes from what went in. The same run twice is one row of ``runs``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, ClassVar, get_args, get_origin

import numpy as np
import pyarrow as pa

from sclip_core.config import Settings, UserError
from sclip_core.config.masks import MaskSettings
from sclip_core.evaluation import UNSAID, Areas, Confusion, Scores, scores, sum_areas
from sclip_core.stages.ground_truth import made_from
from sclip_core.stages.metrics import MetricsStage
from sclip_core.stages.report import Outcome, Status
from sclip_core.stages.run import Run, versions
from sclip_core.store.files import writable_folder
from sclip_core.store.keys import artifact_key
from sclip_core.store.results import SCHEMA_VERSION, has_run, read_run, write_run

# Settings that say where and how fast, not what: no columns of their own.
NOT_RECORDED = {"device", "batch_size", "workers", "shards", "artifacts", "strict", "force"} | {
    "save_vis",
    "dataset",
    "model",
    "pretrained",
    "attention",
    "dtype",
    "keep_trunk",
    "keep_embeddings",
    "points_per_batch",
    "mode",
}
ARROW = {int: pa.int64(), float: pa.float64()}  # all other settings that may be left open: text
# Settings that a run without dense labels does not read.
OF_DENSE = ("short_side", "slide_crop", "slide_stride", "pamr_steps", "pamr_dilations")
LONGEST_NAME = 40  # characters of the dataset's name that the id of a run has: it names files


class ResultsStage:
    """Scores of the run: the tables ``runs``, ``class_iou``, ``confusion`` and ``image_areas``."""

    name: ClassVar[str] = "results"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "run"
    shardable: ClassVar[bool] = False

    def __init__(self, run: Run, metrics: MetricsStage) -> None:
        """Read the areas."""
        self.run = run
        self.metrics = metrics

    @cached_property
    def key(self) -> str:
        """Of the metrics and of the images that they cover."""
        rows = self.metrics.scored()
        by_sample = dict(zip(self.run.samples, self.metrics.row_ids, strict=True))
        row_ids = [by_sample.get(sample) for sample in self.run.dataset.samples]
        identity = {
            "stage": self.name,
            "version": self.version,
            "dataset": self.run.dataset.name,
            "class_names": self.run.dataset.vocabulary.class_names,
            "metrics": self.metrics.key,
            **_named("ground_truth", made_from(self.run.dataset)),
            "images": [
                [sample.image_id, row_id if row_id in rows else None]  # None: left out
                for sample, row_id in zip(self.run.dataset.samples, row_ids, strict=True)
            ],
        }
        return artifact_key(identity)

    @property
    def run_id(self) -> str:
        """Name of the run, and of its files."""
        return run_name(self.run.dataset.name, self.key)

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
        metrics = self.metrics.status()
        if metrics.state == "complete" and has_run(self.run.root, self.run_id):
            reason, path = f"{self.run_id} is there", self.path
            return Status(self.name, self.key, "complete", reason, path, 1, 1)
        waits = "the metrics are not complete" if metrics.state != "complete" else "not written yet"
        path = str(self.run.root / "results")
        return Status(self.name, self.key, "missing", waits, path, 0, 1)

    def execute(self, shard: int = 0, shards: int = 1) -> Outcome:
        """Write the tables, unless they are there.

        Raises:
            UserError: no image could be used, or none has a pixel that is evaluated.
        """
        started = time.perf_counter()
        there = has_run(self.run.root, self.run_id) and not self.forced
        if not there:
            writable_folder(self.run.root)
            write_run(self.run.root, self.run_id, self._tables())
        seconds = time.perf_counter() - started
        outcome = Outcome(
            self.name, self.key, self.path, int(there), int(not there), seconds, self.unit
        )
        self.run.finished(outcome)
        return outcome

    def read(self, table: str = "runs") -> list[dict[str, Any]]:
        """The rows of this run in one of the tables."""
        return read_run(self.run.root, self.run_id, table)

    def _tables(self) -> dict[str, pa.Table]:
        confused = self.metrics.confusions()
        if not confused:
            raise nothing_usable(self.run)
        classes = self.run.dataset.vocabulary.num_classes
        by_image = {image_id: each.areas(classes) for image_id, each in confused.items()}
        summed = sum_areas(by_image.values())
        if not summed.label.any():
            raise nothing_evaluated(self.run, len(by_image))
        scored = scores(summed)
        return {
            "image_areas": self._image_table(by_image),
            "confusion": self._confusion_table(confused.values()),
            "class_iou": self._class_table(summed, scored),
            "runs": self._run_table(scored, len(by_image)),
        }

    def _image_table(self, by_image: dict[str, Areas]) -> pa.Table:
        present = {image_id: np.flatnonzero(areas.union) for image_id, areas in by_image.items()}
        ids = np.repeat(list(present), [len(classes) for classes in present.values()])
        columns = {
            name: np.concatenate([getattr(by_image[i], name)[present[i]] for i in present])
            for name in Areas._fields
        }
        return pa.table(
            {
                "run_id": pa.repeat(self.run_id, len(ids)),
                "image_id": pa.array(ids.tolist(), pa.string()),
                "class_id": pa.array(np.concatenate(list(present.values())), pa.int32()),
                **columns,
            }
        )

    def _confusion_table(self, confused: Iterable[Confusion]) -> pa.Table:
        """Pairs of classes, over the dataset; what was given no class has no prediction."""
        names = [*self.run.dataset.vocabulary.class_names, None]  # the last is at UNSAID
        label, prediction, pixels = np.concatenate([np.stack(each) for each in confused], axis=1)
        width = len(names)
        codes, places = np.unique(label * width + prediction % width, return_inverse=True)
        total = np.zeros(len(codes), np.int64)
        np.add.at(total, places, pixels)
        pairs = np.stack([codes // width, codes % width])
        pairs[1, pairs[1] == width - 1] = UNSAID
        return pa.table(
            {
                "run_id": pa.repeat(self.run_id, len(total)),
                "label_id": pa.array(pairs[0], pa.int32()),
                "label_name": pa.array([names[i] for i in pairs[0]], pa.string()),
                "prediction_id": pa.array(pairs[1], pa.int32(), mask=pairs[1] == UNSAID),
                "prediction_name": pa.array([names[i] for i in pairs[1]], pa.string()),
                "pixels": total,
            }
        )

    def _class_table(self, summed: Areas, scored: Scores) -> pa.Table:
        names = self.run.dataset.vocabulary.class_names
        return pa.table(
            {
                "run_id": pa.repeat(self.run_id, len(names)),
                "class_id": pa.array(range(len(names)), pa.int32()),
                "class_name": list(names),
                "intersect": summed.intersect,
                "union": summed.union,
                "prediction": summed.prediction,
                "label": summed.label,
                "iou": pa.array(scored.iou, from_pandas=True),  # NaN: null
                "acc": pa.array(scored.acc, from_pandas=True),
            }
        )

    def _run_table(self, scored: Scores, num_images: int) -> pa.Table:
        run = self.run
        row: dict[str, Any] = {
            "run_id": self.run_id,
            "created_at": datetime.now(UTC),
            "dataset": run.dataset.name,
            "mode": run.settings.mode,
            "model": run.spec.name,
            "pretrained": run.spec.pretrained,
            "weights_sha256": run.weights_sha256,
            "sam_sha256": run.sam_sha256 if _by_sam(run.settings) else None,
            "attention": str(run.attention) if run.settings.mode != "baseline" else None,
            "dtype": run.dtype,
            "ground_truth": made_from(run.dataset),
            **_recorded(run.settings),
            "num_images": num_images,
            "num_failed": len(run.failures),
            "miou": scored.miou,
            "macc": scored.macc,
            "aacc": scored.aacc,
        }
        for name, outcome in run.outcomes.items():
            row[f"seconds_{name}"] = outcome.seconds
            row[f"state_{name}"] = outcome.state
            row[f"key_{name}"] = outcome.key
        row["versions"] = json.dumps(versions())
        row["schema_version"] = SCHEMA_VERSION
        return _typed(pa.Table.from_pylist([row]))


def _named(name: str, value: str | None) -> dict[str, str]:
    """What there is to be said; what is not known changes no key."""
    return {} if value is None else {name: value}


def run_name(dataset: str, key: str) -> str:
    """A name for files: the dataset and the key; begins as no hidden file and no flag does."""
    letters = dataset[:LONGEST_NAME]
    name = "".join(c if c.isalnum() or c in "_-" else "_" for c in letters).strip("_-")
    return f"{name or 'run'}-{key[:12]}"


def nothing_usable(run: Run) -> UserError:
    """The error of a run whose images all failed; it names the first."""
    first = next(iter(run.failures.values()), "the dataset is empty")
    return UserError(f"none of the {len(run.dataset)} images could be used: {first}")


def nothing_evaluated(run: Run, count: int) -> UserError:
    """The error of a run whose label maps hold nothing but ignored values."""
    dataset = run.dataset
    ignored = ", ".join(map(str, dataset.ignore_label))
    zero = ", and 0 (--reduce-zero-label)" if dataset.reduce_zero_label else ""
    return UserError(
        f"{dataset.name}: none of the {count:,} label maps has a pixel to evaluate, all have "
        f"ignored values ({ignored}{zero}): there is no score; are they the maps of another set, "
        "or is --ignore-label wrong?"
    )


def _typed(table: pa.Table) -> pa.Table:
    """Every run's file has the same types: what is not set has the one that it would have."""
    fields = [
        field.with_type(_unset(field.name)) if pa.types.is_null(field.type) else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))


def _by_sam(settings: Settings) -> bool:
    """Whether the run has masks of SAM's."""
    return settings.mode != "dense" and settings.proposals == "sam"


def _unset(name: str) -> pa.DataType:
    """The type of a setting's column that has no value."""
    field = Settings.model_fields.get(name)
    listed = field is not None and get_origin(field.annotation) is tuple  # kept as text
    kinds = _leaves(field.annotation) if field and not listed else []
    return next((ARROW[kind] for kind in kinds if kind in ARROW), pa.string())


def _leaves(annotation: Any) -> list[Any]:
    """The plain types in an annotation."""
    inner = get_args(annotation)
    return [leaf for part in inner for leaf in _leaves(part)] if inner else [annotation]


def _recorded(settings: Settings) -> dict[str, Any]:
    """The settings that become columns; paths and lists as text, those that nobody reads unset."""
    plain = settings.model_dump(mode="json", exclude=NOT_RECORDED)
    masks = settings.mode != "dense"
    read = {"proposals", *settings.relevant()} if masks else set()
    if settings.mode == "baseline":
        plain.update(dict.fromkeys(OF_DENSE))
    if not _by_sam(settings):
        plain["sam_checkpoint"] = None
    plain.update(dict.fromkeys(MaskSettings.model_fields.keys() - read))
    plain |= {"templates": settings.template_set, "hybrid_rule": settings.rule}
    return {k: ",".join(map(str, v)) if isinstance(v, list) else v for k, v in plain.items()}
