"""What the demo's CLIP learns from: pictures and captions, but no label map, box or mask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from sclip_core.demo.scenes import (
    Picture,
    caption,
    caption_rng,
    class_names,
    draw_picture,
    order_rng,
    training_rng,
)

BLOCK = 64  # batches whose pictures are shown again, with other captions, before new ones


@dataclass(frozen=True)
class Batch:
    """Pictures and captions, and which caption is true of which picture."""

    images: Tensor  # (B, S, S, 3) uint8 RGB
    prompts: Tensor  # (B, 77) token ids
    true: Tensor  # (B, B) bool: picture i shows everything that caption j names


class Pictures(IterableDataset[Batch]):
    """The batches of a training run; batch n depends only on the seed and on n.

    Args:
        seed: of the run.
        batch: pictures in a batch.
        side: of a picture, in pixels.
        shows: how often each picture is shown; drawing one costs half as much as a step on it.
            Each worker draws the pictures of its batches, also those that another has drawn.
        first: the first batch.
        last: the end of the batches, exclusive.
    """

    def __init__(
        self, seed: int, batch: int, side: int, shows: int = 1, first: int = 0, last: int = 1
    ) -> None:
        self.seed, self.batch, self.side, self.shows = seed, batch, side, shows
        self.first, self.last = first, last
        self.tokenizer = SimpleTokenizer()
        self._block = -1
        self._drawn: dict[int, Picture] = {}

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        offset, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        for number in range(self.first + offset, self.last, stride):
            yield self.make(number)

    def make(self, number: int) -> Batch:
        """Batch ``number``."""
        codes = {name: code for code, name in enumerate(class_names())}
        shown = np.zeros((self.batch, len(codes)), bool)
        named = np.zeros_like(shown)
        images, captions = [], []
        rng = caption_rng(self.seed, number)
        for row, index in enumerate(self._indices(number)):
            picture = self._picture(int(index))
            text, names = caption(rng, picture)
            images.append(picture.image)
            captions.append(text)
            shown[row, [codes[item.name] for item in picture.items]] = True
            named[row, [codes[name] for name in names]] = True
        true = ~(named[None] & ~shown[:, None]).any(-1)
        return Batch(
            torch.from_numpy(np.stack(images)), self.tokenizer(captions), torch.from_numpy(true)
        )

    def _indices(self, number: int) -> np.ndarray:
        """The pictures of a batch: a block shows all of its pictures, then all in another order."""
        block, at = divmod(number, BLOCK * self.shows)
        if block != self._block:
            self._block, self._drawn = block, {}
        show, part = divmod(at, BLOCK)
        size = BLOCK * self.batch
        order = order_rng(self.seed, block, show).permutation(size) + block * size
        return order[part * self.batch : (part + 1) * self.batch]

    def _picture(self, index: int) -> Picture:
        if index not in self._drawn:
            self._drawn[index] = draw_picture(training_rng(self.seed, index), self.side)
        return self._drawn[index]
