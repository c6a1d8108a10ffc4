"""Stages ``metrics`` and ``results`` for label maps that another tool made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sclip_core.config import ImageError, UserError
from sclip_core.datasets import Sample, read_bytes
from sclip_core.datasets.predictions import (
    NO_DIGEST,
    NONE,
    PredictionOptions,
    Predictions,
    checked_size,
    nothing_of,
)
from sclip_core.datasets.record import made_from
from sclip_core.pipeline.run import Run
from sclip_core.pipeline.stages.details import BoundaryStage, DetailStage, ObjectSizesStage
from sclip_core.pipeline.stages.label_maps import LabelMap
from sclip_core.pipeline.stages.metrics import MetricsStage, Predicted, Shape
from sclip_core.pipeline.stages.results import ResultsStage, key_of
from sclip_core.results.recorded import recorded_data
from sclip_core.results.settings import PREDICTIONS

Missing = Literal["refuse", "skip", "empty"]


@dataclass(frozen=True)
class Scoring:
    """What is scored, and how its row in ``runs`` names it."""

    name: str
    options: PredictionOptions
    missing: Missing
    predictions: Predictions


class PredictedMetrics(MetricsStage):
    """One row a prediction and its ground truth."""

    def __init__(self, run: Run, scoring: Scoring) -> None:
        """Connect the stage to the files that it scores."""
        super().__init__(run, None)
        self._predictions = scoring.predictions

    def settings(self) -> dict[str, Any]:
        """How ground truth and predictions are read."""
        return {**super().settings(), "predictions": self._predictions.identity()}

    @cached_property
    def row_ids(self) -> Sequence[str]:
        """Of each sample, in order: the digests of its prediction and of its label map."""
        inputs, predictions = self.run.inputs, self._predictions
        ids = [sample.image_id for sample in inputs.samples]
        there = [i for i in ids if i in predictions]
        digest_of = dict(zip(there, predictions.digests(there, self._of_files), strict=True))
        labels = inputs.label_digests
        return [f"{digest_of.get(i, NO_DIGEST)}:{k}" for i, k in zip(ids, labels, strict=True)]

    def _of_files(self, paths: list[str]) -> list[str]:
        """The sha256 of some files.

        Raises:
            UserError: one cannot be read.
        """
        found: list[str] = []
        for digest in self.run.inputs.data_digests.of_many(paths):
            if isinstance(digest, ImageError):
                raise UserError(str(digest))
            found.append(digest)
        return found

    def predicted(self) -> Predicted:
        """What reads the prediction of an image; a bad one ends the command.

        Scores without it would look like those of all images.
        """
        inputs, predictions = self.run.inputs, self._predictions
        classes = inputs.dataset.vocabulary.num_classes
        dtype = np.min_scalar_type(classes)

        def read(row_id: str, sample: Sample, shape: Shape) -> tuple[LabelMap, int | None]:
            """The label map (H, W), and the value that stands for no class."""
            digest, size = row_id.split(":")[0], (shape[0], shape[1])

            def load(path: Path) -> bytes:
                return inputs.read(path, digest) if predictions.by_file else read_bytes(path)

            try:
                if sample.image_id in predictions:
                    found = predictions.read(sample.image_id, size, load)
                    what = predictions.named(sample.image_id)
                    checked_size(found, size, what, sample.image_id)
                else:
                    found = nothing_of(inputs.dataset, size)
            except ImageError as error:
                raise UserError(str(error)) from None
            return np.where(found == NONE, classes, found).astype(dtype), classes

        return read


class PredictedBoundary(PredictedMetrics, BoundaryStage):
    """The areas near boundaries of predictions."""


class PredictedObjectSizes(PredictedMetrics, ObjectSizesStage):
    """What predictions find of small, medium and large objects."""


class PredictedResults(ResultsStage):
    """Scores of predictions, in the tables of the runs."""

    def __init__(
        self,
        run: Run,
        metrics: PredictedMetrics,
        scoring: Scoring,
        details: Sequence[DetailStage] = (),
    ) -> None:
        """Connect the stage to the areas that it sums up, and to what may be asked for beside."""
        super().__init__(run, metrics, details)
        self._scoring = scoring

    @cached_property
    def key(self) -> str:
        """With the name: the same files by another name are another row."""
        name = self._scoring.name
        return key_of(self.run.inputs.dataset, self.metrics.key, self._images(), name)

    def made_by(self) -> dict[str, Any]:
        """Columns of ``runs``: the name, and where the predictions are; no model is known."""
        scoring, options = self._scoring, self._scoring.options
        return {
            "name": scoring.name,
            "mode": PREDICTIONS,
            **dict.fromkeys(("model", "pretrained", "weights_sha256", "attention", "dtype")),
            "ground_truth": made_from(self.run.inputs.dataset),
            **recorded_data(self.run.settings),
            "predictions": str(options.path),
            "prediction_format": scoring.predictions.format,
            "prediction_values": options.values,
            "prediction_pattern": options.pattern,
            "prediction_palette": None if options.palette is None else str(options.palette),
            "missing_predictions": scoring.missing,
        }
