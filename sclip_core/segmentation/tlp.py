"""TLP, PEARL's propagation of logits: docs/methods.md, PEARL.

The logits are averaged over the cells of a coarse grid, spread there between neighbours that look
alike, and taken back to the image. Spreading solves a linear system, one for all words together,
by a number of conjugate-gradient steps that does not reach its solution: the steps are part of the
method. The edges' weights depend on the words, so words cannot be taken in chunks.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, NamedTuple

import torch
from pydantic import Field, PositiveInt
from torch import Tensor
from torch.nn.functional import avg_pool2d

from sclip_core.config.protocol import Checked
from sclip_core.segmentation.stitch import bilinear_matrix

GREY = (0.299, 0.587, 0.114)  # of red, green and blue
LEAST_CONFIDENCE = 0.05
EPSILON = 1e-6
CG_EPSILON = 1e-12


class Graph(NamedTuple):
    """What the logits of a grid are spread by; all float32."""

    confidence: Tensor
    """How strongly a cell holds on to its own logits: (gh, gw)."""
    right: Tensor
    """Weights of the edges from each cell to its right neighbour: (gh, gw - 1)."""
    down: Tensor
    """From each cell to the one below: (gh - 1, gw)."""

    def times(self, x: Tensor) -> Tensor:
        """``(diag(confidence) + L)·x`` with the edges' Laplacian L, for each word: (Q, gh, gw)."""
        product = self.confidence * x
        flow = self.right * (x[..., :, :-1] - x[..., :, 1:])
        product[..., :, :-1] += flow
        product[..., :, 1:] -= flow
        flow = self.down * (x[..., :-1, :] - x[..., 1:, :])
        product[..., :-1, :] += flow
        product[..., 1:, :] -= flow
        return product


class TLP(Checked):
    """The propagation, with the published values."""

    name: ClassVar[str] = "tlp"

    tlp_grid: Annotated[PositiveInt, Field(le=8192)] = 80
    """Cells along each axis, about: the pixels of a cell are rounded to whole ones."""
    tlp_tau: Annotated[float, Field(gt=0, le=1e6)] = 0.5
    """Temperature of the words' similarity with each other."""
    tlp_boost: Annotated[float, Field(ge=0, le=1e6)] = 10.0
    """Added to every word's similarity with itself."""
    tlp_ke: Annotated[float, Field(ge=0, le=1e6)] = 5.0
    """How sharply an edge's weight falls with the difference of brightness."""
    tlp_steps: Annotated[int, Field(ge=0, le=1000)] = 25
    """Conjugate-gradient steps."""

    @torch.no_grad()
    def propagate(
        self, cosines: Tensor, rows: Tensor, columns: Tensor, image: Tensor, words: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Spread the logits of an image.

        Those of its pixels are ``rows @ cosines[q] @ columns.T``. They are averaged over the cells
        through the two matrices, so that logits of the original size never exist.

        Args:
            cosines: (Q, h, w), windows side by side, as of ``Stitcher.side_by_side``.
            rows: (H, h), as of ``Stitcher.rows``.
            columns: (W, w), as of ``Stitcher.columns``.
            image: (3, H, W), the normalised resized image, bilinear to the original size.
            words: (Q, D), unit length.

        Returns:
            What stands in the place of the first three: the grid's logits (Q, gh, gw) float32, and
            the matrices (H, gh) and (W, gw) that take them to the pixels.
        """
        cell = self.cell(len(rows), len(columns))
        image = image.to(cosines)
        pooled = _averaged(rows, cell[0]) @ cosines @ _averaged(columns, cell[1]).T
        graph = self.graph(pooled, avg_pool2d(image, cell), words.to(cosines))
        solved = solve(graph, pooled, self.tlp_steps)
        # Rows and columns that fill no cell are as if they were none: the grid covers all pixels.
        # Cells of one pixel have the identity here, as the reference neither pools nor resizes.
        up = bilinear_matrix(solved.shape[1], len(rows)).to(cosines)
        across = bilinear_matrix(solved.shape[2], len(columns)).to(cosines)
        return solved, up, across

    def cell(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of a cell, pixels; a half is rounded to the even number."""
        return max(1, round(height / self.tlp_grid)), max(1, round(width / self.tlp_grid))

    def graph(self, pooled: Tensor, image: Tensor, words: Tensor) -> Graph:
        """The weights of a grid.

        Args:
            pooled: logits (Q, gh, gw), before logit_scale.
            image: (3, gh, gw), normalised.
            words: (Q, D), unit length.
        """
        likely = pooled.softmax(dim=0)
        alike = self.self_similarity(words)[:, None, None] * likely
        grey = (image * image.new_tensor(GREY)[:, None, None]).sum(dim=0)
        sure = likely.amax(dim=0).clamp(min=LEAST_CONFIDENCE).square()
        return Graph(
            confidence=sure * (1 + (alike * likely).sum(dim=0).clamp(0, 1)),
            right=self._edges(
                grey[:, 1:] - grey[:, :-1], (alike[:, :, 1:] * likely[:, :, :-1]).sum(dim=0)
            ),
            down=self._edges(grey[1:] - grey[:-1], (alike[:, 1:] * likely[:, :-1]).sum(dim=0)),
        )

    def self_similarity(self, words: Tensor) -> Tensor:
        """What is left of each word's similarity with itself, among those with all words: (Q,)."""
        similarity = (words @ words.T / self.tlp_tau).softmax(dim=-1)
        boosted = similarity.diagonal() + self.tlp_boost
        return boosted / (similarity.sum(dim=-1) + self.tlp_boost + EPSILON)

    def _edges(self, difference: Tensor, alike: Tensor) -> Tensor:
        """Weights of the edges of one direction.

        Args:
            difference: of the brightness at the two ends.
            alike: how alike the two ends' words are; the same shape.
        """
        if not difference.numel():  # a grid of one cell in this direction, without a mean
            return difference
        apart = difference.abs()
        near = torch.exp(-self.tlp_ke * apart / (apart.mean() + EPSILON))
        return (near * (1 + alike.clamp(0, 1))).clamp(0, 1)


def solve(graph: Graph, pooled: Tensor, steps: int) -> Tensor:
    """Conjugate-gradient steps from F = x for ``(diag(c) + L)·F = c·x``.

    The step's length and direction are those of all words together.

    Args:
        graph: c and L.
        pooled: x (Q, gh, gw).
        steps: how many.

    Returns:
        F (Q, gh, gw), new.
    """
    solved = pooled.clone()
    residual = graph.confidence * pooled - graph.times(pooled)
    direction = residual.clone()
    size = residual.square().sum()
    for _ in range(steps):
        product = graph.times(direction)
        length = size / ((direction * product).sum() + CG_EPSILON)
        solved += length * direction
        residual -= length * product
        before, size = size, residual.square().sum()
        direction = residual + size / (before + CG_EPSILON) * direction
    return solved


def _averaged(matrix: Tensor, cell: int) -> Tensor:
    """Means of every ``cell`` rows (n, h), those that are left over dropped: (n // cell, h)."""
    cells = len(matrix) // cell
    means: Tensor = matrix[: cells * cell].unflatten(0, (cells, cell)).mean(dim=1)
    return means
