"""Second networks by name or file, through timm.

In two steps, as CLIP's: ``find_second`` finds the architecture and the weights file,
``load_second`` builds the network, checks the file and fills the network, strictly.
"""

from __future__ import annotations

import copy
import hashlib
import logging
import os
import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.utils import logging as hub_logging
from torch import Tensor

from sclip_core.config import UserError, unknown
from sclip_core.config.deferred import deferred
from sclip_core.config.json_file import read_arguments
from sclip_core.config.paths import local
from sclip_core.encoder.hub import hub_fault
from sclip_core.encoder.second import MEAN, STD, SecondNetwork
from sclip_core.tensors import check_weights, first_mismatch, one_line, read_state

timm = deferred("timm")
SHORT = {
    "dino_vits8": "vit_small_patch8_224.dino",
    "dino_vits16": "vit_small_patch16_224.dino",
    "dino_vitb8": "vit_base_patch8_224.dino",
    "dino_vitb16": "vit_base_patch16_224.dino",
    "dinov2_vits14": "vit_small_patch14_dinov2.lvd142m",
    "dinov2_vitb14": "vit_base_patch14_dinov2.lvd142m",
    "dinov2_vitl14": "vit_large_patch14_dinov2.lvd142m",
    "dinov2_vitg14": "vit_giant_patch14_dinov2.lvd142m",
    "dinov2_vits14_reg": "vit_small_patch14_reg4_dinov2.lvd142m",
    "dinov2_vitb14_reg": "vit_base_patch14_reg4_dinov2.lvd142m",
    "dinov2_vitl14_reg": "vit_large_patch14_reg4_dinov2.lvd142m",
    "dinov2_vitg14_reg": "vit_giant_patch14_reg4_dinov2.lvd142m",
}
JSON_KEY = "timm.models.vision_transformer.VisionTransformer"
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
DIGEST = re.compile("[0-9a-f]{64}")
HEAD = ("head.", "fc_norm.", "head_drop.")  # the classifier, which nothing here reads


@dataclass(frozen=True)
class SecondSpec:
    """A second network and its weights, not yet loaded."""

    name: str  # as given; of a JSON file its stem
    kind: str  # "timm": config["architecture"] is one of timm's; "json": config: its arguments
    config: dict[str, Any]
    weights: Path
    patch: int  # side in pixels
    mean: tuple[float, ...] = MEAN  # of each channel, on the 0–1 scale
    std: tuple[float, ...] = STD


def find_second(model: str, weights: str | None = None, download: bool = True) -> SecondSpec:
    """Find architecture and weights.

    Args:
        model: a short name (``dino_vitb8``, ``dinov2_vitb14``), the name of a plain ViT of timm
            (``vit_base_patch8_224.dino``), or the path of a JSON with timm's arguments.
        weights: path of a weights file in timm's or facebookresearch's names (.safetensors, .pth,
            .pt); or one of timm's tags of the architecture (``dino``, ``lvd142m``); None or "":
            timm's own of that name.
        download: download weights that are not cached; False: never touch the network.

    Raises:
        UserError: the name is unknown, the network is no plain ViT, a file does not exist, weights
            cannot be downloaded.
    """
    path = Path(local(model)).expanduser()
    if path.suffix == ".json":
        name, kind, config = path.stem, "json", read_arguments(path, JSON_KEY)
    else:
        tagged = _tagged(_timm_name(model), weights)
        weights = None if tagged else weights
        name, kind, config = model, "timm", {"architecture": tagged or _timm_name(model)}
    if kind == "timm" and not weights and not download:  # said before the network is built
        usual = timm.models.get_pretrained_cfg(config["architecture"])
        _from_hub(name, config["architecture"], usual.hf_hub_id if usual else None, download)
    vit = _built(name, kind, config)
    given = _as_file(name, weights) if weights else None
    if kind == "json":
        if given is None:
            raise UserError(f"{path} describes a network without weights: pass a weights file too")
        return SecondSpec(name, kind, config, given, _patch(vit))
    cfg: Any = vit.pretrained_cfg
    found = given or _from_hub(name, config["architecture"], cfg.get("hf_hub_id"), download)
    mean, std = tuple(cfg["mean"]), tuple(cfg["std"])
    return SecondSpec(name, kind, config, found, _patch(vit), mean, std)


