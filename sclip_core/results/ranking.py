"""Which images to look at first: the worst and the best of a run, and what changed between runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from sclip_core.evaluation.areas import Areas
from sclip_core.evaluation.scores import mean_defined, percent
from sclip_core.evaluation.sparse import SparseAreas


def image_scores(areas: Sequence[Areas | SparseAreas]) -> NDArray[np.float64]:
    """The mIoU (K, N) of single images in percent, for K runs of N images."""
    blocks = ([each] if isinstance(each, Areas) else each.blocks() for each in areas)
    return np.stack([np.concatenate([_scores_of(block) for block in run]) for run in blocks])


def _scores_of(areas: Areas) -> NDArray[np.float64]:
    return mean_defined(percent(areas.intersect, areas.union))


def ranked(
    kind: str, scores: NDArray[np.float64], seed: int = 0, taken: Collection[int] = ()
) -> NDArray[np.intp]:
    """The places of images, the first to look at first; those without a score are left out.

    Args:
        kind: ``worst`` or ``best`` of the first run; ``changed``: by the distance between the
            highest and the lowest score, without those that did not change; or ``random``.
        scores: (K, N) mIoU of each, in percent.
        seed: of ``random``.
        taken: places that ``random`` leaves out.
    """
    known = np.flatnonzero(~np.isnan(scores).any(axis=0))
    if kind == "changed":
        moved = np.ptp(scores[:, known], axis=0)
        order = known[np.argsort(-moved, kind="stable")][: int((moved > 0).sum())]
    elif kind == "random":
        rest = known[~np.isin(known, list(taken))]
        order = rest[np.random.default_rng(seed).permutation(len(rest))]
    else:
        order = known[np.argsort(scores[0, known], kind="stable")]
        order = order[::-1] if kind == "best" else order
    return order
