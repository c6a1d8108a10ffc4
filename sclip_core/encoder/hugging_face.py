"""CLIPModel of Hugging Face transformers: its weights and its config.json as open_clip has them."""

from __future__ import annotations

import re
from collections import ChainMap
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sclip_core.config import UserError
from sclip_core.config.errors import few
from sclip_core.config.json_file import read_json
from sclip_core.encoder import zoo

CONFIG = "config.json"
ACTIVATIONS = {"quick_gelu": True, "gelu": False}  # and whether it is QuickGELU
EPS = 1e-5  # of every LayerNorm of open_clip's
LEFT_OUT = re.compile(r".*\.embeddings\.position_ids")  # 0, 1, 2, ..., of versions before 4.31
# Where config.json leaves a key out, it has the default of transformers' CLIPConfig.
VISION = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 32,
}
TEXT = {
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "vocab_size": 49408,
    "max_position_embeddings": 77,
}
TOWERS = {"vision_model": "visual.", "text_model": ""}
NAMES = {  # within a tower
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding.weight": "conv1.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "pre_layrnorm": "ln_pre",  # transformers' own spelling
    "post_layernorm": "ln_post",
    "final_layer_norm": "ln_final",
}
IN_BLOCK = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
PROJECTIONS = {
    "visual_projection.weight": "visual.proj",
    "text_projection.weight": "text_projection",
}


def is_of_transformers(names: Any) -> bool:
    """Whether the names of tensors are those of transformers' image towers."""
    return any(name.startswith("vision_model.") for name in names)


