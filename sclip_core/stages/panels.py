"""Pictures of a run: image | ground truth | prediction, one file an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import ImageError
from sclip_core.datasets import Sample
from sclip_core.evaluation import panel
from sclip_core.segmentation.masks.proposals import outlined
from sclip_core.stages.hybrid import HybridStage
from sclip_core.stages.prefetch import prefetch
from sclip_core.stages.refine import RefineStage
from sclip_core.store.files import write_whole, written_to


def save_panels(labels: RefineStage | HybridStage, folder: Path) -> int:
    """Write a panel for every labelled image of the run.

    Args:
        labels: the executed stage.
        folder: where to; an image ``a/b`` becomes ``a/b.png`` in it.

    Returns:
        How many were written.

    Raises:
        UserError: the folder cannot be written to.
    """
    run = labels.run
    rows, vocabulary = labels.rows(), run.dataset.vocabulary
    masks = labels.proposals.rows() if isinstance(labels, HybridStage) else {}
    pairs = zip(run.samples, run.image_digests, strict=True)
    usable = [(s, d) for s, d in pairs if d in rows and s.image_id not in run.failures]
    run.reporter.start("save_vis", len(usable), 0, "pictures")

    def draw(pair: tuple[Sample, str]) -> Path:
        """Write the panel of a sample with this digest of its image; gives its path."""
        sample, digest = pair
        truth = run.ground_truth(sample)
        prediction: NDArray[Any] = labels.read(rows[digest])
        if labels.unlabelled is not None:
            prediction = np.where(prediction == labels.unlabelled, -1, prediction.astype(np.int32))
        names = list(vocabulary.class_names)
        outlines = None
        if isinstance(labels, HybridStage):
            outlines = outlined(labels.proposals.read(masks[digest]))
        picture = panel(run.image(digest), truth, prediction, names, sample.image_id, outlines)
        path = folder / f"{sample.image_id}.png"
        with written_to(path.parent, "pass a folder that can: --save-vis DIR"):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda target: picture.save(target, "PNG"))
        return path

    written = 0
    for (sample, _), path in prefetch(draw, usable, run.settings.workers):
        if isinstance(path, ImageError):
            run.fail([sample], path)
            continue
        written += 1
        run.reporter.advance("save_vis", 1)
    return written
