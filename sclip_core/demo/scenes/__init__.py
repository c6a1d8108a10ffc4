"""Drawn scenes: a small world of textures and things, with captions and exact label maps.

A picture depends only on its seed. The pictures to train on (``draw_picture``) have no label map;
the scenes to evaluate on (``draw_scene``) have one, and are larger.
"""

from sclip_core.demo.scenes.captions import caption, lexicon
from sclip_core.demo.scenes.compose import (
    Item,
    Picture,
    Scene,
    class_names,
    draw_picture,
    draw_scene,
    stuff_names,
)
from sclip_core.demo.scenes.seeds import caption_rng, evaluation_rng, order_rng, training_rng

__all__ = [
    "Item",
    "Picture",
    "Scene",
    "caption",
    "caption_rng",
    "class_names",
    "draw_picture",
    "draw_scene",
    "evaluation_rng",
    "lexicon",
    "order_rng",
    "stuff_names",
    "training_rng",
]
