"""Stage ``metrics``: label maps against ground truth: what every pixel is and was called."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import ImageError
from sclip_core.datasets import Sample, check_sizes
from sclip_core.datasets.sample_columns import without_labels
from sclip_core.evaluation import Confusion, SparseAreas, Tally, image_confusion
from sclip_core.pipeline.inputs import grouped
from sclip_core.pipeline.run import Run
from sclip_core.pipeline.sharing import SharingStage
from sclip_core.pipeline.stage import Stage
from sclip_core.pipeline.stages.label_maps import LabelMap, LabelMapStage
from sclip_core.store.arrays import DamagedRow, NewRow, RowGone
from sclip_core.store.hex_columns import Hex
from sclip_core.store.ledger import Row
from sclip_core.store.ledger_rows import there
from sclip_core.store.parts import PartTable
from sclip_core.store.tables import part_table

AT_ONCE = 4096  # rows that are read together
Shape = tuple[int, ...]
# Of a row's id, its sample and the shape of its ground truth: the label map, and the value of
# pixels without a label; None: all have one.
Predicted = Callable[[str, Sample, Shape], tuple[LabelMap, int | None]]


class Scored(NamedTuple):
    """What the pixels of the images that are scored were called."""

    ids: list[str]  # of the N images, in the dataset's order
    areas: SparseAreas  # (N, C)
    confusion: Confusion  # over all of them


class MetricsStage(SharingStage):
    """One row an image and its ground truth: pixels by class and by what they were called."""

    name = "metrics"
    version = 2  # 2: pairs of classes, from which the areas follow
    batch_rows = 64
    columns: ClassVar[tuple[str, ...]] = Confusion._fields  # of a row

    def __init__(self, run: Run, labels: LabelMapStage | None) -> None:
        """Connect the stage to the label maps that it scores; None: they are of no stage."""
        super().__init__(run, *([labels] if labels else []))
        self._labels = labels

    def settings(self) -> dict[str, Any]:
        """How ground truth is read."""
        dataset = self.run.inputs.dataset
        words = dataset.vocabulary
        settings: dict[str, Any] = {
            "num_classes": words.num_classes,
            "reduce_zero_label": dataset.reduce_zero_label,
            "ignore_label": sorted(dataset.ignore_label),
        }
        if words.labels or words.ignored:
            settings["labels"] = [list(words.numbers), [number for number, _ in words.ignored]]
        if dataset.palette is not None:
            settings["palette"] = [dataset.palette.codes, dataset.palette.classes]
        if any(without_labels(dataset.samples)):
            settings["empty"] = "background" if dataset.has_background else None
        return settings

    @cached_property
    def row_ids(self) -> Sequence[str]:
        """Of each sample, in order: the digests of its image and of its label map."""
        images, labels = self.run.inputs.image_digests, self.run.inputs.label_digests
        if isinstance(images, Hex) and isinstance(labels, Hex):
            return images.joined(labels)
        return [f"{image}:{label}" for image, label in zip(images, labels, strict=True)]

    def samples_of(self, row_id: str) -> Sequence[Sample]:
        """The samples with this image and this ground truth."""
        return self._by_row.get(row_id, ())

    @cached_property
    def _by_row(self) -> Mapping[str, Sequence[Sample]]:
        return grouped(self.row_ids, self.run.inputs.samples)

    @cached_property
    def _samples(self) -> dict[str, Sample]:
        """By the id of a row, one of the samples that it stands for."""
        return dict(zip(self.row_ids, self.run.inputs.samples, strict=True))

    def wanted(self) -> Sequence[str]:
        """Pairs of image and ground truth, each once."""
        ids = self.row_ids
        return ids.unique() if isinstance(ids, Hex) else list(dict.fromkeys(ids))

    def image_of(self, row_id: str) -> str:
        """The image's digest, which an id begins with."""
        return row_id.split(":")[0]

    @cached_property
    def table(self) -> PartTable:
        """(rows, columns) integers an image."""
        return part_table(self.artifact, self.columns)

    def measure(
        self,
        prediction: LabelMap,
        truth: NDArray[np.int32],
        num_classes: int,
        unlabelled: int | None,
    ) -> NDArray[np.int64]:
        """What is stored of an image, (rows, columns); arguments as of ``image_areas``."""
        return np.stack(image_confusion(prediction, truth, num_classes, unlabelled), axis=1)

    def pass_settings(self) -> dict[str, Any]:
        """How ground truth is read."""
        return self.settings()

    def compute_shared(
        self, ids: Iterable[str], others: Mapping[Stage, Set[str]], shard: int
    ) -> Iterator[tuple[Stage, list[NewRow]]]:
        """Compare label maps with ground truth, which is read once, in the threads that read."""
        stages: list[Any] = [self, *others]
        predictions = {stage: stage.predicted() for stage in stages}

        def compare(row_id: str) -> dict[MetricsStage, NDArray[np.int64]]:
            """What each stage that lacks an image stores of it."""
            sample = self._samples[row_id]
            truth = self.run.inputs.ground_truth(sample, row_id.split(":")[1])
            found = {self: self._compared(row_id, truth, predictions[self])}
            for stage in (other for other, lacking in others.items() if row_id in lacking):
                assert isinstance(stage, MetricsStage)
                with suppress(ImageError, DamagedRow, RowGone):  # it then finds this out itself
                    found[stage] = stage._compared(row_id, truth, predictions[stage])
            return found

        for row_id, found in self.loaded(compare, ids):
            for stage, values in found.items():
                yield stage, [NewRow(row_id, values)]

    def _compared(
        self, row_id: str, truth: NDArray[np.int32], predicted: Predicted
    ) -> NDArray[np.int64]:
        """What is stored of an image by the label maps of this run."""
        prediction, unlabelled = predicted(row_id, self._samples[row_id], truth.shape)
        classes = self.run.inputs.dataset.vocabulary.num_classes
        return self.measure(prediction, truth, classes, unlabelled)

    def predicted(self) -> Predicted:
        """What gives the label map of an image, and the value of its pixels without a label."""
        assert self._labels is not None
        labels, labelled = self._labels, self._labels.rows()

        def read(row_id: str, sample: Sample, shape: Shape) -> tuple[LabelMap, int | None]:
            prediction = labels.read(labels.row(self.image_of(row_id), labelled))
            check_sizes(
                prediction.shape[:2], (shape[0], shape[1]), str(sample.label or sample.image)
            )
            return prediction, labels.unlabelled

        return read

    def scored(self, rows: Mapping[str, Row] | None = None) -> list[bool]:
        """For each sample, in order, whether it has a row and was not left out.

        An image that failed now may have an old row.

        Args:
            rows: those that are there; None: as of now.
        """
        scored = there(self.rows() if rows is None else rows, self.row_ids)
        failed = set(self.run.journal.failures)
        if failed:
            pairs = list(zip(self.row_ids, self.run.inputs.samples, strict=True))
            left_out = {row_id for row_id, sample in pairs if sample.image_id in failed}
            scored &= np.fromiter((i not in left_out for i in self.row_ids), bool, len(scored))
        found: list[bool] = scored.tolist()
        return found

    def tally(self) -> Scored:
        """What is stored, of all samples that have it, summed up by image and over the dataset."""
        samples, row_ids = self.run.inputs.samples, self.row_ids
        rows = self.rows()  # once: another process may strike some at any moment
        places = [place for place, there in enumerate(self.scored(rows)) if there]
        tally = Tally(len(places), self.run.inputs.dataset.vocabulary.num_classes)
        # File by file, of which each is read once or twice.
        order = sorted(range(len(places)), key=lambda k: rows[row_ids[places[k]]].segment)
        try:
            for first in range(0, len(order), AT_ONCE):
                some = order[first : first + AT_ONCE]
                values = self.table.read_many(rows[row_ids[places[k]]] for k in some)
                pairs = Confusion(*np.concatenate(values).T)
                tally.add(np.array(some), np.array([len(each) for each in values]), pairs)
        except DamagedRow as error:
            self.mending.mend([error])
            return self.tally()
        ids = [samples[place].image_id for place in places]
        return Scored(ids, tally.areas(), tally.confusion())
