"""Pictures of a run: image | ground truth | prediction, one file an image."""

from __future__ import annotations

from pathlib import Path

from sclip_core.config import ImageError
from sclip_core.datasets import Sample, read_image
from sclip_core.evaluation import panel
from sclip_core.stages.prefetch import prefetch
from sclip_core.stages.refine import RefineStage
from sclip_core.store.files import write_whole


def save_panels(labels: RefineStage, folder: Path) -> int:
    """Write a panel for every labelled image of the run.

    Args:
        labels: the executed stage.
        folder: where to; ``a/b`` becomes ``a_b.png``.

    Returns:
        How many were written.
    """
    run = labels.run
    folder.mkdir(parents=True, exist_ok=True)
    rows, vocabulary = labels.rows(), run.dataset.vocabulary
    pairs = zip(run.dataset.samples, run.image_digests, strict=True)
    usable = [(s, d) for s, d in pairs if d in rows and s.image_id not in run.failures]
    run.reporter.start("save_vis", len(usable), 0, "pictures")

    def draw(pair: tuple[Sample, str]) -> Path:
        sample, digest = pair
        truth = run.ground_truth(sample)
        prediction = labels.read(rows[digest])
        names = list(vocabulary.class_names)
        picture = panel(read_image(sample.image), truth, prediction, names, sample.image_id)
        path = folder / f"{sample.image_id.replace('/', '_')}.png"
        write_whole(path, lambda target: picture.save(target, "PNG"))
        return path

    written = 0
    for (sample, _), path in prefetch(draw, usable, run.settings.workers):
        if isinstance(path, ImageError):
            run.fail("save_vis", sample, path)
            continue
        written += 1
        run.reporter.advance("save_vis", 1)
    return written
