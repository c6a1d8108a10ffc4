"""Seeds: training and evaluation draw from streams that cannot meet."""

from __future__ import annotations

import numpy as np

PICTURES, CAPTIONS, EVALUATION = 1, 2, 3


def training_rng(seed: int, number: int) -> np.random.Generator:
    """Of the training picture ``number`` of a run with ``seed``."""
    return np.random.default_rng((PICTURES, seed, number))


def caption_rng(seed: int, number: int) -> np.random.Generator:
    """Of the captions of batch ``number`` of a run with ``seed``."""
    return np.random.default_rng((CAPTIONS, seed, number))


def evaluation_rng(number: int) -> np.random.Generator:
    """Of the evaluation scene ``number``."""
    return np.random.default_rng((EVALUATION, number))
