"""A small table of tokens for a world of few words, and the whole one that open_clip expects."""

from __future__ import annotations

import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor

from sclip_core.demo.scenes import lexicon


class Tokens:
    """The tokens that captions can hold: some hundreds of 49,408, in a table of their own.

    In the same order, so that the end token is the largest of both. The rest of the whole table is
    zero: what a model never saw it shall not pretend to know.
    """

    def __init__(self, size: int) -> None:
        """Collect them.

        Args:
            size: rows of the whole table.
        """
        ids = SimpleTokenizer()(lexicon()).unique()
        self.used = torch.cat([torch.zeros(1, dtype=ids.dtype), ids]).unique()  # 0: the padding
        self._size = size
        self._row = torch.full((size,), -1)
        self._row[self.used] = torch.arange(len(self.used))

    def small(self, ids: Tensor) -> Tensor:
        """Rows of the small table, for token ids of any shape.

        Raises:
            ValueError: a token that is not in the lexicon.
        """
        rows = self._row[ids]
        if int(rows.min()) < 0:
            raise ValueError("a caption holds a word that is not in the lexicon")
        return rows

    def whole(self, table: Tensor) -> Tensor:
        """The whole table (49408, width) of a small one (used, width)."""
        full = table.new_zeros(self._size, table.shape[1])
        full[self.used] = table
        return full
