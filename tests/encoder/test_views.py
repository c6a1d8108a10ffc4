"""Views of windows: against slow loops, and windows that are too small to be reflected."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sclip_core.encoder.views import VIEWS, blur, grey


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def blurred(plane: np.ndarray, mode: str) -> np.ndarray:
    """An 11×11 Gaussian of sigma 5 on (h, w), pixel by pixel."""
    offsets = np.arange(-5, 6)
    kernel = np.exp(-(offsets[:, None] ** 2 + offsets**2) / 50)
    kernel /= kernel.sum()
    padded = np.pad(plane, 5, mode=mode)
    return np.array(
        [
            [(kernel * padded[y : y + 11, x : x + 11]).sum() for x in range(plane.shape[1])]
            for y in range(plane.shape[0])
        ]
    )


@pytest.mark.parametrize("size", [(14, 17), (6, 6), (6, 20)])
def test_blur(size):
    windows = drawn(2, 3, *size)
    found = blur(windows)
    for window in range(2):
        for channel in range(3):
            expected = blurred(windows[window, channel].double().numpy(), "reflect")
            np.testing.assert_allclose(found[window, channel], expected, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (4, 5)])
def test_blur_of_small_windows_repeats_the_border(size):
    windows = drawn(1, 3, *size)
    expected = blurred(windows[0, 0].double().numpy(), "edge")
    np.testing.assert_allclose(blur(windows)[0, 0], expected, atol=1e-6)


def test_grey():
    windows = drawn(2, 3, 4, 5)
    red, green, blue = windows.unbind(dim=1)
    expected = 0.2989 * red + 0.587 * green + 0.114 * blue
    for channel in range(3):
        torch.testing.assert_close(grey(windows)[:, channel], expected)


def test_flips():
    windows = drawn(2, 3, 4, 5)
    assert torch.equal(VIEWS["top_bottom"](windows)[:, :, 0], windows[:, :, 3])
    assert torch.equal(VIEWS["left_right"](windows)[..., 0], windows[..., 4])


@pytest.mark.parametrize("view", VIEWS)
def test_size_type_and_argument_stay(view):
    for windows in (drawn(2, 3, 16, 24), drawn(1, 3, 4, 4).double()):
        before = windows.clone()
        found = VIEWS[view](windows)
        assert (found.shape, found.dtype) == (windows.shape, windows.dtype)
        assert torch.equal(windows, before)


def test_a_flat_window_stays_flat():
    windows = torch.full((1, 3, 16, 16), 0.5)
    for view, function in VIEWS.items():
        torch.testing.assert_close(function(windows), windows, atol=1e-4, rtol=0, msg=view)
