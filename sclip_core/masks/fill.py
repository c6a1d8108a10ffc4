"""Masks filled with labels: which label a mask gets, and which mask is on top.

Three rules label a mask: ``vote``, the label of most of its pixels; ``pool``, the best class of the
mean logits of its pixels; ``crop``, the best class of CLIP's embedding of the masked crop. The last
one without any dense labels is the method that dense CLIP is compared with.

Where masks overlap the smaller one is on top: proposals hold objects and their parts, and a part
below its object would never be seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from typing import Protocol as Interface

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sclip_core.config import Protocol, UserError
from sclip_core.masks.proposals import Proposals
from sclip_core.segmentation.decision import Below, Labels, apply_thresholds, decisions
from sclip_core.segmentation.refiner import Refiner
from sclip_core.segmentation.stitch import Stitcher
from sclip_core.tensors import is_finite


class Bank(Interface):
    """What a rule reads of the words, such as ``sclip_core.TextBank``."""

    @property
    def embeddings(self) -> Tensor:
        """(Q, D)."""

    @property
    def query_class(self) -> Tensor:
        """(Q,)."""

    @property
    def num_classes(self) -> int:
        """Of the vocabulary."""


@dataclass(frozen=True)
class Evidence:
    """What a rule may read; the scores are computed only if it does."""

    proposals: Proposals
    base: Labels  # (H, W), the labels of pixels without a mask
    query_class: Tensor  # (Q,) int64, the class of each query, ascending
    num_classes: int
    protocol: Protocol
    scores: Callable[[], Tensor] | None = None  # (M, Q), a logit for each mask and query


def vote(evidence: Evidence) -> Labels:
    """Fill every mask with the label of most of its pixels in ``base``; ties: the lower class.

    Labels of no class do not count; a mask that holds no others keeps them.

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
    """Fill every mask with the best class of its scores, by the protocol's rules for pixels.

    ``prob_thd``: masks whose best class is less probable get class 0; ``area_thd``: classes whose
    area in the whole map is too small are excluded, and their masks get the next best class.

    Returns:
        (H, W), of the dtype of ``base``.

    Raises:
        UserError: the scores are not finite numbers.
    """
    if evidence.scores is None:
        raise ValueError("this rule needs scores; found Evidence without them")
    if not len(evidence.proposals):
        return evidence.base.copy()
    logits = evidence.scores().T[:, :, None]  # (Q, M, 1): masks as the pixels of an image
    if not is_finite(logits):
        raise UserError(
            "the scores of masks and words hold NaN or infinite numbers: try --dtype fp32, and "
            "check the weights"
        )
    (of_masks,) = decisions(
        lambda: [logits], evidence.query_class, evidence.num_classes, [evidence.protocol]
    )

    def of_pixels(excluded: NDArray[np.bool_] | None) -> tuple[Below, Labels]:
        """The decision of masks, painted over the pixels."""
        below, classes = of_masks(excluded)
        fill = partial(painted, evidence.proposals)
        unsure = None
        if below is not None:
            unsure = fill(below[:, 0], np.zeros(evidence.base.shape, np.bool_))
        return unsure, fill(classes[:, 0], evidence.base)

    return apply_thresholds(of_pixels, evidence.num_classes, evidence.protocol)


def filled(
    proposals: Proposals,
    labels: Labels,
    refiner: Refiner,
    bank: Bank,
    rule: str,
    of_crops: Callable[[], Tensor],
) -> Labels:
    """The labels of an image with its masks filled by a rule.

    Args:
        proposals: the masks.
        labels: (H, W) of its pixels.
        refiner: what the labels were made with.
        bank: of the words.
        rule: of ``RULES``.
        of_crops: gives CLIP's features (M, D) of the masks' crops.
    """

    def scores() -> Tensor:
        """A logit for each mask and word."""
        if rule == "crop":
            return (of_crops() @ bank.embeddings.T).cpu()
        stitcher = Stitcher(refiner.geometry)
        return pooled_logits(proposals, stitcher, refiner.features.cpu(), bank.embeddings.cpu())

    words = bank.query_class.cpu()
    evidence = Evidence(proposals, labels, words, bank.num_classes, refiner.protocol, scores)
    return RULES[rule](evidence)


def painted(proposals: Proposals, values: NDArray[Any], base: NDArray[Any]) -> NDArray[Any]:
    """Paint masks over a map, the larger ones first.

    Args:
        proposals: M masks; of those of one size the earlier is on top, as it is the better one.
        values: (M,) what to paint; masks with a negative value are left out.
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
    """The mean of every query's logits over the pixels of each mask, without PAMR.

    Stitching and resizing are linear, so a mean over pixels is a weighted mean over patches, and
    logits of pixels are never computed. PAMR would move boundaries by a few pixels, and a mask has
    its own boundary.

    Args:
        proposals: M masks.
        stitcher: of the image's windows, on the CPU.
        features: (windows, rows, columns, D), unit length.
        embeddings: (Q, D) of the queries, unit length.

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
