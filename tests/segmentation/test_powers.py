"""The softmax's sums of the compiled decision, against sums in float64."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")
from sclip_core.segmentation.backends.numba_decision_kernels import (
    LANES,
    RunningArgmax,
    decide_refined_rows,
)


@pytest.fixture(scope="module", autouse=True)
def path() -> None:
    """These tests choose the path themselves."""


@pytest.mark.parametrize("scale", [1e-46, 1e-30, 7.0, 65.0, 1e4, 1e30])
@pytest.mark.parametrize("chunks", [(1,), (8,), (13,), (32, 9), (24, 40, 16, 33)])
def test_sums_are_those_of_float64(scale: float, chunks: tuple[int, ...]) -> None:
    """Chunk by chunk, each with words that only fill it up; their logits would be the largest."""
    rng = np.random.default_rng(0)
    logits = [rng.standard_normal((5, 9, words), np.float32) / 4 for words in chunks]
    running = RunningArgmax.empty((5, 9), sum(chunks), scale)
    for number, each in enumerate(logits):
        fill = -each.shape[-1] % LANES
        classes = np.pad(sum(chunks[:number]) + np.arange(each.shape[-1]), (0, fill))
        excluded = np.pad(np.zeros(each.shape[-1], np.float32), (0, fill), constant_values=-np.inf)
        values = np.pad(each, ((0, 0), (0, 0), (0, fill)), constant_values=3)
        decide_refined_rows(values, 0, classes, excluded, running, 0, 5)
    together = np.concatenate(logits, axis=-1)
    np.testing.assert_array_equal(running.best, together.max(-1))
    np.testing.assert_array_equal(running.labels, together.argmax(-1))
    below = together.astype(np.float64) - together.max(-1, keepdims=True)
    np.testing.assert_allclose(running.total, np.exp(scale * below).sum(-1), rtol=1e-6)
