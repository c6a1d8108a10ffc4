"""Independent streams of random numbers for training and evaluation."""

from __future__ import annotations

import numpy as np

ORDER, PICTURES, CAPTIONS, EVALUATION = 0, 1, 2, 3


def training_rng(seed: int, number: int) -> np.random.Generator:
    """The generator of training picture ``number`` of a run with ``seed``."""
    return np.random.default_rng((PICTURES, seed, number))


def caption_rng(seed: int, number: int) -> np.random.Generator:
    """The generator of the captions of batch ``number`` of a run with ``seed``."""
    return np.random.default_rng((CAPTIONS, seed, number))


def order_rng(seed: int, block: int, show: int) -> np.random.Generator:
    """The generator of the order in which a block is shown for the ``show``-th time."""
    return np.random.default_rng((ORDER, block, show + (seed << 16)))


def evaluation_rng(number: int) -> np.random.Generator:
    """The generator of evaluation scene ``number``."""
    return np.random.default_rng((EVALUATION, number))
