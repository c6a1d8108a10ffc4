"""Views of windows: versions of them that the tower sees besides the windows themselves.

Those of ITACLIP (docs/methods.md, ITACLIP). Each function takes windows (B, 3, h, w), normalised,
and returns as many of the same size; what a method names in ``views`` is looked up in ``VIEWS``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

GREY = (0.2989, 0.587, 0.114)  # of red, green and blue
SIGMA = 5.0  # pixels
RADIUS = 5  # pixels: the kernel has 11×11


def original(windows: Tensor) -> Tensor:
    """The windows themselves."""
    return windows


def grey(windows: Tensor) -> Tensor:
    """A weighted mean of the normalised channels, in each of them."""
    mean = (windows * windows.new_tensor(GREY)[:, None, None]).sum(dim=1, keepdim=True)
    return mean.expand_as(windows).contiguous()


def blur(windows: Tensor) -> Tensor:
    """A Gaussian of 11×11 pixels and sigma 5; the image is reflected beyond the window.

    Reflection needs more than five pixels; along a shorter axis the border is repeated instead.
    """
    offsets = torch.arange(-RADIUS, RADIUS + 1, dtype=torch.float32, device=windows.device)
    kernel = torch.exp(-offsets.square() / (2 * SIGMA**2))
    kernel = (kernel / kernel.sum()).to(windows)
    for axis in (-2, -1):  # the kernel is a product of one along each axis
        mode = "reflect" if windows.shape[axis] > RADIUS else "replicate"
        margin = (RADIUS, RADIUS, 0, 0) if axis == -1 else (0, 0, RADIUS, RADIUS)
        along = (1, -1) if axis == -1 else (-1, 1)
        weight = kernel.view(1, 1, *along).expand(3, 1, *along)
        windows = conv2d(pad(windows, margin, mode=mode), weight, groups=3)
    return windows


def top_bottom(windows: Tensor) -> Tensor:
    """Flipped: the top row at the bottom."""
    return windows.flip(-2)


def left_right(windows: Tensor) -> Tensor:
    """Flipped: the left column at the right."""
    return windows.flip(-1)


VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    view.__name__: view for view in (original, grey, blur, top_bottom, left_right)
}
