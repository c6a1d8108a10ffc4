"""Weights by name: the file of a tag, from the hub's cache or by open_clip's download."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from huggingface_hub import constants, try_to_load_from_cache

from sclip_core.config import UserError, unknown
from sclip_core.config.deferred import deferred
from sclip_core.encoder import zoo
from sclip_core.encoder.hub import PREFIX, hub_fault

open_clip = deferred("open_clip")
DEFAULT_NAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def find_tag(name: str, pretrained: str) -> dict[str, Any]:
    """Open_clip's entry of a tag: where its weights are, mean, std, QuickGELU or not.

    Raises:
        UserError: the model has no such tag.
    """
    tag: dict[str, Any] = zoo.get_pretrained_cfg(name, pretrained)
    if tag:
        return tag
    tags = zoo.list_pretrained_tags_by_model(name)
    if not tags:
        raise UserError(
            f"open_clip has no weights for {name}, so no tag '{pretrained}': "
            "pass the path of a checkpoint"
        )
    raise unknown(f"pretrained tag for {name} (nor is there such a file):", pretrained, tags)


def weights_of(name: str, pretrained: str, tag: dict[str, Any], download: bool) -> Path:
    """Find the weights file of a tag, or download it.

    A cached file is used without asking the hub for a newer one, so that a run goes on with the
    weights that it began with, with or without a network.

    Args:
        name: open_clip's name of the architecture.
        pretrained: the tag's name.
        tag: open_clip's entry, as of ``find_tag``.
        download: download a file that is not cached; False: never touch the network.

    Raises:
        UserError: it is not cached and cannot be downloaded; says how to fetch it elsewhere.
    """
    cached = _cached(tag)
    if cached is not None:
        return cached
    if not download:
        raise _missing(name, pretrained, tag, "nothing was downloaded")
    fault = hub_fault() if tag.get("hf_hub") else None
    if fault:
        raise _missing(name, pretrained, tag, fault)
    try:
        return Path(open_clip.download_pretrained(tag))
    except Exception as error:  # of the hub, of sockets, of the disk
        reason = str(error).split("Last error:")[-1].strip().splitlines()
        raise _missing(name, pretrained, tag, (reason or [repr(error)])[0][:200]) from None


def _cached(tag: dict[str, Any]) -> Path | None:
    """The file in the hub's cache, under one of the names that open_clip looks for."""
    repository, filename = os.path.split(tag.get("hf_hub") or "")
    stem, suffix = os.path.splitext(filename)
    safe = [stem + ".safetensors"] if suffix in (".bin", ".pth") else []
    for candidate in [*safe, filename] if filename else DEFAULT_NAMES:
        found = try_to_load_from_cache(repository, candidate) if repository else None
        if isinstance(found, str):
            return Path(found)
    return None


def _missing(name: str, pretrained: str, tag: dict[str, Any], reason: str) -> UserError:
    """The error for missing weights: how to fetch them, and which options take the file."""
    cache, fetch = constants.HF_HUB_CACHE, f"{name}, tag '{pretrained}',"
    if pretrained.startswith(PREFIX):
        repository = pretrained.removeprefix(PREFIX)
        return UserError(
            f"the weights of {repository} are not in {cache} and could not be fetched ({reason}). "
            "On a machine with a network download the repository; then pass --model "
            "FOLDER/open_clip_config.json --pretrained FILE"
        )
    plain = name.removesuffix("-quickgelu")
    by_path = f"{plain}-quickgelu" if tag.get("quick_gelu") else name
    if by_path not in zoo.list_models():
        by_path = name
    return UserError(
        f"the weights of {fetch} are not in {cache} and could "
        f'not be fetched ({reason}). On a machine with a network run: python -c "import open_clip '
        f"as o; print(o.download_pretrained(o.get_pretrained_cfg('{name}', '{pretrained}')))\" "
        f"and copy the file it names; then pass --model {by_path} --pretrained FILE"
    )