def load_second(
    spec: SecondSpec, device: torch.device, dtype: torch.dtype = torch.float32
) -> SecondNetwork:
    """Build the network and fill it, in eval mode. Pickled code is never executed.

    Raises:
        UserError: the file is torn, of another network, or holds pickled code or numbers that are
            not finite.
    """
    _check_digest(spec.weights)
    vit = _built(spec.name, spec.kind, spec.config)
    state = _as_timm_names_them(read_state(spec.weights))
    try:
        vit.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise UserError(
            f"{spec.weights} holds another network than {spec.name}: {first_mismatch(error)}. "
            "Pass the name of the network that these weights were trained as"
        ) from None
    check_weights(state, spec.weights)
    return SecondNetwork(vit.requires_grad_(False).to(device, dtype), spec.mean, spec.std)


def _timm_name(model: str) -> str:
    """The name of one of timm's networks, with its tag if it has one.

    Raises:
        UserError: timm has no such network, or no such weights of it.
    """
    name = SHORT.get(model, model)
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        plain = timm.list_models("*vit*", module="vision_transformer")
        raise unknown("second network", model, [*SHORT, *plain])
    tagged = timm.list_pretrained(f"{architecture}.*")
    if tag and name not in tagged:
        raise unknown(f"weights of {architecture}:", model, tagged)
    return name


def _tagged(architecture: str, tag: str | None) -> str | None:
    """The name of a network with other weights of timm's; None: a file is meant.

    Raises:
        UserError: it is neither a file nor a tag of the network.
    """
    if not tag or os.sep in tag or Path(tag).suffix or os.path.exists(tag):
        return None
    plain = architecture.partition(".")[0]
    tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{plain}.*")]
    if tag not in tags:
        raise unknown(f"weights of {plain} (nor is there such a file):", tag, tags)
    return f"{plain}.{tag}"


def _built(name: str, kind: str, config: dict[str, Any]) -> Any:
    """The network without memory: every weight comes from the file.

    Raises:
        UserError: timm cannot build it, or it is no plain ViT.
    """
    import_module("timm")  # whose own tensors are no meta ones
    try:
        with torch.device("meta"):
            if kind == "timm":
                vit = timm.create_model(config["architecture"], pretrained=False, num_classes=0)
            else:
                arguments = {**copy.deepcopy(config), "num_classes": 0}
                vit = timm.models.vision_transformer.VisionTransformer(**arguments)
    except Exception as error:  # whatever a constructor makes of a key or a number
        raise UserError(f"{name} cannot be built by timm: {one_line(error)}") from None
    _check_plain(name, vit)
    return vit


def _check_plain(name: str, vit: Any) -> None:
    """Check that the last block and the position table are as ``SecondNetwork`` reads them."""
    if type(vit).__name__ != "VisionTransformer":
        reason = f"is of the class {type(vit).__name__}"
    elif {type(block).__name__ for block in vit.blocks} != {"Block"} or not all(
        _plain_attention(block.attn) for block in vit.blocks
    ):
        reason = "has no plain attention blocks"
    elif vit.pos_embed is None or type(vit.patch_embed).__name__ != "PatchEmbed":
        reason = "has no position table of its patches"
    elif isinstance(vit.norm, torch.nn.Identity):
        reason = "has no final norm of its tokens"
    elif vit.patch_embed.proj.in_channels != 3:
        reason = "does not take three colours"
    elif len(set(vit.patch_embed.patch_size)) > 1:
        reason = f"has patches that are not square, {vit.patch_embed.patch_size}"
    else:
        return
    raise UserError(
        f"{name} cannot be the second network: it {reason}. Take a plain ViT of timm's, e.g. "
        "dino_vitb8, dino_vitb16, dinov2_vitb14"
    )


