"""Windows that are made when they are asked for are those that are cut all at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sclip_core.config import Geometry, Protocol, UserError
from sclip_core.encoder.lazy import LazyWindows
from sclip_core.encoder.pixels import MEAN, STD, cut_windows, normalise
from sclip_core.segmentation.stitch import axis_matrix, bilinear_matrix

IMAGE = np.random.default_rng(0).integers(0, 256, (130, 170, 3), dtype=np.uint8)


@pytest.mark.parametrize("multiple", [0, 56])
def test_slices_are_those_of_all_windows(multiple: int) -> None:
    protocol = Protocol(tile=True, slide_crop=48, slide_stride=24, window_multiple=multiple)
    geometry = Geometry.of(130, 170, protocol, 16 if not multiple else 14)
    assert geometry.resized == (130, 170)
    every = cut_windows(normalise(IMAGE), geometry)
    lazy = LazyWindows(IMAGE, geometry, MEAN, STD)
    assert lazy.shape == every.shape
    for part in (slice(None), slice(3, 9), slice(len(every) - 2, 999)):
        assert torch.equal(lazy[part], every[part])
    assert torch.equal(torch.cat(list(lazy.split(7))), every)


def test_no_resize_is_a_resize_to_the_same_size() -> None:
    without = axis_matrix((0, 24, 40), 48, 3, 88, 88)
    slow = bilinear_matrix(88, 88) @ without.double()
    assert torch.equal(slow.float(), without)


def test_a_tile_needs_windows() -> None:
    with pytest.raises(UserError, match="slide_crop=224"):
        Protocol.checked({"tile": True, "slide_crop": 0})


def test_other_geometry_is_as_before() -> None:
    usual = Geometry.of(130, 170, Protocol(), 16)
    assert replace(usual) == Geometry.of(130, 170, Protocol(tile=False), 16)
    assert usual.resized == (336, 439)