def converted(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The weights of a CLIPModel under open_clip's names.

    Args:
        state: by transformers' names.
        path: of the file, for the error.

    Raises:
        UserError: it lacks a tower, or is of another class than CLIPModel.
    """
    parts = ("vision_model.", "text_model.", "visual_projection.", "text_projection.")
    lacking = [part[:-1] for part in parts if not any(name.startswith(part) for name in state)]
    if lacking:
        raise _other_class(path, f"it lacks {few(lacking, 4)}")
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        if LEFT_OUT.fullmatch(name) or re.search(r"\.self_attn\.[kv]_proj\.", name):
            continue
        if ".self_attn.q_proj." in name:  # in open_clip query, key and value are one
            others = [name.replace(".q_proj.", f".{part}_proj.") for part in "kv"]
            if not set(others) <= state.keys():
                raise _other_class(path, f"it lacks {others[0]}")
            value = torch.cat([value, *(state[other] for other in others)])
        if name in PROJECTIONS:
            value = value.T.contiguous()
        found[_renamed(name, path)] = value
    return found


def _renamed(name: str, path: Path) -> str:
    """Open_clip's name of a tensor."""
    if name == "logit_scale" or name in PROJECTIONS:
        return PROJECTIONS.get(name, name)
    tower, _, rest = name.partition(".")
    block = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", rest)
    if tower in TOWERS and block:
        number, part, kind = block.groups()
        resblock = f"{TOWERS[tower]}transformer.resblocks.{number}."
        if part == "self_attn.q_proj":
            return f"{resblock}attn.in_proj_{kind}"
        if part in IN_BLOCK:
            return f"{resblock}{IN_BLOCK[part]}.{kind}"
    stem, _, kind = rest.rpartition(".")
    if tower in TOWERS and rest in NAMES:
        return TOWERS[tower] + NAMES[rest]
    if tower in TOWERS and stem in NAMES and kind in ("weight", "bias"):
        return f"{TOWERS[tower]}{NAMES[stem]}.{kind}"
    raise _other_class(path, f"it has {name}")


def _other_class(path: Path, why: str) -> UserError:
    return UserError(
        f"{path} is in the format of Hugging Face transformers, but not of its class CLIPModel: "
        f"{why}. Pass the same weights in open_clip's or OpenAI's format"
    )


def is_clip_config(config: Any) -> bool:
    """Whether the content of a config.json is that of a CLIPModel, rather than of timm or so."""
    return isinstance(config, dict) and config.get("model_type") == "clip"


def config_of(path: Path) -> dict[str, Any]:
    """The open_clip config that a transformers config.json describes.

    Raises:
        UserError: it is of another class than CLIPModel, or of one that open_clip cannot build.
    """
    config = read_json(path, "model config ")
    if not is_clip_config(config):
        kind = config.get("model_type") if isinstance(config, dict) else None
        raise UserError(f"{path} describes a model of type {kind!r}, expected 'clip'")
    vision, text = _section(config, "vision", VISION), _section(config, "text", TEXT)
    acts = {part.get("hidden_act", "quick_gelu") for part in (vision, text)}
    eps = {part.get("layer_norm_eps", EPS) for part in (vision, text)}
    if len(acts) > 1 or not acts <= ACTIVATIONS.keys() or eps != {EPS}:
        raise UserError(
            f"{path}: hidden_act {few(sorted(map(str, acts)))}, layer_norm_eps {few(sorted(eps))}: "
            f"expected quick_gelu or gelu in both towers, and {EPS}"
        )
    try:
        return {
            "embed_dim": int(config.get("projection_dim", 512)),
            "quick_gelu": ACTIVATIONS[acts.pop()],
            "vision_cfg": {
                "image_size": int(vision["image_size"]),
                "patch_size": int(vision["patch_size"]),
                "head_width": vision["hidden_size"] // vision["num_attention_heads"],
                **_sizes(vision),
            },
            "text_cfg": {
                "context_length": int(text["max_position_embeddings"]),
                "vocab_size": int(text["vocab_size"]),
                "heads": int(text["num_attention_heads"]),
                **_sizes(text),
            },
        }
    except (TypeError, ValueError, ZeroDivisionError):
        raise UserError(f"{path} has sizes that are no numbers: copy it again") from None


def _section(config: dict[str, Any], tower: str, usual: dict[str, int]) -> dict[str, Any]:
    """The section of a tower, over which that of old versions' ``..._config_dict`` has its way."""
    parts = [config.get(f"{tower}_config_dict"), config.get(f"{tower}_config"), usual]
    return dict(ChainMap(*(part for part in parts if isinstance(part, dict))))


def _sizes(tower: dict[str, Any]) -> dict[str, Any]:
    """What both towers have."""
    return {
        "width": int(tower["hidden_size"]),
        "layers": int(tower["num_hidden_layers"]),
        "mlp_ratio": tower["intermediate_size"] / tower["hidden_size"],
    }


def differences(config: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Where two open_clip configs differ: ``vision layers 12, not 24``; the activation aside."""
    mine, others = _facts(config), _facts(other)
    unlike = (name for name in mine if mine[name] != others[name])
    return [f"{name} {others[name]}, not {mine[name]}" for name in unlike]


def named_alike(config: dict[str, Any]) -> str | None:
    """The open_clip model of a config's architecture and activation; None: there is none."""
    for name in zoo.list_models():
        known = zoo.get_model_config(name) or {}
        alike = bool(known.get("quick_gelu")) == bool(config.get("quick_gelu"))
        if alike and _is_plain(known) and not differences(known, config):
            return str(name)
    return None


def _is_plain(config: dict[str, Any]) -> bool:
    """Whether a config is of open_clip's own towers."""
    text, vision = config["text_cfg"], config["vision_cfg"]
    return not ({"hf_model_name"} & text.keys() or {"timm_model_name"} & vision.keys())


def _facts(config: dict[str, Any]) -> dict[str, Any]:
    """What decides an architecture, with open_clip's defaults."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    width = vision.get("width", 768)
    return {
        "embedding": config["embed_dim"],
        "image size": vision.get("image_size", 224),
        "patch": vision.get("patch_size", 16),
        "vision width": width,
        "vision layers": vision.get("layers", 12),
        "vision heads": width // vision.get("head_width", 64),
        "vision MLP": round(width * vision.get("mlp_ratio", 4.0)),
        "text width": text.get("width", 512),
        "text layers": text.get("layers", 12),
        "text heads": text.get("heads", 8),
        "text MLP": round(text.get("width", 512) * text.get("mlp_ratio", 4.0)),
        "context": text.get("context_length", 77),
        "words": text.get("vocab_size", 49408),
    }
