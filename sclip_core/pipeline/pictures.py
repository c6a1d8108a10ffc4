"""Pictures of a run: image | ground truth, if there is one | prediction, one file an image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sclip_core.config import ImageError
from sclip_core.datasets import Sample
from sclip_core.drawing import panel
from sclip_core.masks.proposals import outlined
from sclip_core.pipeline.rows import prefetch
from sclip_core.pipeline.saving import label_map_path, picture_path
from sclip_core.pipeline.stages.hybrid import HybridStage
from sclip_core.pipeline.stages.label_maps import LabelMapStage
from sclip_core.store.arrays import DamagedRow
from sclip_core.store.files import write_whole, written_to
from sclip_core.store.ledger import Row


def save_panels(labels: LabelMapStage, folder: Path) -> int:
    """Write a panel for every segmented image of the run; without ground truth its label map too.

    Args:
        labels: the executed stage.
        folder: where to; an image ``a/b`` becomes ``a/b.png`` in it, its label map
            ``labels/a/b.png``.

    Returns:
        How many were written.

    Raises:
        UserError: the folder cannot be written to.
    """
    run, inputs, scored = labels.run, labels.run.inputs, labels.run.settings.scored
    rows, vocabulary = labels.rows(), inputs.dataset.vocabulary
    masks = _mask_rows(labels)
    pairs = zip(inputs.samples, inputs.image_digests, strict=True)
    usable = [(s, d) for s, d in pairs if d in rows and s.image_id not in run.journal.failures]
    run.reporter.start("save_vis", len(usable), 0, "pictures")

    def draw(pair: tuple[Sample, str]) -> Path:
        """Write the files of a sample with this digest of its image; gives the panel's path."""
        sample, digest = pair
        truth = inputs.ground_truth(sample) if scored else None
        prediction: NDArray[Any] = labels.read(rows[digest])
        if not scored:
            _save(label_map(labels, prediction), label_map_path(folder, sample.image_id))
        if labels.unlabelled is not None:
            prediction = np.where(prediction == labels.unlabelled, -1, prediction.astype(np.int32))
        names = list(vocabulary.class_names)
        outlines = None
        if isinstance(labels, HybridStage):
            outlines = outlined(labels.proposals.read(masks[digest]))
        picture = panel(inputs.image(digest), truth, prediction, names, sample.image_id, outlines)
        path = picture_path(folder, sample.image_id)
        _save(picture, path)
        return path

    written = 0
    while usable:
        damaged: list[tuple[tuple[Sample, str], DamagedRow]] = []
        for pair, path in prefetch(draw, usable, inputs.threads):
            if isinstance(path, DamagedRow) and labels.mending.possible(path):
                damaged.append((pair, path))
            elif isinstance(path, ImageError):
                run.journal.fail([pair[0]], path)
            else:
                written += 1
                run.reporter.advance("save_vis", 1)
        usable = [pair for pair, _ in damaged]
        labels.mending.mend(error for _, error in damaged)
        rows, masks = labels.rows(), _mask_rows(labels)
        usable = [pair for pair in usable if pair[1] in rows and (not masks or pair[1] in masks)]
    return written


def _mask_rows(labels: LabelMapStage) -> Mapping[str, Row]:
    """The rows of the masks that the label maps were filled from; none of dense labels."""
    return labels.proposals.rows() if isinstance(labels, HybridStage) else {}


def label_map(labels: LabelMapStage, prediction: NDArray[Any]) -> Image.Image:
    """The label map (H, W) as one channel: value k is class k, or the number of the vocabulary.

    8 bits, or 16 where the values need them; pixels without a label, which only the baseline has,
    get the highest value, 255 or 65535.
    """
    vocabulary, none = labels.run.inputs.dataset.vocabulary, labels.unlabelled
    values = vocabulary.as_values(prediction)
    highest = vocabulary.highest_class
    if none is not None:
        highest = none if none > highest else int(np.iinfo(np.uint16).max)
        values = np.where(prediction == none, highest, values)
    return Image.fromarray(values.astype(np.min_scalar_type(highest)))


def _save(picture: Image.Image, path: Path) -> None:
    """Write a PNG, whole or not at all, and the folders above it."""
    with written_to(path.parent, "pass another folder: --save-vis DIR"):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda target: picture.save(target, "PNG"))
