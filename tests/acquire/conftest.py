"""Benchmarks of a few images."""

from __future__ import annotations

import pytest

from sclip_core.config import tables

from .publisher import publisher

__all__ = ["publisher"]


@pytest.fixture
def of_size(monkeypatch):
    """Let the validation split of a benchmark have so many images."""

    def change(name: str, count: int) -> None:
        monkeypatch.setitem(tables()["benchmarks"][name], "num_images", count)

    return change
