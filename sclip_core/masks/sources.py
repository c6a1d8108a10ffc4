"""Where mask proposals come from: a registry of sources behind one interface."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sclip_core.config.masks import MaskSettings
from sclip_core.masks import superpixels
from sclip_core.masks.proposals import Proposals
from sclip_core.tensors.device import DTYPES, find_device, find_dtype

Proposer = Callable[[NDArray[np.uint8]], Proposals]  # an image (H, W, 3) uint8 RGB to masks


def open_source(
    settings: MaskSettings,
    checkpoint: Path | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Proposer:
    """A source of masks, ready to be called with images.

    Args:
        settings: which, and its own settings.
        checkpoint: SAM's weights; None: Meta's, by name.
        device: where SAM runs.
        dtype: of SAM.

    Raises:
        UserError: a library or weights that are not there.
    """
    return SOURCES[settings.proposals](settings, checkpoint, torch.device(device), dtype)


def _sam(
    settings: MaskSettings, checkpoint: Path | None, device: torch.device, dtype: torch.dtype
) -> Proposer:
    from sclip_core.masks.sam.loading import find_checkpoint, library, load_sam

    library()  # before anything is fetched for it
    weights = find_checkpoint(settings.sam_model, checkpoint)
    sam = load_sam(settings.sam_model, weights, device, dtype)
    from sclip_core.masks.sam.generator import MaskGenerator

    return MaskGenerator(sam, settings)


def _superpixels(method: Any, settings: MaskSettings, *_: Any) -> Proposer:
    superpixels.library()  # before there is an image
    return partial(superpixels.propose, settings=settings, segment=method)


SOURCES: dict[str, Callable[..., Proposer]] = {
    "sam": _sam,
    "felzenszwalb": partial(_superpixels, superpixels.felzenszwalb),
    "slic": partial(_superpixels, superpixels.slic),
}


def mask_source(
    source: str = "sam",
    checkpoint: Path | str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    **settings: Any,
) -> Proposer:
    """What proposes masks: called with an image (H, W, 3) uint8 RGB, it gives those of it.

    Args:
        source: ``sam``; or ``felzenszwalb``, ``slic``, which need no weights.
        checkpoint: SAM's weights, a .pth of Meta's; None: fetched by name.
        device: where SAM runs, see ``SCLIP.load``.
        dtype: of SAM, likewise.
        **settings: of ``MaskSettings``, e.g. ``sam_model="vit_h"``, ``points_per_side=8``.

    Raises:
        UserError: an unknown name, a library or weights that are not there.
    """
    checked = MaskSettings.checked({"proposals": source, **settings})
    weights = Path(checkpoint).expanduser() if checkpoint is not None else None
    where = find_device(device)
    return open_source(checked, weights, where, DTYPES[find_dtype(dtype, where)])
