"""Models of the Hugging Face hub by ``hf-hub:repository``, as open_clip names them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

from sclip_core.config import UserError
from sclip_core.config.network import fault_within
from sclip_core.encoder import zoo

PREFIX = "hf-hub:"
CONFIG = "open_clip_config.json"
OF_TOKENIZERS = ("tokenizer_config.json", "tokenizer.json", "config.json", "vocab.txt")
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_repository(name: str) -> bool:
    """Whether a name is one of a hub's repository: ``laion/CLIP-ViT-B-16-laion2B-s34B-b88K``."""
    return REPOSITORY.fullmatch(name) is not None


def hub_fault() -> str | None:
    """Why the hub cannot be reached; None: it answers.

    It is asked once before a download, as huggingface_hub tries each name of a file for long.
    """
    try:
        from huggingface_hub import get_session
    except ImportError:  # another version
        return None

    def ask(seconds: float) -> None:
        """Through the user's own proxies and certificates."""
        session: Any = get_session()
        session.head(constants.ENDPOINT, timeout=seconds)

    fault = fault_within(ask)
    return f"{constants.ENDPOINT} cannot be reached: {fault}" if fault else None


def tokenizer_fault(named: str) -> str | None:
    """Why a tokenizer of the hub is out of reach; None: it is not, or is here already."""
    if os.path.isdir(named) or named.startswith(("/", ".", "~")) or named.count("/") > 1:
        return None
    cached = (try_to_load_from_cache(named, file) for file in OF_TOKENIZERS)
    return None if any(isinstance(path, str) for path in cached) else hub_fault()


def tag_of(repository: str) -> tuple[str, str] | None:
    """Open_clip's name and tag of a repository's weights; None: it has none."""
    for name, tag in zoo.list_pretrained():
        where = str(zoo.get_pretrained_cfg(name, tag).get("hf_hub") or "")
        if where.rstrip("/").lower() == repository.lower():
            return name, tag
    return None


def hub_config(repository: str, download: bool) -> Path:
    """The file of a repository's config, from the hub's cache or downloaded.

    Raises:
        UserError: it is not cached and cannot be downloaded, or the repository has none.
    """
    cached = try_to_load_from_cache(repository, CONFIG)
    if isinstance(cached, str):
        return Path(cached)
    reason = hub_fault() if download else "nothing was downloaded"
    if reason is None:
        try:
            return Path(hf_hub_download(repository, CONFIG))
        except Exception as error:  # of the hub, of sockets, of the disk
            if type(error).__name__ in ("EntryNotFoundError", "RemoteEntryNotFoundError"):
                raise _no_open_clip(repository) from None
            lines = str(error).strip().splitlines()
            reason = (lines or [repr(error)])[0][:200]
    raise UserError(
        f"{CONFIG} of {repository} is not in {constants.HF_HUB_CACHE} and could not be fetched "
        f"({reason}). On a machine with a network download the repository; then pass --model "
        f"FOLDER/{CONFIG} --pretrained FILE"
    )


def _no_open_clip(repository: str) -> UserError:
    return UserError(
        f"{repository} has no {CONFIG}, so it is no model of open_clip: take a repository that has "
        "one, or pass the paths of a model JSON and a weights file"
    )
