"""One run: settings, dataset, model and store, each opened when it is first needed.

A run whose artifacts are all there opens no weights; one that only refines loads no model.
"""

from __future__ import annotations

import functools
import platform
import subprocess
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sclip_core.config import ImageError, Settings, UserError
from sclip_core.datasets import Dataset, Sample, label_classes, open_dataset, read_label
from sclip_core.encoder import Attention, ModelSpec, find_device, find_dtype, find_model
from sclip_core.model import SCLIP
from sclip_core.stages.report import Outcome, Reporter, Silent
from sclip_core.store.digests import Digests

PACKAGES = (
    "sclip-benchmark",
    "torch",
    "open_clip_torch",
    "numpy",
    "zarr",
    "opencv-python-headless",
)
LOOK_AT = 8  # label maps, before anything is computed


class Run:
    """What the stages of one run share."""

    def __init__(
        self, settings: Settings, reporter: Reporter | None = None, download: bool = True
    ) -> None:
        """Check what can be checked at once; load nothing.

        Args:
            settings: of the run.
            reporter: who is told about progress; None: nobody.
            download: whether weights named by a tag may be fetched.

        Raises:
            UserError: settings that do not go together, a dataset that is not there.
        """
        self.settings = settings
        self.reporter: Reporter = reporter or Silent()
        self.root = settings.artifacts
        self.attention = Attention.parse(settings.attention)
        self.device = find_device(settings.device)
        self.dtype = find_dtype(settings.dtype, self.device)
        self.dataset: Dataset = open_dataset(settings)
        self._look_at_ground_truth()
        self.outcomes: dict[str, Outcome] = {}
        self.failures: dict[str, str] = {}  # image id: why it could not be used
        self._download = download
        self._models: dict[torch.device, SCLIP] = {}
        self._lock = Lock()

    def _look_at_ground_truth(self) -> None:
        """Read a few label maps before an hour goes into features that cannot be scored.

        Raises:
            UserError: every one of them is wrong, as those of another dataset would be.
        """
        samples = self.dataset.samples
        looked_at = samples[:: -(-len(samples) // LOOK_AT)]
        faults: list[str] = []
        for sample in looked_at:
            try:
                self.ground_truth(sample)
            except ImageError as error:
                faults.append(str(error))
        if len(faults) == len(looked_at):
            raise UserError(f"no label map that was looked at can be used, such as {faults[0]}")

    def ground_truth(self, sample: Sample) -> NDArray[np.int32]:
        """The classes (H, W) of a sample's pixels; -1 where they are not evaluated.

        Raises:
            ImageError: not a label map, or with values beyond the classes.
        """
        dataset = self.dataset
        return label_classes(
            read_label(sample.label),
            dataset.vocabulary.num_classes,
            dataset.reduce_zero_label,
            dataset.ignore_label,
            str(sample.label),
        )

    @cached_property
    def spec(self) -> ModelSpec:
        """Architecture and weights file, found but not loaded."""
        spec = find_model(self.settings.model, self.settings.pretrained, self._download)
        if 0 < self.settings.slide_crop < spec.patch:
            raise UserError(
                f"slide_crop={self.settings.slide_crop} is smaller than a patch of {spec.name}, "
                f"{spec.patch} pixels: take at least that, or 0 for the whole image"
            )
        return spec

    @cached_property
    def weights_sha256(self) -> str:
        """Of the weights file."""
        return self.digests.of(self.spec.weights)

    @cached_property
    def digests(self) -> Digests:
        """Digests of files, remembered beside the artifacts."""
        return Digests(self.root / "digests.jsonl")

    @cached_property
    def images(self) -> dict[str, Sample]:
        """The dataset's images by the digest of their bytes, in order; a copy counts once."""
        return dict(zip(self.image_digests, self.dataset.samples, strict=True))

    @cached_property
    def image_digests(self) -> list[str]:
        """The digest of each sample's image, in order."""
        return self.digests.of_many(sample.image for sample in self.dataset.samples)

    @cached_property
    def label_digests(self) -> list[str]:
        """The digest of each sample's label map, in order."""
        return self.digests.of_many(sample.label for sample in self.dataset.samples)

    def model(self, shard: int = 0) -> SCLIP:
        """The model, loaded once a device; shards go to the GPUs in turn."""
        device = self.device
        if device == torch.device("cuda") and torch.cuda.device_count() > 1:
            device = torch.device("cuda", shard % torch.cuda.device_count())
        with self._lock:
            if device not in self._models:
                self._models[device] = SCLIP(self.spec, self.attention, device, self.dtype)
            return self._models[device]

    def fail(self, stage: str, sample: Sample, error: UserError) -> None:
        """Take note of an image that cannot be used, or stop where the run is strict.

        Raises:
            UserError: the run is strict.
        """
        line = str(error)
        if sample.image_id not in line:
            line = f"{sample.image_id}: {line}"
        if self.settings.strict:
            raise UserError(f"{line} (--strict: stopped here; what was computed is kept)")
        self.failures[sample.image_id] = line
        self.reporter.advance(stage, 1)
        self.reporter.warn(line)

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
