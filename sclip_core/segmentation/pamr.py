"""Pixel-Adaptive Mask Refinement.

Araslanov and Roth, "Single-Stage Semantic Segmentation from Image Labels" (CVPR 2020, arXiv
2005.08104), section 4.2, with the settings that SCLIP's public code uses: docs/protocol.md,
section 5. Every step replaces a pixel's logits by a mean over its neighbours, weighted by how alike
their colours are. It is linear in the logits, the queries are independent of each other, and the
weights depend on the image alone: queries are taken in chunks, and nothing of size
queries × neighbours × height × width is ever built.

``pamr`` is the public function. It takes the fastest implementation that the device has
(``backends``); the portable one is below.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from sclip_core.config import UserError
from sclip_core.segmentation import backends
from sclip_core.tensors import is_finite

NEIGHBOURS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx)
CHUNK_BYTES = 8 * 2**20  # of logits in work at once: about what a core's caches hold
STRIP_PIXELS = 2**18  # whose weights are computed at once, for the same reason


@torch.no_grad()
def pamr(
    image: Tensor, logits: Tensor, steps: int = 10, dilations: Sequence[int] = (8, 16)
) -> Tensor:
    """Refine logits by the image's colours.

    Args:
        image: (3, H, W), normalised, at the logits' size.
        logits: (Q, H, W), before scale and softmax.
        steps: iterations; 0 returns a copy of the logits.
        dilations: distances of the neighbours in pixels; 8 neighbours each.

    Returns:
        (Q, H, W) float32, a new tensor.

    Raises:
        UserError: the shapes do not match, steps are below 0, there is no dilation or one below 1,
            or numbers are not finite.
    """
    image, logits = torch.as_tensor(image), torch.as_tensor(logits)
    _check(image, logits, steps, dilations)
    if steps == 0:
        return logits.to(torch.float32, copy=True)
    implementation = backends.fast_pamr(logits.device) or portable_pamr
    return implementation(image.to(logits.device), logits, steps, dilations)


def portable_pamr(image: Tensor, logits: Tensor, steps: int, dilations: Sequence[int]) -> Tensor:
    """PAMR by PyTorch's own operations, on any device; arguments and result as of ``pamr``."""
    refined = logits.to(torch.float32, copy=True)
    weights = pamr_weights(image.to(refined), dilations)
    per_chunk = max(1, CHUNK_BYTES // (4 * refined[0].numel()))
    for chunk in refined.split(per_chunk):
        for _ in range(steps):
            chunk.copy_(_step(chunk, weights, dilations))
    return refined


def pamr_weights(image: Tensor, dilations: Sequence[int]) -> Tensor:
    """The weights of a pixel's neighbours.

    Args:
        image: (3, H, W) float32, normalised.
        dilations: distances of the neighbours in pixels.

    Returns:
        (8·len(dilations), H, W) float32, dilation by dilation; those of a pixel sum to 1.
    """
    shifted = [view for d in dilations for view in _neighbours(image, d)]
    weights = image.new_empty(len(shifted), *image.shape[1:])
    rows = max(1, STRIP_PIXELS // image.shape[2])
    for top in range(0, image.shape[1], rows):
        strip = slice(top, top + rows)
        weights[:, strip] = _softmax_of_affinities(
            image[:, strip], [view[:, strip] for view in shifted], len(dilations)
        )
    return weights


def _softmax_of_affinities(image: Tensor, shifted: Sequence[Tensor], centres: int) -> Tensor:
    """The weights (neighbours, H, W) of a strip of the image.

    Args:
        image: (3, H, W).
        shifted: the same size, one for each neighbour.
        centres: how often a pixel itself is a sample of its deviation: once a dilation.
    """
    count = len(shifted) + centres
    mean = sum(shifted, centres * image) / count
    variance = centres * (image - mean).square()
    for view in shifted:
        variance += (view - mean).square()
    scale = 1e-8 + 0.1 * (variance / (count - 1)).sqrt()
    affinity = torch.stack([-((image - view).abs() / scale).mean(dim=0) for view in shifted])
    return affinity.softmax(dim=0)


def receptive_field(steps: int, dilations: Sequence[int]) -> int:
    """How many pixels away a refined value still depends on the logits."""
    return steps * max(dilations)


def _neighbours(planes: Tensor, dilation: int) -> list[Tensor]:
    """Eight views of (Q, H, W), shifted by a dilation; the border is repeated beyond it."""
    height, width = planes.shape[-2:]
    padded = pad(planes[None], [dilation] * 4, mode="replicate")[0]
    return [
        padded[
            :,
            dilation * (1 + dy) : dilation * (1 + dy) + height,
            dilation * (1 + dx) : dilation * (1 + dx) + width,
        ]
        for dy, dx in NEIGHBOURS
    ]


def _step(planes: Tensor, weights: Tensor, dilations: Sequence[int]) -> Tensor:
    """One iteration on (Q, H, W): the weighted mean of the neighbours, without the pixel itself."""
    total = torch.zeros_like(planes)
    remaining = iter(weights)
    for dilation in dilations:
        for view in _neighbours(planes, dilation):
            total.addcmul_(view, next(remaining))
    return total


def _check(image: Tensor, logits: Tensor, steps: int, dilations: Sequence[int]) -> None:
    shaped = image.ndim == logits.ndim == 3 and image.shape[1:] == logits.shape[1:]
    shaped = shaped and image.shape[0] == 3
    if not shaped or not image.numel() or not logits.numel():
        raise UserError(
            f"pamr: image of shape {tuple(image.shape)} and logits of {tuple(logits.shape)}; "
            "expected (3, H, W) and (Q, H, W) of one size"
        )
    if steps < 0:
        raise UserError(f"pamr: steps={steps}; expected 0 or more")
    if not dilations or min(dilations) < 1:
        raise UserError(f"pamr: dilations={tuple(dilations)}; expected one or more, each 1 or more")
    for name, values in (("image", image), ("logits", logits)):
        if not is_finite(values):
            raise UserError(
                f"pamr: the {name} hold{'s' * (name == 'image')} NaN or infinite numbers, which "
                "would spread to all their neighbours; expected finite ones"
            )
