"""The embedding of patches as a product, the way of a GPU, against the convolution."""

from __future__ import annotations

import pytest
import torch
from torch.nn import Conv2d

from sclip_core.encoder.towers.backbone import patches_of


class OnGpu(torch.Tensor):
    """A tensor of the CPU that says it is on a GPU."""

    device = torch.device("cuda")


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("rows", "columns", "more"), [(2, 3, 0), (3, 2, 0), (1, 4, 3), (4, 1, 1)])
@torch.no_grad()
def test_a_product_is_the_convolution(rows, columns, more, bias):
    """More: pixels beyond whole patches."""
    torch.manual_seed(rows)
    convolution = Conv2d(3, 7, kernel_size=4, stride=4, bias=bias)
    pixels = torch.randn(2, 3, 4 * rows + more, 4 * columns + more)
    expected = patches_of(convolution, pixels, (rows, columns))
    assert expected.shape == (2, rows * columns, 7)
    convolution.register_forward_hook(lambda *_: pytest.fail("a convolution on a GPU"))
    found = patches_of(convolution, pixels.as_subclass(OnGpu), (rows, columns))
    torch.testing.assert_close(found.as_subclass(torch.Tensor), expected, atol=1e-5, rtol=0)
