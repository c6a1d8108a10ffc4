"""Scenes of the golden images, by hand: windows, views, taps; and what follows on features."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import interpolate

from sclip_core import SCLIP, Protocol, Vocabulary
from sclip_core.config import Geometry
from sclip_core.encoder.pixels import cut_windows, normalise, resize
from sclip_core.encoder.views import VIEWS
from sclip_core.methods.method import Method, Scene
from sclip_core.segmentation.decision import decide


def resized(image: np.ndarray, protocol: Protocol) -> tuple[torch.Tensor, Geometry]:
    """The normalised resized image (3, h, w) of (H, W, 3) in BGR, and where its windows lie."""
    geometry = Geometry.of(*image.shape[:2], protocol, patch=16)
    return normalise(resize(np.ascontiguousarray(image[..., ::-1]), geometry.resized)), geometry


def scene_of(model: SCLIP, method: Method, pixels: torch.Tensor, geometry: Geometry) -> Scene:
    """The scene of a resized image (3, h, w)."""
    windows = cut_windows(pixels, geometry)
    views = torch.cat([VIEWS[view](windows) for view in method.views])
    encoder = model.encoder
    return Scene(
        geometry=geometry,
        tower=encoder.tower,
        taps=encoder.taps(views, method.taps(encoder.tower.layers)),
        pixels=lambda: windows,
    )


def crop0(pixels: torch.Tensor, geometry: Geometry) -> tuple[torch.Tensor, Geometry]:
    """The top-left window of a resized image, as an image of its own."""
    height, width = geometry.window
    protocol = Protocol(short_side=min(height, width), slide_crop=max(height, width))
    small = Geometry.of(height, width, protocol, patch=16)
    assert (small.num_windows, small.resized, small.tokens) == (1, geometry.window, geometry.tokens)
    return pixels[:, :height, :width], small


def at_original_size(pixels: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    """The resized image, bilinear to the original size."""
    return interpolate(pixels[None], size=geometry.original, mode="bilinear")[0]


def labels_of(logits: torch.Tensor, vocabulary: str, protocol: Protocol) -> np.ndarray:
    """The decision on logits (Q, H, W)."""
    names = Vocabulary.named(vocabulary)
    return decide(lambda: [logits], torch.tensor(names.query_class), names.num_classes, protocol)


def bank_of(golden, arrays, key: str) -> torch.Tensor:
    """The words of a set (Q, D); those of ``voc21spread`` are the image's."""
    spread = key == "voc21spread"
    return torch.from_numpy(
        arrays["text_spread"] if spread else golden("shapes_300x420")[f"text_{key}"]
    )


def close(found, expected, bound: float) -> None:
    np.testing.assert_allclose(np.asarray(found), expected, atol=bound, rtol=0)


VOCABULARIES = {"coco_stuff164k": "coco_stuff", "voc21spread": "voc21"}  # where names differ
