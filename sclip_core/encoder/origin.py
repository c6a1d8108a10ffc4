"""What is known of a weights file that is given by its path: whose it is, and its activation.

The numbers in a file do not tell whether they were trained with QuickGELU or with GELU, and with
the wrong one every score is wrong without an error. What tells: the digest of a published file,
the hub's repository that it lies in, and a config beside it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import safe_open

from sclip_core.config import UserError
from sclip_core.config.errors import few
from sclip_core.config.json_file import read_json
from sclip_core.encoder import zoo
from sclip_core.encoder.hugging_face import (
    CONFIG,
    config_of,
    differences,
    is_clip_config,
    is_of_transformers,
    named_alike,
)
from sclip_core.encoder.normalization import Normalization, in_config
from sclip_core.tensors import is_torchscript, read_state

OPEN_CLIP_CONFIG = "open_clip_config.json"
# In a folder of the hub, from the best; a timm repository's model.safetensors is an image tower.
WEIGHTS_IN_FOLDER = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors",
    "pytorch_model.bin",
)
QUICK = "-quickgelu"
# OpenAI's URLs have the whole sha256, those of open_clip's releases its first eight digits.
DIGEST_IN_URL = re.compile(r"/([0-9a-f]{64})/|mlfoundations/.*-([0-9a-f]{8})\.pth?$")


class Origin(NamedTuple):
    """Where weights come from."""

    said: str  # by what it is known, for notes and errors
    quick_gelu: bool  # whether they were trained with it
    models: tuple[str, ...] = ()  # open_clip's names of their architecture; empty: not known
    normalization: Normalization | None = None  # of their training images; None: not known


def sha256_of(path: Path) -> str:
    """The digest of a file, 64 hex digits; empty if it cannot be read, which loading reports."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def settle(
    name: str,
    config: dict[str, Any],
    path: Path,
    digest: Callable[[Path], str] = sha256_of,
) -> tuple[list[str], Origin | None]:
    """Decide QuickGELU for the weights in a file, and refuse those of another model.

    Args:
        name: of the model.
        config: its open_clip config, in which ``quick_gelu`` is set.
        path: of the weights.
        digest: gives the sha256 of a file.

    Returns:
        Notes on what was decided, and where the weights come from, if that is known.

    Raises:
        UserError: the weights are of another architecture or activation than the model, or are in
            transformers' format without the config.json that says their activation.
    """
    origin = _published(path, digest) or _of_config(name, config, path)
    archive = is_torchscript(path)
    if archive:  # OpenAI's own files, trained with QuickGELU
        config["quick_gelu"] = True
    is_named = name in zoo.list_models()
    if origin is None:
        twin = f"{name}{QUICK}"
        if config.get("quick_gelu") or not is_named or twin not in zoo.list_models():
            return [], None
        return [
            f"{path.name} does not say its activation: GELU is taken (OpenAI's: --model {twin})"
        ], None
    plain = {model.removesuffix(QUICK) for model in origin.models}
    if is_named and plain and name.removesuffix(QUICK) not in plain:
        raise UserError(f"{path} is no {name}: {origin.said}. Pass --model {origin.models[0]}")
    if config.get("quick_gelu") and not origin.quick_gelu and not archive:
        other = name.removesuffix(QUICK) if is_named else "one without quick_gelu"
        raise UserError(
            f"{path} was trained without QuickGELU ({origin.said}), and {name} has it: "
            f"pass --model {other}"
        )
    if not origin.quick_gelu or config.get("quick_gelu"):
        return [], origin
    config["quick_gelu"] = True
    return [f"{name} with QuickGELU: {path.name} was trained so ({origin.said})"], origin


def _published_digests() -> dict[str, tuple[str, bool, tuple[str, ...]]]:
    """For the digest in each URL of open_clip's list: tag, QuickGELU, names of the model."""
    found: dict[str, tuple[str, bool, tuple[str, ...]]] = {}
    for name, tag in zoo.list_pretrained():
        entry = zoo.get_pretrained_cfg(name, tag)
        match = DIGEST_IN_URL.search(entry.get("url") or "")
        if match:
            digest = match[1] or match[2]
            *_, names = found.get(digest, ("", False, ()))
            found[digest] = tag, bool(entry.get("quick_gelu")), (*names, name)
    return found


