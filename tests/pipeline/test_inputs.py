"""The samples of a run by their digests."""

from __future__ import annotations

from pathlib import Path

import pytest

from sclip_core.datasets import Sample
from sclip_core.pipeline.inputs import grouped


def test_grouped_samples_are_those_of_a_loop_over_all():
    keys = [f"{number % 7}" for number in range(30)]
    samples = [Sample(f"{number}", Path(f"{number}.jpg"), None) for number in range(30)]
    found = grouped(keys, samples)
    assert list(found) == list(dict.fromkeys(keys))
    for key in found:
        assert found[key] == [s for k, s in zip(keys, samples, strict=True) if k == key]
    with pytest.raises(ValueError, match="zip"):
        grouped(keys, samples[:3])
