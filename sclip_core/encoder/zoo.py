"""open_clip's tables: architectures, tags, templates, the tokenizer of CLIP.

Importing open_clip imports timm, torchvision and PyTorch's compiler: two seconds, before a model is
built. Runs whose artifacts are all there build none, and need its tables alone. These are modules
of open_clip that import little, and are loaded here without the package around them; where a
process has imported open_clip, they are its own.
"""

from __future__ import annotations

import copy
import json
import re
import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from threading import Lock
from typing import Any

OPEN_CLIP = "open_clip"
ALONE = "sclip_open_clip"  # a package with open_clip's folder, without what its __init__ imports
PARTS = ("embed_dim", "vision_cfg", "text_cfg")
_opening = Lock()


def list_models() -> list[str]:
    """Names of all architectures, as open_clip sorts them."""
    if OPEN_CLIP in sys.modules:
        found: list[str] = import_module(OPEN_CLIP).list_models()
        return found
    return list(_configs())


def get_model_config(name: str) -> dict[str, Any] | None:
    """A copy of the config of an architecture; None: there is none of that name."""
    if OPEN_CLIP in sys.modules:
        found: dict[str, Any] | None = import_module(OPEN_CLIP).get_model_config(name)
        return found
    return copy.deepcopy(_configs().get(name))


def list_pretrained() -> list[tuple[str, str]]:
    """All architectures with their tags."""
    found: list[tuple[str, str]] = _module("pretrained").list_pretrained()
    return found


def list_pretrained_tags_by_model(name: str) -> list[str]:
    """The tags of an architecture."""
    found: list[str] = _module("pretrained").list_pretrained_tags_by_model(name)
    return found


def get_pretrained_cfg(name: str, tag: str) -> dict[str, Any]:
    """The entry of a tag: where its weights are, mean, std; empty: there is no such tag."""
    found: dict[str, Any] = _module("pretrained").get_pretrained_cfg(name, tag)
    return found


def imagenet_templates() -> tuple[Callable[[str], str], ...]:
    """OpenAI's 80."""
    return tuple(_module("zero_shot_metadata").OPENAI_IMAGENET_TEMPLATES)


def openai_constants() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of the pixels of OpenAI's models, on the scale 0 to 1."""
    constants = _module("constants")
    return constants.OPENAI_DATASET_MEAN, constants.OPENAI_DATASET_STD


def simple_tokenizer(**options: Any) -> Any:
    """CLIP's own tokenizer, open_clip's ``SimpleTokenizer``.

    With the usual options it is the one that open_clip's module has made of its table of 49,000
    merges, which takes a sixth of a second.
    """
    module = _module("tokenizer")
    made = getattr(module, "_tokenizer", None)
    usual = {"context_length": getattr(made, "context_length", None)}
    if isinstance(made, module.SimpleTokenizer) and options in ({}, usual):
        return made
    return module.SimpleTokenizer(**options)


def hub_tokenizer(name: str, **options: Any) -> Any:
    """A tokenizer of the hub, open_clip's ``HFTokenizer``."""
    return _module("tokenizer").HFTokenizer(name, **options)


def is_simple(tokenizer: Any) -> bool:
    """Whether a tokenizer is CLIP's own, from either place."""
    return any(kind.__name__ == "SimpleTokenizer" for kind in type(tokenizer).__mro__)


@cache
def _configs() -> dict[str, dict[str, Any]]:
    """The configs of all architectures."""
    read = {
        file.stem: json.loads(file.read_text("utf-8"))
        for file in (_folder() / "model_configs").glob("*.json")
    }
    whole = {name: config for name, config in read.items() if all(p in config for p in PARTS)}
    return dict(sorted(whole.items(), key=lambda item: _natural(item[0])))


def _natural(name: str) -> list[int | str]:
    """For sorting: numbers in a name count as numbers."""
    return [int(s) if s.isdigit() else s for s in re.split(r"(\d+)", name.lower())]


def _folder() -> Path:
    """Where open_clip is installed."""
    spec = find_spec(OPEN_CLIP)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"No module named '{OPEN_CLIP}'", name=OPEN_CLIP)
    return Path(spec.submodule_search_locations[0])


def _module(name: str) -> Any:
    """A module of open_clip's: its own, or one of the package that stands for it."""
    if OPEN_CLIP in sys.modules:
        return import_module(f"{OPEN_CLIP}.{name}")
    with _opening:
        if ALONE not in sys.modules:
            spec = ModuleSpec(ALONE, loader=None, is_package=True)
            spec.submodule_search_locations = [str(_folder())]
            sys.modules[ALONE] = module_from_spec(spec)
    return import_module(f"{ALONE}.{name}")
