"""Scenes of the methods that read masks, and their labels after the vote."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import yaml
from torch import Tensor
from torch.nn.functional import normalize

from sclip_core import SCLIP, Protocol
from sclip_core.methods.method import Method, Scene
from sclip_core.methods.vote import vote

from . import scenes_proxy
from .scenes_proxy import METHODS, VOCABULARIES, labels_of


def protocol_of(method: type[Method], key: str) -> Protocol:
    """The protocol that a method's settings file has for a set of words, without the vote."""
    read = yaml.safe_load((METHODS / f"{method.name}.yaml").read_text("utf-8"))
    assert read["protocol"].pop("after") == ["vote"]
    own = read["benchmarks"].get(VOCABULARIES.get(key, key), {})
    return Protocol(**(read["protocol"] | own))


def scene_of(
    model: SCLIP, method: Method, image: np.ndarray, ids: np.ndarray, protocol: Protocol
) -> Scene:
    """The scene of an RGB image with an id map of its size."""
    scene = scenes_proxy.scene_of(model, method, image, protocol)
    return replace(scene, regions=torch.from_numpy(ids.astype(np.int64)))


def words_of(golden, key: str) -> Tensor:
    """The vectors of a set's words, which one of the images' files holds."""
    vectors = golden("shapes_300x420")[f"text_{key}"]
    return normalize(torch.from_numpy(vectors.astype(np.float32)), dim=-1)


def voted(logits: Tensor, key: str, protocol: Protocol, ids: np.ndarray) -> np.ndarray:
    """The decision on logits, and the vote of the regions."""
    return vote(labels_of(logits, key, protocol), ids)


def drawn(height: int, width: int, seed: int = 0) -> np.ndarray:
    """An RGB image of coarse noise."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    rows, columns = (np.arange(side) * 6 // side for side in (height, width))
    return np.ascontiguousarray(small[rows[:, None], columns])


def quarters(height: int, width: int) -> np.ndarray:
    """Four regions, the first of which is what no mask covers."""
    return (np.arange(height)[:, None] * 2 // height) * 2 + np.arange(width) * 2 // width
