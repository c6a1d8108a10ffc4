"""Small random CLIPs: an open_clip model JSON and a checkpoint, made in a folder."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import torch
from safetensors.torch import save_file

SMALL: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {
        "image_size": 224,
        "layers": 2,
        "width": 32,
        "head_width": 16,
        "patch_size": 32,
    },
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1},
}


class Made(NamedTuple):
    """A model on disk."""

    json: Path
    weights: Path
    clip: Any  # open_clip's model with these weights

    @property
    def arguments(self) -> dict[str, str]:
        """For ``SCLIP.load`` and ``find_model``."""
        return {"model": str(self.json), "pretrained": str(self.weights)}


def small_config(*, vision=None, text=None, **top) -> dict[str, Any]:
    """SMALL with changes."""
    config = {**copy.deepcopy(SMALL), **top}
    config["vision_cfg"].update(vision or {})
    config["text_cfg"].update(text or {})
    return config


def build(config: dict[str, Any], seed: int = 0) -> Any:
    """open_clip's model of a config, every weight random: also those that begin as 0 or 1."""
    config = copy.deepcopy(config)
    custom = config.pop("custom_text", False)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        clip = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**config).eval()
        for parameter in clip.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return clip.requires_grad_(False)


def make(folder: Path, config: dict[str, Any], name: str = "small", seed: int = 0) -> Made:
    """Write a model JSON and its weights as safetensors."""
    path = folder / f"{name}.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    clip = build(config, seed)
    weights = folder / f"{name}.safetensors"
    save_file(clip.state_dict(), weights)
    return Made(path, weights, clip)
