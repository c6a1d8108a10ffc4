"""What goes into a run: the dataset, the digests of its files, its images and ground truth."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import ImageError, Settings, UserError
from sclip_core.config.parquet import parquet_files
from sclip_core.config.places import ObjectPath, Place
from sclip_core.datasets import (
    Dataset,
    Reading,
    Sample,
    decode_image,
    image_size,
    read_bytes,
    read_sample,
)
from sclip_core.datasets.annotations import in_fractions
from sclip_core.datasets.drawn import folders_of, opened
from sclip_core.datasets.sample_columns import image_files, label_files
from sclip_core.datasets.samples import ANNOTATION_SUFFIXES, folders_called_images, skipped_below
from sclip_core.datasets.survey import spread, survey
from sclip_core.datasets.vocabulary import Vocabulary
from sclip_core.pipeline.journal import Journal
from sclip_core.pipeline.preflight import look_at
from sclip_core.progress import Reporter, WhereLong
from sclip_core.store.digests import Digests
from sclip_core.store.hex_columns import Hex
from sclip_core.store.objects.contents import Contents
from sclip_core.store.objects.digests import DataDigests, ObjectDigests

REMOTE_THREADS = 16  # a read takes 20 to 100 ms, and hardly any work
EMPTY = "empty"  # in place of the digest of a label map, of an image that has none


class Digested(NamedTuple):
    """The samples whose files can be read, in order, and the digests of these."""

    samples: Sequence[Sample]
    images: Hex
    labels: Hex | list[str]  # without ground truth empty
    is_read: NDArray[np.bool_]  # of each sample of the dataset


class Inputs:
    """The files of a run, which other runs of the same command share.

    Attributes:
        digests: of files, remembered beside the artifacts.
        data_digests: of the files and objects of the data.
        journal: has the files that cannot be read.
        reading: how image files become pixels, which is in the keys where it is not as usual.
    """

    def __init__(self, settings: Settings, reporter: Reporter, keep: bool) -> None:
        """Open nothing.

        Args:
            settings: of a run.
            reporter: who is told what a user should know about the data.
            keep: whether digests and drawn label maps are kept below the artifacts.
        """
        self.digests = Digests(settings.local_artifacts / "digests.jsonl", keep=keep)
        self._contents = Contents()
        self.data_digests = DataDigests(
            self.digests, ObjectDigests(settings.artifacts, keep, self._contents)
        )
        self.journal = Journal(reporter, settings.strict)
        self.reading = Reading.of(settings)
        self._settings, self._keep = settings, keep

    @cached_property
    def dataset(self) -> Dataset:
        """Samples and vocabulary; ground truth is drawn where need be, and some of it looked at.

        Raises:
            UserError: it is not there, or its ground truth cannot be used.
        """
        settings, note = self._settings, self.journal.reporter.note
        dataset = opened(settings, note, self._keep)
        for folder in folders_of(dataset, settings.local_artifacts) if self._keep else ():
            with suppress(OSError):
                os.utime(folder)  # the time of its last use, for ``sclip gc``
        for line in (*dataset.vocabulary.notes, *dataset.notes):
            note(line)
        for line in self._about_images(dataset):
            note(line)
        for line in dataset.faults:
            self.journal.fault(line)
        for place in folders_called_images(settings.images) if settings.images else ():
            named = Sample(str(place), place, None)
            self.journal.fail([named], ImageError(f"{place} is a folder: expected an image file"))
        for sample, why in dataset.left_out:
            self.journal.fail([sample], ImageError(why))
        if settings.scored:
            for line in look_at(dataset, settings.takes_all, self.reading):
                note(line)
        return dataset

    def with_words(self, vocabulary: Vocabulary) -> Self:
        """The same files with other words for the same classes."""
        other = copy(self)
        own = (self.dataset, self._digested, self.image_ids)  # read once for both
        other.__dict__["dataset"] = replace(own[0], vocabulary=vocabulary)
        return other

    def only(self, ids: Collection[str]) -> None:
        """Leave the other images out, before any file is read."""
        samples = tuple(s for s in self.dataset.samples if s.image_id in ids)
        self.dataset = replace(self.dataset, samples=samples)

    def _about_images(self, dataset: Dataset) -> list[str]:
        """What a user should know about files and headers of their own images, a line each."""
        settings = self._settings
        if settings.images is None:
            return []
        packed = parquet_files(settings.images)
        skipped = None if packed else skipped_below(settings.images, settings.labels)
        if skipped and settings.labels is None and any(e in skipped for e in ANNOTATION_SUFFIXES):
            skipped += f"; if they are annotations, pass --labels {settings.images}"
        looked_at = spread(dataset.samples)
        labels = {sample.image: sample.label for sample in looked_at}

        def sizes_tell() -> bool:
            return settings.labels is None or not in_fractions(settings.labels)

        found = survey(list(labels), self.reading, settings, settings.scored, sizes_tell, labels)
        if len(looked_at) < len(dataset):
            found.append(
                f"the headers of {len(looked_at):,} of {len(dataset):,} images were looked at, "
                "evenly spread: what is said of files is of these"
            )
        return [*([skipped] if skipped else []), *found]

    @cached_property
    def images(self) -> dict[str, Sample]:
        """The dataset's images by the digest of their bytes, in order; a copy counts once."""
        return dict(zip(self.image_digests, self.samples, strict=True))

    @cached_property
    def image_ids(self) -> Sequence[str]:
        """The digests of the dataset's images, in order, each once."""
        return self._digested.images.unique()

    @property
    def samples(self) -> Sequence[Sample]:
        """The dataset's samples, in order, without those whose files cannot be read."""
        return self._digested.samples

    @property
    def image_digests(self) -> Sequence[str]:
        """The digest of each sample's image, in order."""
        return self._digested.images

    @property
    def label_digests(self) -> Sequence[str]:
        """The digest of each sample's label map, in order."""
        return self._digested.labels

    def is_read(self) -> Sequence[bool]:
        """Of each sample of the dataset, in order, whether its files can be read."""
        return self._digested.is_read.tolist()  # type: ignore[no-any-return]

    @property
    def threads(self) -> int:
        """Threads that read ahead: more where each read waits for object storage."""
        places = (self._settings.images, self._settings.labels)
        remote = any(isinstance(place, ObjectPath) for place in places)
        workers = self._settings.workers
        return max(workers, REMOTE_THREADS) if workers and remote else workers

    def samples_of(self, digest: str) -> Sequence[Sample]:
        """The samples with this image: copies of it share a digest."""
        return self._by_digest.get(digest, ())

    @cached_property
    def _by_digest(self) -> Mapping[str, Sequence[Sample]]:
        return grouped(self.image_digests, self.samples)

    def image(self, digest: str) -> NDArray[np.uint8]:
        """The pixels (H, W, 3) RGB of an image.

        Raises:
            ImageError: it cannot be decoded, or is not the file any more that was digested.
        """
        path = self.images[digest].image
        return decode_image(self.read(path, digest), str(path), self.reading)

    def ground_truth(self, sample: Sample, digest: str | None = None) -> NDArray[np.int32]:
        """The classes (H, W) of a sample's pixels; -1 where they are not evaluated.

        Args:
            sample: of the dataset.
            digest: of the label map, if it is to be stored under it.

        Raises:
            ImageError: not a label map, or with values beyond the classes, or not the file any
                more that was digested.
            UserError: the sample has none.
        """
        if not self._settings.scored:
            raise UserError(f"{sample.image} has no ground truth: pass --labels DIR to score it")
        if sample.label is None:
            data = read_sample(sample.image)
            return self.dataset.empty(image_size(data, str(sample.image), self.reading))
        return self.dataset.classes(sample.label, self.read(sample.label, digest))

    def read(self, path: Place, digest: str | None) -> bytes:
        """What is in a file; under its digest nothing is ever stored of another.

        Raises:
            ImageError: it cannot be read, or is not the file any more that was digested.
        """
        kept = self._contents.get(digest) if digest is not None else None
        if kept is not None:
            return kept
        data = read_bytes(path)
        if digest is not None and hashlib.sha256(data).hexdigest() != digest:
            self.data_digests.forget(path)
            raise ImageError(f"{path} was changed while it was in use: run again")
        return data

    @cached_property
    def _digested(self) -> Digested:
        """The samples with the digests of their files; what cannot be read is noted."""
        samples = self.dataset.samples
        told = WhereLong(self.journal.reporter, "digests", "objects")
        in_column = self.data_digests.in_column
        images, faults = in_column(image_files(samples), told)
        labels: Hex | list[str] = []
        if self._settings.scored:
            found, others = in_column(label_files(samples), told)
            labels = Hex(found)
            if len(found) < len(samples) or others:
                places = [k for k, sample in enumerate(samples) if sample.label_file]
                faults = {places[at]: error for at, error in others.items()} | faults
            if len(found) < len(samples):
                some = iter(labels)
                labels = [next(some) if sample.label_file else EMPTY for sample in samples]
        for at in sorted(faults):
            self.journal.fail([samples[at]], faults[at])
        is_read = np.ones(len(samples), bool)
        is_read[list(faults)] = False
        if not faults:
            return Digested(samples, Hex(images), labels, is_read)
        kept = is_read.nonzero()[0]
        if labels:
            labels = labels.taken(kept) if isinstance(labels, Hex) else [labels[k] for k in kept]
        usable = [sample for sample, good in zip(samples, is_read, strict=True) if good]
        return Digested(usable, Hex(images[kept]), labels, is_read)


def grouped(keys: Iterable[str], samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """Samples by what they have in common, in order."""
    found: dict[str, list[Sample]] = {}
    for key, sample in zip(keys, samples, strict=True):
        found.setdefault(key, []).append(sample)
    return found
