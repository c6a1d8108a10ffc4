"""Files of users' own for tests, and registries that forget them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sclip_core.config import methods, plugins, tables
from sclip_core.encoder import attention
from sclip_core.masks.fill import RULES
from sclip_core.masks.sources import SOURCES
from sclip_core.methods.own_parts import DECISIONS
from sclip_core.methods.registry import OWN
from sclip_core.methods.steps import STEPS
from sclip_core.segmentation.refiners import REFINERS

MINE = """
    import torch
    from sclip_core.methods import method

    @method("mine")
    def mine(scene, *, beta: float = 8.0):
        heads = scene.tower.heads(-1, scene.h(-1))
        unit = torch.nn.functional.normalize(heads.k, dim=-1)
        mixed = torch.softmax(beta * unit @ unit.transpose(-2, -1), dim=-1) @ heads.v
        features = scene.tower.features(scene.tower.out(-1, mixed)[:, 1:])
        return features.unflatten(1, scene.geometry.tokens)
"""


def written(path: Path, text: str) -> Path:
    """A file with a text, which may be indented."""
    path.write_text(textwrap.dedent(text))
    return path


@contextmanager
def forgotten() -> Iterator[None]:
    """What is registered within is gone after it."""
    tabled = tables()
    kept = [
        *(OWN, methods._own, attention.POLICIES, REFINERS, STEPS, RULES, SOURCES, DECISIONS),
        *(plugins._held, plugins._plugins, tabled["benchmarks"], tabled["layouts"]),
        *(methods.ATTENTIONS, methods.STEPS_WITH_MASKS),
    ]
    before = [one.copy() for one in kept]
    try:
        yield
    finally:
        for one, was in zip(kept, before, strict=True):
            one.clear()
            one.update(was)