def _published(path: Path, digest: Callable[[Path], str]) -> Origin | None:
    """The origin of a file that open_clip lists, by its digest or the hub's folder it lies in."""
    sha256, known = digest(path), _published_digests()
    for key in (sha256, sha256[:8]):
        if key in known:
            tag, quick, names = known[key]
            said = f"its sha256 is that of {names[0]}, tag '{tag}'"
            entry = zoo.get_pretrained_cfg(names[0], tag)
            return Origin(said, quick, names, Normalization.of(entry, tag))
    if not path.name.startswith("open_clip_"):
        return None
    folders = {part.removeprefix("models--").replace("--", "/") for part in path.absolute().parts}
    for name, tag in zoo.list_pretrained():
        entry = zoo.get_pretrained_cfg(name, tag)
        hub = (entry.get("hf_hub") or "").rstrip("/")
        if hub and {hub, hub.split("/")[-1]} & folders:
            said = f"it lies in the folder of {hub}"
            quick = bool(entry.get("quick_gelu"))
            return Origin(said, quick, (name,), Normalization.of(entry, tag))
    return None


def _of_config(name: str, config: dict[str, Any], path: Path) -> Origin | None:
    """What a config beside the weights says."""
    beside = path.parent / OPEN_CLIP_CONFIG
    if path.name.startswith("open_clip_") and beside.is_file():
        content = read_json(beside, "model config ")
        model = content.get("model_cfg") if isinstance(content, dict) else None
        quick = isinstance(model, dict) and bool(model.get("quick_gelu"))
        return Origin(f"{beside.name} beside it says so", quick, (), in_config(beside))
    if not is_of_transformers(_names_in(path)):
        return None
    beside = path.parent / CONFIG
    if not (beside.is_file() and is_clip_config(read_json(beside, "model config "))):
        if name in zoo.list_models() and f"{name}{QUICK}" in zoo.list_models():
            raise UserError(
                f"{path} is in the format of Hugging Face transformers, whose activation only its "
                f"config.json says: copy that beside it, or, for weights that were trained with "
                f"QuickGELU, as OpenAI's were, pass --model {name}{QUICK}"
            )
        return None
    found = config_of(beside)
    differing = differences(config, found)
    if differing:
        advice = named_alike(found) or str(beside)
        raise UserError(
            f"{beside} describes another model than {name}: {few(differing)}. Pass --model {advice}"
        )
    said = f"{beside.name} beside it says so"
    return Origin(said, found["quick_gelu"], (), in_config(beside))


def _names_in(path: Path) -> list[str]:
    """The names of the tensors in a file; none if it cannot be read, which loading reports."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return list(file.keys())
        return [] if is_torchscript(path) else list(read_state(path, mapped=True))
    except Exception:  # whatever a reader makes of a damaged file
        return []


def weights_in(folder: Path) -> Path | None:
    """The weights file in a folder of a model, as the hub has them; None: there is none.

    Raises:
        UserError: the weights are in several files.
    """
    snapshots = [path for path in folder.glob("snapshots/*") if path.is_dir()]
    if len(snapshots) == 1:  # the folder of a repository in the hub's cache
        folder = snapshots[0]
    for name in WEIGHTS_IN_FOLDER:
        if (folder / name).is_file():
            return folder / name
        if (folder / f"{name}.index.json").is_file():
            raise UserError(
                f"{folder} has its weights in several files ({name}.index.json): save them as one"
            )
    return None


def config_in(folder: Path) -> Path | None:
    """The config of a model in its folder, open_clip's before transformers'; None: none."""
    snapshots = [path for path in folder.glob("snapshots/*") if path.is_dir()]
    here = snapshots[0] if len(snapshots) == 1 else folder
    return next((here / n for n in (OPEN_CLIP_CONFIG, CONFIG) if (here / n).is_file()), None)
