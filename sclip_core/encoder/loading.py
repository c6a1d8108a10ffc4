"""CLIP models by name or file, through open_clip.

In two steps, because a run whose artifacts all exist must not load a model: ``find_model`` finds
the architecture and the weights file, ``load_model`` builds the model and fills it.
"""

from __future__ import annotations

import copy
import difflib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from sclip_core.config import UserError, unknown
from sclip_core.config.deferred import deferred
from sclip_core.config.json_file import read_json
from sclip_core.config.paths import local
from sclip_core.encoder import zoo
from sclip_core.encoder.checkpoint import fill
from sclip_core.encoder.hub import PREFIX, hub_config, is_repository, tag_of, tokenizer_fault
from sclip_core.encoder.hugging_face import config_of, is_clip_config
from sclip_core.encoder.normalization import Normalization, in_config, normalization_of
from sclip_core.encoder.origin import config_in, settle, sha256_of, weights_in
from sclip_core.encoder.pixels import MEAN, STD
from sclip_core.encoder.pretrained import find_tag, weights_of
from sclip_core.encoder.towers import Facts, backbone_of
from sclip_core.tensors import one_line
from sclip_core.tensors.undrawn import Undrawn

open_clip = deferred("open_clip")
WEIGHT_SUFFIXES = {".safetensors", ".pt", ".pth", ".bin", ".ckpt"}
EMBEDDED = "sclip-demo"  # comes with the package, trained on drawn scenes
EMBEDDED_TAG = "scenes"
UNTRAINED = "none"  # in place of a tag
EMBEDDED_FILES = Path(__file__).parents[1] / "demo" / "sclip_demo"
FETCH_TOKENIZER = "fetch it on a machine with a network, or take a model with CLIP's own tokenizer"
# What open_clip's own ViTs are told by: with other keys, the tower is built to see what it is.
OF_PLAIN_VIT = {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"}
SMALLEST_TEXT = {"vocab_size": 1, "width": 1, "heads": 1, "layers": 1}


@dataclass(frozen=True)
class ModelSpec:
    """An architecture and its weights, not yet loaded."""

    name: str  # open_clip's name, or the stem of a JSON file
    pretrained: str  # the tag, or the file's name
    config: dict[str, Any]  # open_clip's model config, QuickGELU decided
    weights: Path
    tower: Facts
    mean: tuple[float, ...] = MEAN  # of each channel, on the 0–255 scale
    std: tuple[float, ...] = STD
    notes: tuple[str, ...] = ()  # on what was decided for the weights, a line each

    @property
    def patch(self) -> int:
        """Side of a patch in pixels."""
        return self.tower.patch

    @property
    def width(self) -> int:
        """D, the width of the embedding."""
        return int(self.config["embed_dim"])


def find_model(
    model: str,
    pretrained: str,
    download: bool = True,
    digest: Callable[[Path], str] = sha256_of,
) -> ModelSpec:
    """Find architecture and weights.

    Args:
        model: an open_clip name, OpenAI's spelling of it, ``sclip-demo`` (the tiny CLIP of drawn
            scenes that comes with the package), ``hf-hub:`` and a repository of the hub, whose
            weights are then meant unless ``pretrained`` is a path, or the path of a model JSON, or
            of a folder with an ``open_clip_config.json`` or transformers' ``config.json``.
        pretrained: a tag of open_clip (``scenes`` for ``sclip-demo``), or the path of a checkpoint
            (.safetensors, .pt, .bin), open_clip's, OpenAI's or transformers', or of its folder.
        download: download the weights of a tag if they are not cached; False: never touch the
            network.
        digest: gives the sha256 of a file, for weights that are given by a path.

    Raises:
        UserError: the name or tag is unknown, a file does not exist, weights cannot be downloaded,
            weights are known to be another model's, or the image tower gives no dense features.
    """
    repository = model.removeprefix(PREFIX) if model.startswith(PREFIX) else ""
    if repository and is_repository(repository):
        named = tag_of(repository)
        if named is None:
            return _of_repository(repository, pretrained, download, digest)
        model = named[0]
        pretrained = pretrained if _as_path(pretrained) else named[1]
    name, config, config_file = _architecture(model)
    path = _as_path(pretrained)
    if path is not None:
        return _of_file(name, config, config_file, path, digest)
    tower = _facts(name, config)
    config["vision_cfg"]["patch_size"] = tower.patch
    if name == EMBEDDED:
        if pretrained != EMBEDDED_TAG:
            raise unknown(f"pretrained tag for {name}:", pretrained, [EMBEDDED_TAG])
        weights = EMBEDDED_FILES.with_suffix(".safetensors")
        return ModelSpec(name, pretrained, config, weights, tower)
    tag = find_tag(name, pretrained)
    if tag.get("quick_gelu"):
        config["quick_gelu"] = True
    mean, std = (Normalization.of(tag, pretrained) or Normalization()).of_bytes
    weights = weights_of(name, pretrained, tag, download)
    return ModelSpec(name, pretrained, config, weights, tower, mean, std)


def _of_repository(
    repository: str, pretrained: str, download: bool, digest: Callable[[Path], str]
) -> ModelSpec:
    """A model of the hub that open_clip has no tag for: its own config, and its weights or a file.

    Raises:
        UserError: it is not cached and cannot be downloaded, or is no model of open_clip.
    """
    place = hub_config(repository, download)
    name, config = repository.partition("/")[2], _read_config(place)
    path = _as_path(pretrained)
    if path is not None:
        return _of_file(name, config, place, path, digest)
    tower = _facts(name, config)
    config["vision_cfg"]["patch_size"] = tower.patch
    mean, std = (in_config(place) or Normalization()).of_bytes
    own = PREFIX + repository
    weights = weights_of(name, own, {"hf_hub": repository + "/"}, download)
    return ModelSpec(name, own, config, weights, tower, mean, std)


def _of_file(
    name: str,
    config: dict[str, Any],
    config_file: Path | None,
    path: Path,
    digest: Callable[[Path], str],
) -> ModelSpec:
    """An architecture and weights in a file, of which activation, mean and std are decided.

    Raises:
        UserError: the weights are known to be another model's; the image tower gives no dense
            features.
    """
    is_listed = config == zoo.get_model_config(name)
    tower = _facts(name, config)
    config["vision_cfg"]["patch_size"] = tower.patch
    notes, origin = settle(name, config, path, digest)
    known = (origin.normalization, origin.said) if origin else (None, "")
    pixels, more = normalization_of(name, path, known, config_file, is_listed)
    mean, std = pixels.of_bytes
    return ModelSpec(name, path.name, config, path, tower, mean, std, (*notes, *more))


def find_untrained(model: str) -> ModelSpec:
    """An architecture, to be built with random weights: for what it costs, not for what it finds.

    Raises:
        UserError: the name is unknown, or the image tower gives no dense features.
    """
    name, config, _ = _architecture(model)
    tower = _facts(name, config)
    config["vision_cfg"]["patch_size"] = tower.patch
    return ModelSpec(name, UNTRAINED, config, Path(os.devnull), tower)


def load_model(spec: ModelSpec, device: torch.device) -> Any:
    """Build the model and fill it, in fp32 and eval mode. Pickled code is never executed.

    Args:
        spec: of ``find_model``; of ``find_untrained``, random weights stay, each time the same.
        device: where to.

    Raises:
        UserError: open_clip cannot build the config; the file is corrupt, of another architecture,
            or holds pickled code.
    """
    import_module("open_clip")  # not within what changes how tensors are made
    if spec.pretrained == UNTRAINED:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = _build(spec.name, spec.config)
    else:
        with Undrawn():  # every weight comes from the file
            model = _build(spec.name, spec.config)
        fill(model, spec.weights, spec.name)
    return model.eval().requires_grad_(False).to(device)


def load_tokenizer(spec: ModelSpec) -> Any:
    """The tokenizer that the architecture names; CLIP's own BPE if it names none.

    Raises:
        UserError: it names another one, which cannot be loaded.
    """
    text = spec.config["text_cfg"]
    context = text.get("context_length", 77)
    options = text.get("tokenizer_kwargs") or {}
    named = text.get("hf_tokenizer_name")
    if not named:
        return zoo.simple_tokenizer(context_length=context, **options)
    fault = tokenizer_fault(named)
    if fault:
        raise UserError(
            f"{spec.name} needs the tokenizer '{named}', and {fault}: {FETCH_TOKENIZER}"
        )
    mode = text.get("tokenizer_mode")
    try:
        return zoo.hub_tokenizer(named, context_length=context, tokenizer_mode=mode, **options)
    except Exception as error:  # no transformers, no network, no such tokenizer
        raise UserError(
            f"{spec.name} needs the tokenizer '{named}', which cannot be loaded "
            f"({one_line(error)}): pip install transformers, and {FETCH_TOKENIZER}"
        ) from None


def _architecture(model: str) -> tuple[str, dict[str, Any], Path | None]:
    """The name of an architecture, a copy of its config, and the file that it was read from."""
    path = Path(model).expanduser()
    if path.suffix == ".json":
        is_of_folder = path.name == "config.json"  # which has the model's name
        name = path.absolute().parent.name if is_of_folder else path.stem
        return name, _read_config(path), path
    if model == EMBEDDED:
        return EMBEDDED, _read_config(EMBEDDED_FILES.with_suffix(".json")), None
    name = model.replace("/", "-").replace("@", "-").removesuffix("px")
    if name not in zoo.list_models():
        config_file = config_in(path) if os.path.isdir(path) else None
        if config_file is not None:
            return path.absolute().name, _read_config(config_file), config_file
        plain = [n for n in zoo.list_models() if n.startswith(("ViT-", "RN"))]
        spelt = difflib.get_close_matches(name.lower(), [n.lower() for n in plain], cutoff=0.75)
        if is_repository(model) and not spelt:
            raise _repository_of_hub(model)
        raise unknown("model", model, [*plain, EMBEDDED])
    config: dict[str, Any] = zoo.get_model_config(name) or {}
    return name, config, None


def _repository_of_hub(name: str) -> UserError:
    """The error for a repository that is named without its prefix, or as a tag."""
    named = tag_of(name)
    same = f", which is open_clip's {named[0]} with tag {named[1]}" if named else ""
    return UserError(
        f"{name} is neither a file nor a name of open_clip; if it is a repository of the Hugging "
        f"Face hub, pass --model {PREFIX}{name}{same}"
    )


def _read_config(path: Path) -> dict[str, Any]:
    """The config in an open_clip model JSON, in a hub's ``open_clip_config.json``, transformers'.

    Raises:
        UserError: the file cannot be read, is not JSON, or lacks a key.
    """
    config = read_json(path, "model config ")
    if is_clip_config(config):
        return config_of(path)
    config = config.get("model_cfg", config) if isinstance(config, dict) else {}
    wanted: dict[str, type] = {"embed_dim": int, "vision_cfg": dict, "text_cfg": dict}
    wrong = [key for key, kind in wanted.items() if not isinstance(config.get(key), kind)]
    if wrong:
        raise UserError(
            f"model config {path} lacks {', '.join(wrong)}: expected an open_clip model config, "
            "with a number embed_dim and the sections vision_cfg and text_cfg"
        )
    found: dict[str, Any] = config
    return found


def _as_path(pretrained: str) -> Path | None:
    """The path of a checkpoint, also of one in a folder; None if a tag is meant.

    The name of a tag of open_clip means the tag, whatever files the current folder has; with ``./``
    before it, it is a path.

    Raises:
        UserError: it is a path, and neither a file nor a folder with weights.
    """
    tags = {EMBEDDED_TAG, *(tag for _, tag in zoo.list_pretrained())}
    if pretrained.lower().replace("-", "_") in tags:  # as open_clip compares them
        return None
    path = Path(local(pretrained)).expanduser()
    if os.path.isfile(path):
        return path
    if os.path.isdir(path):
        found = weights_in(path)
        if found is not None:
            return found
        raise UserError(f"{path} is a folder: pass the path of a weights file in it")
    repository = pretrained.removeprefix(PREFIX)
    if is_repository(repository) and path.suffix not in WEIGHT_SUFFIXES:
        raise _repository_of_hub(repository)
    if path.suffix in WEIGHT_SUFFIXES or os.sep in pretrained:
        raise UserError(f"no checkpoint at {path}: pass the path of a weights file, or a tag")
    return None


def meta_tower(name: str, config: dict[str, Any]) -> Any:
    """The image tower of a config, built without memory.

    So open_clip decides what the config means, and no second list of models has to be kept.

    Raises:
        UserError: open_clip cannot build it.
    """
    vision = {**config["vision_cfg"], "timm_model_pretrained": False}
    image_only = {"embed_dim": config["embed_dim"], "vision_cfg": vision, "text_cfg": SMALLEST_TEXT}
    import_module("open_clip")  # whose own tensors are no meta ones
    with torch.device("meta"):
        return _build(name, image_only).visual


def _facts(name: str, config: dict[str, Any]) -> Facts:
    """What is known of an image tower that gives dense features."""
    vision = config["vision_cfg"]
    is_listed = name == EMBEDDED or config == zoo.get_model_config(name)
    if is_listed and vision.keys() <= OF_PLAIN_VIT and isinstance(vision.get("layers"), int):
        with suppress(KeyError):
            return Facts(vision["patch_size"], vision["layers"], vision["width"], 1, "")
    return backbone_of(meta_tower(name, config), name).facts


def _build(name: str, config: dict[str, Any]) -> Any:
    """Build the model of a config, with random weights.

    Raises:
        UserError: open_clip cannot build it.
    """
    config = copy.deepcopy(config)
    text = config["text_cfg"]
    custom = config.pop("custom_text", False) or "hf_model_name" in text
    if "hf_model_name" in text:
        text["hf_model_pretrained"] = False
    kind = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    if "multimodal_cfg" in config:  # its text decoder is in the weights, too
        kind = open_clip.CoCa
    try:
        return kind(**config)
    except Exception as error:  # whatever a constructor makes of a key or a number
        raise UserError(f"{name} cannot be built by open_clip: {one_line(error)}") from None
