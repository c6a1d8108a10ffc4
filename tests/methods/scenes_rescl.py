"""A scene of an image, built by hand, and what follows a method's features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from sclip_core import SCLIP
from sclip_core.config import Geometry, Protocol
from sclip_core.encoder.clip import resized_pixels
from sclip_core.encoder.pixels import cut_windows
from sclip_core.methods.method import Method, Scene
from sclip_core.segmentation import Stitcher, decide

from .conftest import GOLDEN

SETTINGS = GOLDEN.parents[1] / "sclip_core" / "config" / "methods"


def settings(method: type[Method], benchmark: str) -> tuple[Method, Protocol]:
    """A method and its protocol as its settings file has them for a benchmark."""
    read = yaml.safe_load((SETTINGS / f"{method.name}.yaml").read_text("utf-8"))
    own = dict(read["benchmarks"].get(benchmark) or {})
    parameters = read["parameters"] | own.pop("parameters", {})
    return method(**parameters), Protocol(**(read["protocol"] | own))


def scene_of(
    model: SCLIP,
    method: Method,
    protocol: Protocol,
    image: NDArray[np.uint8],
    words: Tensor | None = None,
    **more: Any,
) -> Scene:
    """The scene of an RGB image."""
    encoder, spec = model.encoder, model.spec
    geometry = Geometry.of(*image.shape[:2], protocol, spec.patch)
    windows = cut_windows(resized_pixels(image, geometry, spec), geometry)
    taps = encoder.taps(windows, method.taps(encoder.tower.layers))
    return Scene(geometry, encoder.tower, taps, lambda: windows, words=words, **more)


def first_window(scene: Scene) -> Scene:
    """The scene of its top-left window alone."""
    taps = {tap: value[:1].clone() for tap, value in scene.taps.items()}
    pixels = scene.pixels()[:1]
    return replace(scene, taps=taps, pixels=lambda: pixels)


def logits_of(geometry: Geometry, features: Tensor, words: Tensor) -> Tensor:
    """Cosines (Q, H, W) at the original size."""
    stitcher = Stitcher(geometry)
    return stitcher.stitch(stitcher.side_by_side(features, words))


def decided(
    logits: Tensor, query_class: Sequence[int], protocol: Protocol
) -> NDArray[np.unsignedinteger]:
    """The label map."""
    classes = torch.as_tensor(query_class)
    return decide(lambda: [logits], classes, int(classes.max()) + 1, protocol)
