"""Other maps than labels: a word's heat, a patch's likeness, attention; and scores at a pixel."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sclip_core.explore.desk import Answer, Task
from sclip_core.explore.labels import Labeller, Scene, reduced
from sclip_core.explore.refined import watching
from sclip_core.explore.view import Point, shown_size
from sclip_core.methods.attended import attended, check_attends, check_point
from sclip_core.segmentation import Stitcher

MOST_SCORES = 20
HIGHEST = 65_535


class Scored(NamedTuple):
    """The logits (Q,) of all words at a pixel, and whether they are after PAMR."""

    logits: NDArray[np.float32]
    refined: bool


def ranged(values: NDArray[np.float32], **more: Any) -> Answer:
    """A map (H, W) of floats as it is sent: uint16 between its lowest and its highest value."""
    small = reduced(values, shown_size((values.shape[0], values.shape[1])))
    low, high = float(small.min()), float(small.max())
    factor = HIGHEST / (high - low) if high > low else 0.0
    steps = np.rint((small.astype(np.float64) - low) * factor).astype("<u2")
    about = {"shown": list(small.shape), "low": low, "high": high, **more}
    return Answer(about, steps.tobytes())


def heat(labeller: Labeller, scene: Scene, word: str, task: Task) -> NDArray[np.float32]:
    """The best logit of a class, or of one of its words, at every pixel (H, W), before the scale.

    Raises:
        UserError: there is no such class or word.
    """
    queries = scene.words.vocabulary.words_of(" ".join(word.split()))
    logits = labeller.refined(scene, task)
    if logits is not None:
        return logits.best_of(queries)
    task.progress(0, 1, "heat")
    with watching(scene.refiner, scene.settings.pamr_steps, task):
        return np.asarray(scene.refiner.best_of([queries])[0].numpy())


def likeness(scene: Scene, point: Point, task: Task) -> NDArray[np.float32]:
    """Cosine of the feature at a pixel with that of every patch, stitched: (H, W) float32.

    The feature at a pixel is mixed of those of its patches as its logits are.

    Raises:
        UserError: the point is outside of the image.
    """
    geometry, values = scene.features.geometry, scene.features.values
    check_point(point, geometry.original)
    task.progress(0, 1, "likeness")
    stitcher = Stitcher(geometry, values.device)
    patches = torch.nn.functional.normalize(stitcher.mosaic(values).float(), dim=-1)
    line = torch.tensordot(stitcher.rows[point.row], patches, 1)
    mixed = torch.nn.functional.normalize(stitcher.columns[point.column] @ line, dim=-1)
    found: NDArray[np.float32] = stitcher.stitch((patches @ mixed)[None])[0].cpu().numpy()
    return found


def attention(
    labeller: Labeller, scene: Scene, point: Point, task: Task
) -> tuple[NDArray[np.float32], float]:
    """What the patch at a pixel attends to, as of ``SCLIP.attention_of``: (H, W) float32.

    Returns:
        The map, and the share of the weights that patches have; the rest is CLS's.

    Raises:
        UserError: the point is outside of the image, or the method has no such attention.
    """
    check_attends(scene.chosen.method.name if scene.chosen.method else None)
    check_point(point, scene.features.geometry.original)
    clip = labeller.source.clip(scene.collection, task)
    task.progress(0, 1, "attention")
    geometry, windows = clip.windows_of(scene.collection.pixels(scene.image), scene.settings)
    maps = attended(clip.encoder, scene.chosen, geometry, windows, point)
    found: NDArray[np.float32] = maps.mean(dim=0).numpy()
    (height, width), (rows, columns) = geometry.original, geometry.tokens
    per_patch = (height * geometry.frame[0] / (geometry.resized[0] * rows)) * (
        width * geometry.frame[1] / (geometry.resized[1] * columns)
    )
    return found, float(found.sum(dtype=np.float64) / per_patch)


def scored(labeller: Labeller, scene: Scene, point: Point) -> Scored | None:
    """Logits at a pixel from what is in memory; None: nothing is.

    Raises:
        UserError: the point is outside of the image.
    """
    check_point(point, scene.features.geometry.original)
    steps = scene.settings.pamr_steps
    if steps:
        kept = labeller.logits.get((*scene.of_refined, steps))
        if kept is not None:
            return Scored(kept.at(*point), True)
    plain = labeller.cosines.get(scene.of_logits)
    return Scored(plain.at(*point), False) if plain else None


def score_list(scene: Scene, found: Scored) -> list[dict[str, Any]]:
    """The words at a pixel, best first, each with its probability among all."""
    vocabulary, logits = scene.words.vocabulary, found.logits.astype(np.float64)
    scaled = scene.settings.logit_scale * (logits - logits.max())
    likely = np.exp(scaled)
    likely /= likely.sum()
    best = np.argsort(-logits, kind="stable")[:MOST_SCORES]
    return [
        {
            "word": vocabulary.queries[query],
            "class": vocabulary.query_class[query],
            "score": round(float(logits[query]), 6),
            "probability": round(float(likely[query]), 6),
        }
        for query in best.tolist()
    ]