def _plain_attention(attn: Any) -> bool:
    """Whether an attention is softmax(q·k)·v and a projection, and nothing more."""
    if type(attn).__name__ != "Attention":
        return False
    # Earlier versions of timm have no norm and no gate.
    between = [getattr(attn, name, None) for name in ("q_norm", "k_norm", "norm", "gate")]
    return all(part is None or isinstance(part, torch.nn.Identity) for part in between)


def _patch(vit: Any) -> int:
    return int(vit.patch_embed.patch_size[0])


def _as_file(name: str, weights: str) -> Path:
    """The path of a weights file that was named."""
    path = Path(local(weights)).expanduser()
    if os.path.isfile(path):
        return path
    what = "is a folder" if os.path.isdir(path) else "does not exist"
    raise UserError(f"the weights {path} of {name}: {what}; pass the path of a weights file")


def _from_hub(name: str, architecture: str, repository: str | None, download: bool) -> Path:
    """Timm's weights in the hub's cache, which no newer ones replace; else downloaded.

    Raises:
        UserError: they are not cached and cannot be downloaded; says how to fetch them elsewhere.
    """
    if not repository:
        raise UserError(f"timm has no weights of {architecture}: pass the path of a weights file")
    for filename in HUB_FILES:
        cached = try_to_load_from_cache(repository, filename)
        if isinstance(cached, str):
            return Path(cached)
    reason = hub_fault() if download else "nothing was downloaded"
    if reason is None:
        level = hub_logging.get_verbosity()
        hub_logging.set_verbosity(logging.ERROR)  # it would tell of every try
        try:
            return Path(hf_hub_download(repository, HUB_FILES[0]))
        except Exception as error:  # of the hub, of sockets, of the disk
            lines = str(error).strip().splitlines()
            reason = (lines or [repr(error)])[0][:200]
        finally:
            hub_logging.set_verbosity(level)
    raise UserError(
        f"the weights of {name} are not in {constants.HF_HUB_CACHE} and could not be fetched "
        f'({reason}). On a machine with a network run: python -c "import huggingface_hub as h; '
        f"print(h.hf_hub_download('{repository}', '{HUB_FILES[0]}'))\" and copy the file it names; "
        "then pass its path: --proxy-weights FILE"
    )


def _check_digest(path: Path) -> None:
    """Compare a file of the hub's cache with the SHA-256 that the hub names its large files by.

    Raises:
        UserError: they differ, so the download is torn or the file was changed.
    """
    blob = path.resolve()
    if blob.parent.name != "blobs" or not DIGEST.fullmatch(blob.name):
        return
    with blob.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != blob.name:
        raise UserError(
            f"{path} is damaged: its SHA-256 is {found[:12]}..., not {blob.name[:12]}...: "
            f"delete {blob} and {path}, and fetch it again"
        )


def _as_timm_names_them(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict under timm's names, without a classifier; facebookresearch's differ in DINOv2.

    It has a mask token, which only training uses; a CLS position in the table where there are
    registers, which timm adds to the CLS token; and other names in the gated MLP of its largest.
    """
    state = {name: value for name, value in state.items() if not name.startswith(HEAD)}
    state.pop("mask_token", None)
    if "register_tokens" in state and {"pos_embed", "cls_token"} <= set(state):
        table = state["pos_embed"]
        state["reg_token"] = state.pop("register_tokens")
        state["cls_token"] = state["cls_token"] + table[:, :1]
        state["pos_embed"] = table[:, 1:]
    renamed = {".mlp.w12.": ".mlp.fc1.", ".mlp.w3.": ".mlp.fc2."}
    for old, new in renamed.items():
        state = {name.replace(old, new): value for name, value in state.items()}
    return state
