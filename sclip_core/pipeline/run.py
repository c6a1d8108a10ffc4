"""One run: settings, dataset, model and store, each opened when it is first needed.

A run whose artifacts are all there opens no weights; one that only refines loads no model.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import platform
import subprocess
from collections.abc import Iterable, Sequence
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Event, Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sclip_core.config import STAGES, ImageError, Settings, UserError
from sclip_core.datasets import (
    Dataset,
    Sample,
    decode_image,
    decode_label,
    label_classes,
    read_bytes,
)
from sclip_core.datasets.drawn import opened
from sclip_core.encoder import Attention, ModelSpec, check_protocol, find_model
from sclip_core.encoder.clip import CLIP
from sclip_core.masks import superpixels
from sclip_core.masks.sources import open_source
from sclip_core.pipeline import preflight
from sclip_core.pipeline.saving import check_place
from sclip_core.progress import Outcome, Reporter, Silent
from sclip_core.store.digests import Digests
from sclip_core.store.leases import Lease
from sclip_core.tensors.device import DTYPES, find_device, find_dtype

PACKAGES = (
    "sclip-benchmark",
    "torch",
    "open_clip_torch",
    "numpy",
    "zarr",
    "opencv-python-headless",
    "numba",
    "segment-anything",
    "scikit-image",
    "pycocotools",
)
FORCED = {  # what a run lacks where it lacks a stage
    "trunk": " without --keep-trunk",
    "sam_embeddings": " without --use-sam --keep-embeddings",
    "proposals": " without --use-sam",
    "hybrid": " without --use-sam",
    "crop_features": " without --hybrid-rule crop",
    "dense_features": " in the baseline",
    "refine": " in the baseline",
    "metrics": " without --labels",
    "results": " without --labels",
}


class Run:
    """What the stages of one run share."""

    def __init__(
        self, settings: Settings, reporter: Reporter | None = None, download: bool = True
    ) -> None:
        """Check what can be checked at once; load nothing.

        Args:
            settings: of the run.
            reporter: who is told about progress; None: nobody.
            download: whether weights named by a tag may be fetched; False: nothing is written
                either, to look at what a run would do.

        Raises:
            UserError: settings that do not go together, a dataset that is not there.
        """
        self.settings = settings
        self.reporter: Reporter = reporter or Silent()
        self.root = settings.artifacts
        self.attention = Attention.parse(settings.attention)
        self.device = find_device(settings.device)
        self.dtype = find_dtype(settings.dtype, self.device)
        self.dataset: Dataset = opened(settings, self.reporter.note, keep=download)
        for line in preflight.look_at(self) if settings.scored else []:
            self.reporter.note(line)
        self.stages = set(settings.stages)  # of all runs of a command
        self.stop = Event()  # when it is set, the stages end after the batch that they are at
        self.outcomes: dict[str, Outcome] = {}
        self.failures: dict[str, str] = {}  # image id: why it could not be used
        self._download = download
        self._models: dict[tuple[torch.device, str], CLIP] = {}  # by the digest of the weights
        self._proposers: dict[tuple[torch.device, str], Any] = {}
        self.lease = Lease(settings.artifacts)  # the rows that this process computes
        self.lock = Lock()  # of what stages do once, whichever shard begins
        self._lock = Lock()

    @classmethod
    def several(
        cls, settings: Sequence[Settings], reporter: Reporter | None = None, download: bool = True
    ) -> list[Run]:
        """Runs that differ in what may have several values: one dataset, one model.

        Args:
            settings: of the runs, as ``resolve_several`` gives them.
            reporter: see ``Run``.
            download: see ``Run``.

        Raises:
            UserError: settings that do not go together, a dataset or a model that is not there.
        """
        first = cls(settings[0], reporter, download)
        first.stages.update(*(other.stages for other in settings))
        return [first, *(first._variant(other) for other in settings[1:])]

    def _variant(self, settings: Settings) -> Run:
        """This run with other settings; what it has opened, it shares."""
        _ = self.spec, self._digested
        other = copy.copy(self)
        other.settings = settings
        other.attention = Attention.parse(settings.attention)
        other.outcomes, other.failures = {}, dict(self.failures)
        return other

    def image(self, digest: str) -> NDArray[np.uint8]:
        """The pixels (H, W, 3) RGB of an image.

        Raises:
            ImageError: it cannot be decoded, or is not the file any more that was digested.
        """
        path = self.images[digest].image
        return decode_image(self._bytes(path, digest), str(path))

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
        dataset, path = self.dataset, sample.label
        if path is None:
            raise UserError(f"{sample.image} has no ground truth: pass --labels DIR to score it")
        return label_classes(
            decode_label(self._bytes(path, digest), str(path)),
            dataset.vocabulary.num_classes,
            dataset.reduce_zero_label,
            dataset.ignore_label,
            str(path),
            dataset.layout,
        )

    def check(self) -> None:
        """Find what would stop the run only after hours of work.

        Raises:
            UserError: no such model, a folder for pictures that cannot be written to or is needed
                and not given, or a stage forced that the run does not have.
        """
        check_place(self.settings, self.dataset.samples)
        _ = self.spec
        for stage in self.settings.force:
            if stage not in self.stages:
                raise UserError(
                    f"--force {stage}{FORCED.get(stage, '')}: the run has no such stage; it has "
                    f"{', '.join(stage for stage in STAGES if stage in self.stages)}"
                )
        if "proposals" in self.settings.stages:
            self._check_masks()

    def _check_masks(self) -> None:
        """See that the source of masks can be opened, without opening it.

        Raises:
            UserError: a library is not installed, weights that are not there, torn or another's.
        """
        if self.settings.proposals != "sam":
            superpixels.library()
            return
        from sclip_core.masks.sam import loading

        loading.library()
        loading.check_checkpoint(self.settings.sam_model, self.sam_checkpoint)

    def _bytes(self, path: Path, digest: str | None) -> bytes:
        """What is in a file; under its digest nothing is ever stored of another."""
        data = read_bytes(path)
        if digest is not None and hashlib.sha256(data).hexdigest() != digest:
            self.digests.forget(path)
            raise ImageError(f"{path} was changed while it was in use: run again")
        return data

    @cached_property
    def spec(self) -> ModelSpec:
        """Architecture and weights file, found but not loaded."""
        spec = find_model(self.settings.model, self.settings.pretrained, self._download)
        check_protocol(self.settings, spec.patch)
        return spec

    @cached_property
    def weights_sha256(self) -> str:
        """Of the weights file."""
        return self.digests.of(self.spec.weights)

    @cached_property
    def sam_checkpoint(self) -> Path:
        """SAM's weights file, found but not loaded."""
        from sclip_core.masks.sam.loading import find_checkpoint

        settings = self.settings
        return find_checkpoint(settings.sam_model, settings.sam_checkpoint, self._download)

    @cached_property
    def sam_sha256(self) -> str:
        """Of SAM's weights file."""
        return self.digests.of(self.sam_checkpoint)

    @cached_property
    def digests(self) -> Digests:
        """Digests of files, remembered beside the artifacts."""
        return Digests(self.root / "digests.jsonl", keep=self._download)

    @cached_property
    def images(self) -> dict[str, Sample]:
        """The dataset's images by the digest of their bytes, in order; a copy counts once."""
        return dict(zip(self.image_digests, self.samples, strict=True))

    @property
    def samples(self) -> list[Sample]:
        """The dataset's samples, in order, without those whose files cannot be read."""
        return [sample for sample, _, _ in self._digested]

    @property
    def image_digests(self) -> list[str]:
        """The digest of each sample's image, in order."""
        return [digest for _, digest, _ in self._digested]

    @property
    def label_digests(self) -> list[str]:
        """The digest of each sample's label map, in order."""
        return [digest for _, _, digest in self._digested if digest is not None]

    @cached_property
    def _digested(self) -> list[tuple[Sample, str, str | None]]:
        """Each sample with the digests of its files; what cannot be read is noted."""
        samples = self.dataset.samples
        images = self.digests.of_many(sample.image for sample in samples)
        labels = self._digested_labels() if self.settings.scored else [None] * len(samples)
        digested = []
        for sample, image, label in zip(samples, images, labels, strict=True):
            if isinstance(image, ImageError):
                self.fail([sample], image)
            elif isinstance(label, ImageError):
                self.fail([sample], label)
            else:
                digested.append((sample, image, label))
        return digested

    def _digested_labels(self) -> list[str | ImageError | None]:
        """The digest of each sample's label map; of one that cannot be read, the reason."""
        return [*self.digests.of_many(s.label for s in self.dataset.samples if s.label)]

    def samples_of(self, digest: str) -> Sequence[Sample]:
        """The samples with this image: copies of it share a digest."""
        return [sample for sample, image, _ in self._digested if image == digest]

    def model(self, shard: int = 0) -> CLIP:
        """The model, loaded once a device; shards go to the GPUs in turn.

        Runs of several share it, so that its own attention is that of one of them.

        Raises:
            UserError: the weights are not the file any more whose digest is in the keys.
        """
        device = self._device_of(shard)
        with self._lock:
            which = device, self.weights_sha256
            if which not in self._models:
                with self.digests.unchanged(self.spec.weights, self.weights_sha256):
                    loaded = CLIP(self.spec, self.attention, device, self.dtype)
                self._models[which] = loaded
            return self._models[which]

    def proposer(self, shard: int = 0) -> Any:
        """The source of masks, opened once a device; a ``MaskGenerator`` where it is SAM.

        Raises:
            UserError: see ``model``, of SAM's weights.
        """
        device, settings = self._device_of(shard), self.settings
        sam = settings.proposals == "sam"
        with self._lock:
            which = device, self.sam_sha256 if sam else ""
            if which not in self._proposers:
                self._proposers[which] = self._opened_source(device)
                if sam and settings.points_per_batch:
                    self._proposers[which].points_at_once = settings.points_per_batch
            return self._proposers[which]

    def _opened_source(self, device: torch.device) -> Any:
        """The source of masks, on a device."""
        settings, dtype = self.settings, DTYPES[self.dtype]
        if settings.proposals != "sam":
            return open_source(settings, None, device, dtype)
        with self.digests.unchanged(self.sam_checkpoint, self.sam_sha256):
            return open_source(settings, self.sam_checkpoint, device, dtype)

    def _device_of(self, shard: int) -> torch.device:
        """Shards go to the GPUs in turn."""
        if self.device == torch.device("cuda") and torch.cuda.device_count() > 1:
            return torch.device("cuda", shard % torch.cuda.device_count())
        return self.device

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
            if self.settings.strict:
                raise UserError(f"{failure} (--strict: stopped here; what was computed is kept)")
            if self.failures.get(sample.image_id) != str(failure):
                self.failures[sample.image_id] = str(failure)
                self.reporter.warn(str(failure))

    def finished(self, outcome: Outcome, shards: int = 1) -> None:
        """Take note of what a stage, or one of its shards, did."""
        with self._lock:
            before = self.outcomes.get(outcome.stage) if shards > 1 else None
            self.outcomes[outcome.stage] = before.plus(outcome) if before else outcome
        self.reporter.finish(outcome)

    def provenance(self) -> dict[str, Any]:
        """What an artifact was made with; recorded in manifests, never hashed."""
        gpu = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else None
        return {
            "versions": versions(),
            "git_commit": _git_commit(),
            "device": gpu or platform.processor() or platform.machine(),
            "model": self.settings.model,
            "pretrained": self.settings.pretrained,
        }


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that have a say in the numbers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@functools.cache
def _git_commit() -> str | None:
    """The commit of the checkout that this code lies in, if it lies in one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return None
