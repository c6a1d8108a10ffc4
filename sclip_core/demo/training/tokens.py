"""A small table of token embeddings for a world of few words, and the whole one of open_clip."""

from __future__ import annotations

import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor

from sclip_core.demo.scenes import lexicon


class Tokens:
    """The tokens that captions can contain: some hundreds of 49,408, in a table of their own.

    They keep their order, so that the end token has the highest id in both tables. Unseen tokens
    stay zero in the whole table: the model does not know them.
    """

    def __init__(self, size: int) -> None:
        """Collect the tokens; ``size``: rows of the whole table."""
        ids = SimpleTokenizer()(lexicon()).unique()
        self.used = torch.cat([torch.zeros(1, dtype=ids.dtype), ids]).unique()  # 0: the padding
        self._size = size
        self._row = torch.full((size,), -1)
        self._row[self.used] = torch.arange(len(self.used))

    def small(self, ids: Tensor) -> Tensor:
        """The rows of the small table for token ids of any shape.

        Raises:
            ValueError: a token is not in the lexicon.
        """
        rows = self._row[ids]
        if int(rows.min()) < 0:
            raise ValueError("a caption contains a token that is not in the lexicon")
        return rows

    def whole(self, table: Tensor) -> Tensor:
        """The whole table (size, width) for a small one (used, width)."""
        full = table.new_zeros(self._size, table.shape[1])
        full[self.used] = table
        return full
