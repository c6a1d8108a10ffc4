"""What a point attends to, at the size of the image, against a loop over windows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from sclip_core import SCLIP, Protocol, UserError
from sclip_core.encoder.weights import attention_weights

from ..encoder.models import make, small_config

WHOLE = {"short_side": 128, "slide_crop": 0}
SLIDING = {"short_side": 128, "slide_crop": 64, "slide_stride": 24}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> SCLIP:
    """Attention far from each patch to itself."""
    config = small_config(vision={"patch_size": 16})
    made = make(tmp_path_factory.mktemp("small"), config)
    return SCLIP.load(**made.arguments, device="cpu")


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (150, 203, 3)).astype(np.uint8)


def slowly(model: SCLIP, image: np.ndarray, point: tuple[int, int], settings: dict) -> torch.Tensor:
    """Each window that contains the point on a canvas of its own, resized, then their mean."""
    geometry, windows = model.windows(image, Protocol(**settings))
    (height, width), patch = geometry.resized, model.spec.patch
    y, x = (
        (point[axis] + 0.5) * geometry.resized[axis] / geometry.original[axis] for axis in (0, 1)
    )
    canvases = []
    for number, pixels in enumerate(windows):
        top = geometry.tops[number // len(geometry.lefts)]
        left = geometry.lefts[number % len(geometry.lefts)]
        high, wide = pixels.shape[1:]
        if not (top <= y < top + high and left <= x < left + wide):
            continue
        rows, columns = high // patch, wide // patch
        token = int((y - top) * rows / high) * columns + int((x - left) * columns / wide)
        weights = attention_weights(model.encoder, model.encoder.attention, pixels[None], [token])
        patches = weights[..., 1:].unflatten(-1, (rows, columns))
        if settings["slide_crop"] == 0:
            canvases.append(interpolate(patches, size=geometry.original, mode="bilinear"))
            continue
        canvas = torch.zeros(1, patches.shape[1], height, width)
        canvas[..., top : top + high, left : left + wide] = interpolate(
            patches, size=(high, wide), mode="bilinear"
        )
        canvases.append(interpolate(canvas, size=geometry.original, mode="bilinear"))
    return torch.stack(canvases).mean(dim=0)[0]


@pytest.mark.parametrize("settings", [WHOLE, SLIDING], ids=["whole", "sliding"])
@pytest.mark.parametrize("point", [(0, 0), (70, 100), (149, 202)])
def test_a_point_by_a_slow_loop(model, image, settings, point):
    expected = slowly(model, image, point, settings)
    found = model.attention_of(image, point, heads=True, **settings)
    assert found.shape == (2, 150, 203)
    assert 2 * found.mean() < found.max() < 0.9
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6, rtol=1e-4)
    mean = model.attention_of(image, point, **settings)
    assert mean.dtype == np.float32
    np.testing.assert_allclose(mean, found.mean(axis=0), atol=1e-7)


def test_the_protocol_names_the_attention(model, image):
    csa, kk = (model.attention_of(image, (9, 9), **WHOLE, method=name) for name in ("csa", "kk"))
    np.testing.assert_array_equal(csa, model.attention_of(image, (9, 9), **WHOLE))
    assert np.abs(csa - kk).max() > 1e-5


@pytest.mark.parametrize(
    ("point", "method", "line"),
    [
        (
            (150, 0),
            None,
            "^the point 150,0 is outside of the image: .* 0 to 149 .* 0 to 202",
        ),
        ((0, -1), None, "outside of the image"),
        ((0, 0), "sc-clip", "^method 'sc-clip' has no attention of one block .* csa, vanilla, "),
        ((0, 0), "maskclip", "every patch keeps its own value"),
    ],
)
def test_one_line_says_why_not(model, image, point, method, line):
    with pytest.raises(UserError, match=line):
        model.attention_of(image, point, method=method, **WHOLE)
