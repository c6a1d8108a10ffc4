"""Small random towers of timm's in open_clip's ``TimmModel``, of every kind that open_clip has."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from open_clip.timm_model import TimmModel
from timm.models import register_model
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

SIZE = {"img_size": 64, "patch_size": 16, "embed_dim": 32, "depth": 3, "num_heads": 2}
ViT = partial(VisionTransformer, **SIZE)
EVA = partial(Eva, **SIZE)
ROPE = {"use_rot_pos_emb": True, "rope_grid_indexing": "ij"}
EVA02 = {
    "qkv_fused": False,
    "swiglu_mlp": True,
    "scale_mlp": True,
    "scale_attn_inner": True,
    "ref_feat_shape": (16, 16),
    "global_pool": "token",
    "num_classes": 20,
    **ROPE,
}
PE = {
    "attn_type": "rope",
    "global_pool": "map",
    "attn_pool_num_heads": 4,
    "attn_pool_mlp_ratio": 4.0,
    "num_classes": 20,
    "use_pre_transformer_norm": True,
    "use_rot_pos_emb": True,
    "rope_grid_offset": 1.0,
    "rope_grid_indexing": "xy",
    "use_post_transformer_norm": True,
}
MAP = {"global_pool": "map", "num_classes": 0, "class_token": False}
TRUNKS: dict[str, Callable[[], nn.Module]] = {
    "siglip": partial(ViT, **MAP),
    "siglip, layer scale, normed keys": partial(ViT, **MAP, init_values=0.4, qk_norm=True),
    "mobileclip2-l": partial(ViT, global_pool="token", num_classes=20, pre_norm=True),
    "registers": partial(ViT, global_pool="token", num_classes=20, reg_tokens=2),
    "cls without position": partial(ViT, global_pool="token", num_classes=20, no_embed_class=True),
    "mean": partial(ViT, global_pool="avg", num_classes=0, class_token=False),
    "mean beside cls": partial(ViT, global_pool="avg", num_classes=20),
    "map beside cls": partial(ViT, global_pool="map", num_classes=20),
    "eva01": partial(EVA, global_pool="token", num_classes=20),
    "eva02": partial(EVA, **EVA02),
    "eva02, norms after": partial(EVA, global_pool="token", num_classes=20, use_post_norm=True),
    "eva, halves turned": partial(
        EVA, **{**EVA02, "rope_rotate_half": True, "qkv_fused": True, "init_values": 0.3}
    ),
    "pe": partial(EVA, **PE),
    "pe without cls": partial(EVA, **{**PE, "class_token": False, "init_values": 0.3}),
}


def timm_tower(kind: str, seed: int = 0, projected: bool | None = None, **other: Any) -> Any:
    """A ``TimmModel`` around a small trunk, every weight random: also those that begin as 0 or 1.

    Args:
        kind: of ``TRUNKS``.
        seed: of the weights.
        projected: with a projection of open_clip's; None: where the trunk has none by attention.
        **other: arguments of the trunk to change.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        trunk = TRUNKS[kind](**other)
        tower = TimmModel.__new__(TimmModel)
        nn.Module.__init__(tower)
        tower.trunk, tower.head = trunk, nn.Sequential()
        if kind == "mean" if projected is None else projected:
            tower.head = nn.Sequential(nn.Dropout(0.0), nn.Linear(32, 12, bias=False))
        for parameter in tower.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
    return tower.eval().requires_grad_(False)


def alone(visual: Any, tokens: Tensor) -> Tensor:
    """What the model's own pooling and projection make of each token if it is all there is.

    Args:
        visual: a ``TimmModel``.
        tokens: (1, T, width), as ``forward_features`` gives them.
    """
    trunk = visual.trunk
    pool = trunk.global_pool
    skips = pool == "avg" or (pool == "map" and isinstance(trunk, VisionTransformer))
    before = tokens[:, : trunk.num_prefix_tokens] if skips else tokens[:, :0]
    found = [
        visual.head(trunk.forward_head(torch.cat([before, token], dim=1)))
        for token in tokens.split(1, dim=1)
    ]
    return torch.stack(found, dim=1)


@register_model
def sclip_siglip(pretrained: bool = False, **given: Any) -> nn.Module:
    """A small SigLIP by a name of timm's, for model JSONs: width 32, three blocks, patch 16."""
    return TRUNKS["siglip"](num_classes=given["num_classes"])


SIGLIP = {  # of a model JSON with embed_dim 32
    "timm_model_name": "sclip_siglip",
    "timm_pool": "map",
    "timm_proj": "none",
    "image_size": 64,
}
