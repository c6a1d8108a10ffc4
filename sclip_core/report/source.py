"""Images and ground truth of a run that ended some time ago, opened again by what its row says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import resolve
from sclip_core.datasets import (
    Sample,
    decode_image,
    decode_label,
    label_classes,
    read_sample,
)
from sclip_core.datasets.drawn import opened
from sclip_core.store.digests import Digests

OF_DATA = ("dataset", "data_root", "images", "labels", "classes", "ignore_label", "num_samples")
USUALLY_IGNORED = "255"


class Source:
    """The dataset of a run."""

    def __init__(self, root: Path, run: Mapping[str, Any], data_root: Path | None = None) -> None:
        """Open it.

        Args:
            root: the folder of all artifacts.
            run: a row of the table ``runs``.
            data_root: where a benchmark lies now; None: where it lay then.

        Raises:
            UserError: it is not there any more.
        """
        given = {name: run.get(name) for name in OF_DATA}
        if given["ignore_label"] == USUALLY_IGNORED:  # nobody asked for it
            del given["ignore_label"]
        if given["images"] is not None:
            given |= {"data_root": None, "vocabulary": run.get("vocabulary")}
            given["reduce_zero_label"] = run.get("reduce_zero_label")
        elif data_root is not None:
            given["data_root"] = data_root
        settings = resolve(**given, artifacts=root)
        self._dataset = opened(settings, lambda line: None)
        self._samples = {sample.image_id: sample for sample in self._dataset.samples}
        self._digests = Digests(root / "digests.jsonl")

    def __contains__(self, image_id: str) -> bool:
        """Whether the dataset still has an image."""
        return image_id in self._samples

    def digest(self, image_id: str) -> str:
        """Of the bytes of an image.

        Raises:
            ImageError: it cannot be read.
        """
        return self._digests.of(self._samples[image_id].image)

    def image(self, image_id: str) -> NDArray[np.uint8]:
        """The pixels (H, W, 3) RGB.

        Raises:
            ImageError: it cannot be read.
        """
        path = self._samples[image_id].image
        return decode_image(read_sample(path), str(path))

    def truth(self, image_id: str) -> NDArray[np.int32]:
        """The classes (H, W); -1 where a pixel is not evaluated.

        Raises:
            ImageError: it cannot be read.
        """
        sample: Sample = self._samples[image_id]
        assert sample.label is not None
        return label_classes(
            decode_label(read_sample(sample.label), str(sample.label)),
            self._dataset.vocabulary.num_classes,
            self._dataset.reduce_zero_label,
            self._dataset.ignore_label,
            str(sample.label),
            self._dataset.layout,
        )
