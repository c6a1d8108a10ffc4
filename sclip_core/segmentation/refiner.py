"""One image from dense features to labels: stitch, refine, decide, in blocks that fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from sclip_core.config import Geometry, Protocol, UserError
from sclip_core.segmentation import backends
from sclip_core.segmentation.decision import (
    Decision,
    Labels,
    apply_thresholds,
    decisions,
    without,
)
from sclip_core.segmentation.pamr import pamr, receptive_field
from sclip_core.segmentation.refiners import Deciding, Refining, is_whole
from sclip_core.segmentation.stitch import Stitcher
from sclip_core.tensors import is_finite

if TYPE_CHECKING:  # Numba is an extra
    from sclip_core.segmentation.backends.numba_stitch import Stitching

BLOCK_ELEMENTS = 2**28  # of everything that a block of rows needs at once: 1 GB


@dataclass(frozen=True)
class Refiner:
    """Turns the features of one image into logits and labels.

    All methods raise a ``UserError`` where features, embeddings or pixels are not finite numbers:
    comparisons with NaN are false, and the first class would win everywhere.
    """

    geometry: Geometry
    features: Tensor  # (windows, rows, columns, D), unit length
    embeddings: Tensor  # (Q, D), unit length
    protocol: Protocol
    pixels: Callable[[], Tensor] | None = None  # (3, h, w) normalised resized image
    refining: Refining | None = None  # what refines the logits before PAMR, if anything does
    deciding: Deciding | None = None  # a user's, in the place of the best class

    def logits(self) -> Tensor:
        """Logits of all pixels, refined where the protocol has steps: (Q, H, W) float32."""
        blocks = list(self._blocks())
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=1)

    def best_of(self, groups: Sequence[Sequence[int]]) -> Tensor:
        """The best logit of each of some groups of queries; no others are stitched and refined.

        Args:
            groups: K groups of queries, each of indices into the embeddings.

        Returns:
            (K, H, W) float32, on the CPU: the highest of the group's logits, as of ``logits``.
        """
        asked = sorted({query for group in groups for query in group})
        places = [[asked.index(query) for query in group] for group in groups]
        found = torch.empty(len(groups), *self.geometry.original)
        top = 0
        for block in self._blocks(asked):
            rows = slice(top, top + block.shape[1])
            for best, group in zip(found, places, strict=True):
                best[rows] = block[group].amax(dim=0)
            top = rows.stop
        return found

    def labels(self, query_class: Tensor, num_classes: int) -> Labels:
        """Labels (H, W) of all pixels.

        Args:
            query_class: (Q,) int64, the class of each query.
            num_classes: C.
        """
        return self.labels_at([self.protocol], query_class, num_classes)[0]

    def labels_at(
        self,
        protocols: Sequence[Protocol],
        query_class: Tensor,
        num_classes: int,
        may_win: int | None = None,
    ) -> list[Labels]:
        """Labels (H, W) by each of several protocols; what they have in common is done once.

        Args:
            protocols: this one, with other ``pamr_steps``, ``logit_scale``, ``prob_thd`` and
                ``area_thd``; in any order.
            query_class: (Q,) int64, the class of each query.
            num_classes: C.
            may_win: only the first so many classes may; the queries of the others count in the
                softmax alone, and so only where there is a ``prob_thd``. None: all.
        """
        barred = np.arange(num_classes) >= (num_classes if may_win is None else may_win)
        if self.deciding is not None:  # which reads no threshold
            asked = torch.from_numpy(~barred).to(query_class.device)[query_class]
            by_steps = {
                steps: self.deciding.labels(
                    replace(self, protocol=protocol).logits()[asked],
                    query_class[asked],
                    num_classes - int(barred.sum()),
                )
                for steps, protocol in {p.pamr_steps: p for p in protocols}.items()
            }
            return [by_steps[protocol.pamr_steps] for protocol in protocols]
        # Protocols that may exclude the same classes follow each other.
        order = sorted(
            range(len(protocols)), key=lambda k: (protocols[k].pamr_steps, protocols[k].area_thd)
        )
        ordered = [protocols[k] for k in order]
        by_numba = not is_whole(self.refining) and backends.decides_by_numba(self.features.device)
        implementation = self._numba_decisions if by_numba else self._portable_decisions
        each = implementation(ordered, query_class, num_classes)
        labels = {
            place: apply_thresholds(
                without(decision, barred) if barred.any() else decision,
                num_classes,
                protocols[place],
            )
            for place, decision in zip(order, each, strict=True)
        }
        return [labels[place] for place in range(len(protocols))]

    def _numba_decisions(
        self, protocols: Sequence[Protocol], query_class: Tensor, num_classes: int
    ) -> Iterator[Decision]:
        """The decisions by ``backends.numba_decision``; the protocols by ascending steps."""
        from sclip_core.segmentation.backends import numba_decision

        image = self.image_at_original_size() if protocols[-1].pamr_steps else None
        arguments = image, query_class.numpy(), num_classes, protocols
        yield from numba_decision.decisions(self.stitching(), *arguments)

    def stitching(self) -> Stitching:
        """The logits before PAMR as Numba's kernels take them, not yet computed; on a CPU."""
        from sclip_core.segmentation.backends.numba_stitch import Stitching

        if self.refining is not None:
            return Stitching.of_factors(*self.factors())
        stitcher = Stitcher(self.geometry)
        patches = stitcher.mosaic(self.features)
        stitching = Stitching.of(patches, self.embeddings, stitcher.rows, stitcher.columns)
        self._check_finite(torch.from_numpy(stitching.cosines))
        return stitching

    def _portable_decisions(
        self, protocols: Sequence[Protocol], query_class: Tensor, num_classes: int
    ) -> Iterator[Decision]:
        """The decisions by ``decision.decisions``; the protocols by ascending steps.

        Where the image fits in one block, each number of steps goes on from the one before.
        """
        last = replace(self, protocol=protocols[-1])
        fits = last._rows_per_block() >= self.geometry.original[0]
        logits, done = None, 0
        for steps, alike in groupby(protocols, key=lambda protocol: protocol.pamr_steps):
            together = list(alike)
            now = replace(self, protocol=together[0])
            if not fits:
                yield from decisions(now._blocks, query_class, num_classes, together)
                continue
            if logits is None:
                logits = next(now._blocks())
            elif steps > done:
                dilations = self.protocol.pamr_dilations
                logits = pamr(last.image_at_original_size(), logits, steps - done, dilations)
            done = steps
            yield from decisions(partial(iter, [logits]), query_class, num_classes, together)

    def _halo(self) -> int:
        """Rows beyond a block that its refined values depend on."""
        steps = self.protocol.pamr_steps
        return receptive_field(steps, self.protocol.pamr_dilations) if steps else 0

    def _rows_per_block(self, queries: int | None = None) -> int:
        """Rows of a block that keep it, with its halo, within ``BLOCK_ELEMENTS``."""
        height, width = self.geometry.original
        fitting = BLOCK_ELEMENTS // (self._planes(queries) * width)
        if fitting >= height:
            return height
        return max(fitting - 2 * self._halo(), self._halo() // 2, 16)

    def factors(self) -> tuple[Tensor, Tensor, Tensor]:
        """The logits as ``rows @ L[q] @ columns.T``: L (Q, h, w), rows (H, h), columns (W, w)."""
        stitcher = Stitcher(self.geometry, self.features.device)
        cosines = stitcher.side_by_side(self.features, self.embeddings)
        self._check_finite(cosines)
        if self.refining is None:
            return cosines, stitcher.rows, stitcher.columns
        found = self.refining.propagate(
            cosines,
            stitcher.rows,
            stitcher.columns,
            self.image_at_original_size(),
            self.embeddings,
        )
        if not is_finite(found[0]):
            raise UserError(f"refiner '{self.refining.name}' returned numbers that are not finite")
        return found

    def _planes(self, queries: int | None = None) -> int:
        """Numbers that a block of so many queries, or of all, keeps for each of its pixels."""
        queries = queries or len(self.embeddings)
        if not self.protocol.pamr_steps:
            return queries + 4
        # Logits before and after; for each dilation eight weights and a padded copy of the colours.
        return 2 * queries + 11 * len(self.protocol.pamr_dilations) + 8

    @torch.no_grad()
    def _blocks(self, queries: Sequence[int] | None = None) -> Iterator[Tensor]:
        """Logits (Q, rows, W), block by block from the top.

        A value refined by PAMR depends on nothing beyond the halo, so the blocks are exact.

        Args:
            queries: only these; None: all.
        """
        height = self.geometry.original[0]
        if is_whole(self.refining):
            yield from self._refined_blocks(queries)
            return
        some = self
        if queries is not None and self.refining is None:
            some = replace(self, embeddings=self.embeddings[queries])
        factor, down, across = some.factors()
        if queries is not None and self.refining is not None:  # which reads all words
            factor = factor[queries]
        image = self.image_at_original_size() if self.protocol.pamr_steps else None
        rows, halo = self._rows_per_block(len(factor)), self._halo()
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            first, last = max(top - halo, 0), min(bottom + halo, height)
            block = (down[first:last] @ factor) @ across.T
            if image is not None:
                steps, dilations = self.protocol.pamr_steps, self.protocol.pamr_dilations
                block = pamr(image[:, first:last], block, steps, dilations)
            yield block[:, top - first : bottom - first]

    def _refined_blocks(self, queries: Sequence[int] | None) -> Iterator[Tensor]:
        """Logits as of ``_blocks``, by a user's refiner: it reads all words and all pixels."""
        refining: Any = self.refining
        image = self.image_at_original_size()
        blocks = replace(
            self, refining=None, protocol=self.protocol.replace(pamr_steps=0)
        )._blocks()
        logits = refining.refine(torch.cat(list(blocks), dim=1), image)
        logits = logits if queries is None else logits[queries]
        steps, dilations = self.protocol.pamr_steps, self.protocol.pamr_dilations
        yield pamr(image, logits, steps, dilations) if steps else logits

    def _check_finite(self, cosines: Tensor) -> None:
        """Refuse cosines that are not finite: all logits are weighted means of them."""
        if is_finite(cosines):
            return
        for what, vectors in (("words", self.embeddings), ("patches", self.features)):
            finite = vectors.isfinite().all(dim=-1)
            wrong = int((~finite).sum())
            if wrong:
                raise UserError(
                    f"the vectors of {wrong} of {finite.numel()} {what} hold NaN or infinite "
                    "numbers: try --dtype fp32, and check the weights"
                )
        raise UserError(
            "the cosines of patches and words overflow float32; expected vectors of unit length"
        )

    def image_at_original_size(self) -> Tensor:
        """The normalised resized image, bilinear to the original size: (3, H, W)."""
        if self.pixels is None:
            raise ValueError("the protocol has PAMR steps, but no pixels were given")
        resized = self.pixels().to(self.features.device)
        if not is_finite(resized):
            raise UserError(
                "the image's normalised pixels hold NaN or infinite numbers: check the model's "
                "mean and std"
            )
        return interpolate(resized[None], size=self.geometry.original, mode="bilinear")[0]
