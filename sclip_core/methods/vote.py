"""Regions vote on the labels of their pixels, after the decision.

CorrCLIP (arXiv 2411.10086); docs/methods.md, CorrCLIP.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sclip_core.segmentation.decision import Labels


def vote(labels: Labels, regions: NDArray[np.integer[Any]]) -> Labels:
    """Give every region the label of most of its pixels; ties: the smallest label.

    Args:
        labels: (H, W), after all thresholds.
        regions: (H, W), any ids. The lowest one is what no region covers: it keeps its labels.

    Returns:
        (H, W), a new map of the dtype of ``labels``.

    Raises:
        ValueError: the maps differ in size.
    """
    if labels.shape != regions.shape:
        raise ValueError(f"labels of {labels.shape}, regions of {regions.shape}: expected equal")
    if not labels.size:
        return labels.copy()
    distinct, ids = np.unique(regions, return_inverse=True)
    ids = ids.reshape(labels.shape)  # numpy 2.0 gives it flat
    kinds = int(labels.max()) + 1
    ballots = np.bincount((ids * kinds + labels).ravel(), minlength=len(distinct) * kinds)
    winners = ballots.reshape(len(distinct), kinds).argmax(axis=1).astype(labels.dtype)
    voted: Labels = np.where(ids == 0, labels, winners[ids])
    return voted
