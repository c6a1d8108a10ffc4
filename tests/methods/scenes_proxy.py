"""Scenes of methods with a second network, built by hand, and what follows on features."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import yaml
from torch import Tensor

from sclip_core import SCLIP, Protocol, Vocabulary
from sclip_core.config import Geometry
from sclip_core.encoder.pixels import cut_windows, normalise, resize
from sclip_core.encoder.second import SecondNetwork
from sclip_core.encoder.second_loading import find_second, load_second
from sclip_core.methods.method import Method, Scene
from sclip_core.segmentation import Stitcher, decide

from ..conftest import GOLDEN

METHODS = GOLDEN.parents[1] / "sclip_core" / "config" / "methods"
VOCABULARIES = {"coco_stuff164k": "coco_stuff"}  # where the arrays have another name


@cache
def tiny_dino(patch: int = 8) -> SecondNetwork:
    """The DINO of the golden arrays."""
    path = GOLDEN / f"tiny_dino{patch}"
    return load_second(find_second(f"{path}.json", f"{path}.safetensors"), torch.device("cpu"))


def protocol_of(method: type[Method], key: str) -> Protocol:
    """The protocol that a method's settings file has for a set of words."""
    read = yaml.safe_load((METHODS / f"{method.name}.yaml").read_text("utf-8"))
    own = read["benchmarks"].get(VOCABULARIES.get(key, key)) or {}
    return Protocol(**(read["protocol"] | own))


def scene_of(model: SCLIP, method: Method, image: np.ndarray, protocol: Protocol) -> Scene:
    """The scene of an RGB image, with the tiny DINO as the second network."""
    geometry = Geometry.of(*image.shape[:2], protocol, patch=16)
    windows = cut_windows(normalise(resize(image, geometry.resized)), geometry)
    encoder, second = model.encoder, tiny_dino()
    return Scene(
        geometry=geometry,
        tower=encoder.tower,
        taps=encoder.taps(windows, method.taps(encoder.tower.layers)),
        pixels=lambda: windows,
        network=second,
        second=second.taps(second.prepare(windows), method.second_taps),
    )


def features_of(method: Method, scene: Scene) -> Tensor:
    """The features, checked against what the interface promises."""
    features = method.features(scene)
    layout = method.layout(scene.geometry, scene.network.patch)
    assert features.shape[:3] == (layout.num_windows, *layout.tokens)
    assert features.dtype == torch.float32
    assert bool(features.isfinite().all())
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(features.shape[:3]))
    return features


def logits_of(method: Method, scene: Scene, features: Tensor, words: Tensor) -> Tensor:
    """Cosines (Q, H, W) at the original size."""
    stitcher = Stitcher(method.layout(scene.geometry, scene.network.patch))
    return stitcher.stitch(stitcher.side_by_side(features, words))


def labels_of(logits: Tensor, key: str, protocol: Protocol) -> np.ndarray:
    """The decision on logits, with the words of a set."""
    names = Vocabulary.named(VOCABULARIES.get(key, key))
    return decide(lambda: [logits], torch.tensor(names.query_class), names.num_classes, protocol)


def rgb(arrays) -> np.ndarray:
    return np.ascontiguousarray(arrays["image_bgr"][..., ::-1])


def close(found, expected, bound: float) -> None:
    np.testing.assert_allclose(np.asarray(found), expected, atol=bound, rtol=0)


def assert_logits(logits: Tensor, expected: np.ndarray, every: int) -> None:
    """Golden logits: entries at a threshold may fall on the other side, so two bounds."""
    difference = np.abs(logits[::every, ::16, ::16].numpy() - expected)
    assert np.quantile(difference, 0.99) <= 5e-6
    assert difference.max() <= 1e-3


def assert_labels(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    assert (found != expected).mean() <= 1e-4
