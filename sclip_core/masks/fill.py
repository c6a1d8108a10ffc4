"""Masks filled with labels: what a mask is, and which mask is on top.

Three rules say what a mask is: ``vote``, the label that most of its pixels have; ``pool``, the
best class of the mean of its pixels' scores; ``crop``, the class that CLIP sees in the masked crop.
The last one without any dense labels is the method that dense CLIP is compared with.

Where masks overlap the smaller one is on top: proposals hold wholes and their parts, and a part
that lies below its whole would never be seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sclip_core.config import Protocol, UserError
from sclip_core.masks.proposals import Proposals
from sclip_core.segmentation.decision import Below, Labels, apply_thresholds, decisions
from sclip_core.segmentation.stitch import Stitcher
from sclip_core.tensors import is_finite


@dataclass(frozen=True)
class Evidence:
    """What a rule may look at; only what it reads is made."""

    proposals: Proposals
    base: Labels  # (H, W), what pixels without a mask get
    query_class: Tensor  # (Q,) int64, the class of each word, ascending
    num_classes: int
    protocol: Protocol
    scores: Callable[[], Tensor] | None = None  # (M, Q), a logit for each mask and word


def vote(evidence: Evidence) -> Labels:
    """Every mask gets the label that most of its pixels have in ``base``; ties: the lower class.

    Labels of no class have no vote; a mask in which there are no others stays as it is.

    Returns:
        (H, W), of the dtype of ``base``.
    """
    proposals, base = evidence.proposals, evidence.base
    turned = np.ascontiguousarray(base.T)
    classes = np.full(len(proposals), -1)
    for number, region in enumerate(proposals.regions()):
        votes = turned[region.columns, region.rows][region.inside]
        ballot = np.bincount(votes, minlength=evidence.num_classes)[: evidence.num_classes]
        if ballot.any():
            classes[number] = ballot.argmax()
    return painted(proposals, classes, base)


def by_scores(evidence: Evidence) -> Labels:
    """Every mask gets the class of its scores, by the protocol's rules for pixels.

    ``prob_thd``: masks whose best class is less probable get class 0; ``area_thd``: classes of too
    small an area in the whole map are dropped, and their masks get their next best.

    Returns:
        (H, W), of the dtype of ``base``.

    Raises:
        UserError: scores that are not finite numbers.
    """
    if evidence.scores is None:
        raise ValueError("this rule needs scores")
    if not len(evidence.proposals):
        return evidence.base.copy()
    logits = evidence.scores().T[:, :, None]  # (Q, M, 1): masks as the pixels of a picture
    if not is_finite(logits):
        raise UserError(
            "the scores of masks and words hold NaN or infinite numbers: try --dtype fp32, and "
            "check the weights"
        )
    (decide,) = decisions(
        lambda: [logits], evidence.query_class, evidence.num_classes, [evidence.protocol]
    )

    def winners(removed: NDArray[np.bool_] | None) -> tuple[Below, Labels]:
        """The decision of masks, as a decision of pixels."""
        below, classes = decide(removed)
        fill = partial(painted, evidence.proposals)
        unsure = None
        if below is not None:
            unsure = fill(below[:, 0], np.zeros(evidence.base.shape, np.bool_))
        return unsure, fill(classes[:, 0], evidence.base)

    return apply_thresholds(winners, evidence.num_classes, evidence.protocol)


def painted(proposals: Proposals, values: NDArray[Any], base: NDArray[Any]) -> NDArray[Any]:
    """Masks painted over a map, the larger ones first.

    Args:
        proposals: M masks; of equal ones in size the earlier is on top, for it is the better.
        values: (M,); of a negative one the mask is left out.
        base: (H, W).

    Returns:
        (H, W), a new map of the dtype of ``base``.
    """
    turned, fill = np.array(base.T, order="C"), np.asarray(values).astype(base.dtype)
    painted_ones = np.flatnonzero(np.asarray(values) >= 0).tolist()
    order = sorted(painted_ones, key=lambda number: (-proposals.areas[number], -number))
    for number, region in zip(order, proposals.regions(order), strict=True):
        np.copyto(turned[region.columns, region.rows], fill[number], where=region.inside)
    return np.ascontiguousarray(turned.T)


def pooled_logits(
    proposals: Proposals, stitcher: Stitcher, features: Tensor, embeddings: Tensor
) -> Tensor:
    """The mean of the words' logits over the pixels of each mask, without making those of pixels.

    Stitching and resizing are linear: a mask's mean of pixels is a weighted mean of patches. Before
    PAMR, which moves a boundary by a few pixels that the mask decides anyway.

    Args:
        proposals: M masks.
        stitcher: of the image, on the CPU.
        features: (windows, rows, columns, D), unit length.
        embeddings: (Q, D), unit length.

    Returns:
        (M, Q) float32; zeros for an empty mask.
    """
    rows, columns = stitcher.rows, stitcher.columns
    weights = torch.zeros(len(proposals), rows.shape[1] * columns.shape[1])
    for number, region in enumerate(proposals.regions()):
        inside = torch.from_numpy(region.inside).float()
        down = rows[region.rows].T @ inside.T  # (patches down, columns)
        weights[number] = (down @ columns[region.columns]).flatten()
    areas = torch.from_numpy(np.maximum(proposals.areas, 1))
    cosines = stitcher.side_by_side(features, embeddings).flatten(1)
    return (weights @ cosines.T) / areas[:, None]


RULES: dict[str, Callable[[Evidence], Labels]] = {
    "vote": vote,
    "pool": by_scores,
    "crop": by_scores,
}
