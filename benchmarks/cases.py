"""Made-up images: random features, words and colours in the sizes of real ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from sclip_core.config import Geometry, Protocol
from sclip_core.datasets import Vocabulary
from sclip_core.segmentation import Refiner, Stitcher

WIDTH = 512  # D of ViT-B/16
PATCH = 16
VGA = (480, 640)  # height and width in pixels, of most photographs in COCO
TINY = (60, 80)  # of --quick
TINY_CLASSES = (0, 0, 1, 2, 2)


@dataclass(frozen=True)
class Case:
    """One image with its words."""

    refiner: Refiner
    query_class: Tensor  # (Q,) int64, ascending
    num_classes: int

    @classmethod
    def of(cls, protocol: Protocol, size: tuple[int, int], query_class: Sequence[int]) -> Case:
        """Draw a random image; the same arguments always give the same one.

        Args:
            protocol: windows, PAMR, decision.
            size: (H, W) in pixels.
            query_class: (Q,) the class of each word, ascending.
        """
        draw = torch.Generator().manual_seed(0)
        geometry = Geometry.of(*size, protocol, PATCH)
        shape = (geometry.num_windows, *geometry.tokens, WIDTH)
        pixels = torch.randn(3, *geometry.resized, generator=draw)
        refiner = Refiner(
            geometry,
            normalize(torch.randn(shape, generator=draw), dim=-1),
            normalize(torch.randn(len(query_class), WIDTH, generator=draw), dim=-1),
            protocol,
            lambda: pixels,
        )
        return cls(refiner, torch.tensor(query_class), max(query_class) + 1)

    @classmethod
    def named(cls, name: str, size: tuple[int, int], quick: bool, **settings: object) -> Case:
        """An image for a benchmark's protocol and vocabulary.

        Args:
            name: of the benchmark.
            size: (H, W) in pixels.
            quick: a tiny image with five words instead.
            **settings: fields of the protocol to change.
        """
        protocol = Protocol.named(name).replace(**settings)
        if quick:
            return cls.of(protocol.replace(short_side=112), TINY, TINY_CLASSES)
        return cls.of(protocol, size, Vocabulary.named(name).query_class)

    def labels(self) -> NDArray[np.unsignedinteger[Any]]:
        """Labels (H, W) from the features: stitching, PAMR and decision."""
        return self.refiner.labels(self.query_class, self.num_classes)

    def image(self) -> Tensor:
        """The picture that PAMR sees: (3, H, W), normalised."""
        pixels = self.refiner.pixels
        if pixels is None:
            raise ValueError("this case has no pixels")
        return interpolate(pixels()[None], size=self.size, mode="bilinear")[0]

    def stitched(self) -> Tensor:
        """Logits before PAMR: (Q, H, W)."""
        stitcher = Stitcher(self.refiner.geometry, self.refiner.features.device)
        return stitcher.stitch(
            stitcher.side_by_side(self.refiner.features, self.refiner.embeddings)
        )

    @property
    def words(self) -> int:
        """The number of words, Q."""
        return len(self.query_class)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.refiner.geometry.original

    @property
    def pixel_count(self) -> int:
        """The number of pixels, H·W."""
        return self.size[0] * self.size[1]

    @property
    def logits_mb(self) -> float:
        """Memory in MB that the logits of all words at all pixels would take."""
        return 4 * self.words * self.pixel_count / 1e6

    def __str__(self) -> str:
        return f"{self.words} words, {self.size[0]}×{self.size[1]}"

    def stitching_flop(self) -> float:
        """FLOP of the cosines and of the sparse ``My · L[q] · Mxᵀ``, of all words."""
        geometry = self.refiner.geometry
        stitcher = Stitcher(geometry)
        across = stitcher.columns.shape[1]
        mixing = int((stitcher.rows != 0).sum()) * across
        mixing += int((stitcher.columns != 0).sum()) * self.size[0]
        return 2.0 * self.words * (geometry.num_tokens * WIDTH + mixing)

    def pamr_flop(self) -> float:
        """FLOP of PAMR's iterations: a product and a sum for every neighbour of every word."""
        protocol = self.refiner.protocol
        neighbours = 8 * len(protocol.pamr_dilations)
        return 2.0 * self.words * self.pixel_count * neighbours * protocol.pamr_steps

    def moved_bytes(self) -> float:
        """Bytes that have to be moved at least: features read, labels written."""
        return 4.0 * self.refiner.features.numel() + self.pixel_count
