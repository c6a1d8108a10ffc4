"""CLIP models by name and weights by tag or path, through open_clip.

Two steps, because a run whose artifacts are all there must not load a model: ``find_model`` says
which architecture and which weights file are meant, ``load_model`` builds and fills it.
"""

from __future__ import annotations

import contextlib
import copy
import json
import pickle
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import open_clip
import torch
from open_clip.factory import HFTokenizer, SimpleTokenizer, load_state_dict

from sclip_core.config import UserError, unknown
from sclip_core.encoder.pixels import MEAN, STD

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
WEIGHT_SUFFIXES = {".safetensors", ".pt", ".pth", ".bin", ".ckpt"}


@dataclass(frozen=True)
class ModelSpec:
    """Which model is meant: its architecture and its weights, not yet loaded."""

    name: str  # open_clip's name, or the stem of a JSON file
    pretrained: str  # the tag, or the file's name
    config: dict[str, Any]  # open_clip's model config, QuickGELU decided
    weights: Path
    mean: tuple[float, ...]  # on the 0–255 scale
    std: tuple[float, ...]

    @property
    def patch(self) -> int:
        """Side of a patch in pixels."""
        return int(self.config["vision_cfg"]["patch_size"])

    @property
    def width(self) -> int:
        """D, the width of the embedding."""
        return int(self.config["embed_dim"])


def find_model(model: str, pretrained: str, download: bool = True) -> ModelSpec:
    """Find architecture and weights.

    Args:
        model: an open_clip name, OpenAI's spelling of it, or the path of a model JSON.
        pretrained: a tag of open_clip, or the path of a checkpoint (.safetensors, .pt, .bin).
        download: fetch the weights of a tag where they are not in the cache.

    Raises:
        UserError: unknown name or tag, no such file, weights that cannot be had, or an image tower
            that gives no dense features.
    """
    name, config = _architecture(model)
    _check_vision(name, config["vision_cfg"])
    path = Path(pretrained).expanduser()
    if path.suffix in WEIGHT_SUFFIXES or path.is_file():
        if not path.is_file():
            raise UserError(f"no checkpoint at {path}: pass the path of a weights file, or a tag")
        if _is_torchscript(path):  # OpenAI's own files, trained with QuickGELU
            config["quick_gelu"] = True
        return ModelSpec(name, path.name, config, path, MEAN, STD)
    tag = open_clip.get_pretrained_cfg(name, pretrained)
    if not tag:
        tags = open_clip.list_pretrained_tags_by_model(name)
        if not tags:
            raise UserError(f"no pretrained tags for {name}: pass the path of a checkpoint")
        raise unknown(f"pretrained tag for {name}:", pretrained, tags)
    if tag.get("quick_gelu"):
        config["quick_gelu"] = True
    mean, std = (tuple(255 * value for value in tag[key]) for key in ("mean", "std"))
    if max(abs(a - b) for a, b in zip(mean + std, MEAN + STD, strict=True)) < 0.01:
        mean, std = MEAN, STD  # OpenAI's, as the reference rounds them
    return ModelSpec(name, pretrained, config, _fetch(name, pretrained, tag, download), mean, std)


def load_model(spec: ModelSpec, device: torch.device) -> Any:
    """Build the model and fill it, in fp32 and eval mode. Pickled code is never executed.

    Raises:
        UserError: a corrupt file, one of another architecture, or one that holds pickled code.
    """
    config = copy.deepcopy(spec.config)
    text = config["text_cfg"]
    custom = config.pop("custom_text", False) or "hf_model_name" in text
    if "hf_model_name" in text:
        text["hf_model_pretrained"] = False
    model = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**config)
    try:
        if _is_torchscript(spec.weights):
            state = torch.jit.load(spec.weights, map_location="cpu").state_dict()
            extra = ("input_resolution", "context_length", "vocab_size")
            model.load_state_dict({key: v for key, v in state.items() if key not in extra})
        else:
            _check_positions(spec, model)
            open_clip.load_checkpoint(model, str(spec.weights), weights_only=True)
    except UserError:
        raise
    except pickle.UnpicklingError:
        raise UserError(
            f"{spec.weights} holds pickled code, which is never executed here: "
            "save the model's state_dict, best as .safetensors, and pass that"
        ) from None
    except Exception as error:
        raise _unusable(spec, error) from None
    return model.eval().requires_grad_(False).to(device)


def load_tokenizer(spec: ModelSpec) -> Any:
    """The tokenizer that the architecture names; CLIP's own BPE unless it names another."""
    text = spec.config["text_cfg"]
    context = text.get("context_length", 77)
    options = text.get("tokenizer_kwargs", {})
    if text.get("hf_tokenizer_name"):
        mode = text.get("tokenizer_mode")
        return HFTokenizer(
            text["hf_tokenizer_name"], context_length=context, tokenizer_mode=mode, **options
        )
    return SimpleTokenizer(context_length=context, **options)


def find_device(device: str) -> torch.device:
    """``auto`` (a GPU where there is one), ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Raises:
        UserError: no such device here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device '{device}' cannot be used here: {reason}") from None
    return found


def find_dtype(dtype: str, device: torch.device) -> str:
    """``auto`` is fp32 on a CPU and fp16, as in the reference, on a GPU.

    Raises:
        UserError: not fp32, bf16, fp16 or auto.
    """
    if dtype == "auto":
        return "fp32" if device.type == "cpu" else "fp16"
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, ["auto", *DTYPES])
    return dtype


def _architecture(model: str) -> tuple[str, dict[str, Any]]:
    """Name and config; the config is a copy."""
    path = Path(model).expanduser()
    if path.suffix == ".json":
        try:
            config = json.loads(path.read_text("utf-8"))
        except OSError as error:
            raise UserError(f"model config {path} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise UserError(f"model config {path} is not valid JSON: {error}") from None
        config = config.get("model_cfg", config)
        missing = {"embed_dim", "vision_cfg", "text_cfg"} - set(config)
        if missing:
            raise UserError(f"model config {path} lacks {', '.join(sorted(missing))}")
        return path.stem, config
    name = model.replace("/", "-").replace("@", "-").removesuffix("px")
    config = open_clip.get_model_config(name)
    if config is None:
        plain = [n for n in open_clip.list_models() if n.startswith(("ViT-", "RN"))]
        raise unknown("model", model, plain)
    return name, config


def _check_vision(name: str, vision: dict[str, Any]) -> None:
    """Refuse by the config alone what ``dense.check_tower`` would refuse after loading."""
    if vision.get("timm_model_name"):
        reason = f"a timm tower ({vision['timm_model_name']})"
    elif isinstance(vision.get("layers"), list):
        reason = "a ResNet"
    elif vision.get("attentional_pool"):
        reason = "a ViT that pools by attention"
    else:
        return
    raise UserError(
        f"{name} cannot give dense features: its image tower is {reason}. Take an open_clip model "
        "with a plain ViT tower, e.g. ViT-B-32, ViT-B-16, ViT-L-14, ViT-L-14-336, ViT-H-14"
    )


def _fetch(name: str, tag: str, config: dict[str, Any], download: bool) -> Path:
    """The weights file of a tag, from the cache or by open_clip's own download."""
    try:
        with contextlib.nullcontext() if download else _offline():
            return Path(open_clip.download_pretrained(config))
    except Exception as error:
        reason = str(error).split("Last error:")[-1].split("\n")[0].strip()
        raise UserError(
            f"the weights of {name}, tag '{tag}', are not in the cache and could not be fetched "
            f'({reason[:200]}). On a machine with a network run: python -c "import open_clip; '
            f"open_clip.create_model('{name}', '{tag}')\" and copy its cache, "
            "or pass a file: --pretrained PATH"
        ) from None


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Look into the hub's cache only."""
    before = huggingface_hub.constants.HF_HUB_OFFLINE
    huggingface_hub.constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE = before


def _is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive, as OpenAI's are."""
    if path.suffix == ".safetensors" or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("constants.pkl") for name in archive.namelist())


def _check_positions(spec: ModelSpec, model: Any) -> None:
    """Refuse weights of another image size: open_clip would resize their positions silently."""
    state = load_state_dict(str(spec.weights), weights_only=True)
    found = state.get("visual.positional_embedding")
    wanted = model.visual.positional_embedding
    if found is not None and found.shape != wanted.shape:
        raise ValueError(
            f"position embedding of {tuple(found.shape)}, the model's is {tuple(wanted.shape)}"
        )


def _unusable(spec: ModelSpec, error: Exception) -> UserError:
    """One line for weights that do not fit or cannot be read."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    detail = lines[1] if len(lines) > 1 and lines[0].startswith("Error(s)") else (lines or [""])[0]
    if isinstance(error, ValueError) or "state_dict" in str(error):
        return UserError(
            f"{spec.weights} holds another architecture than {spec.name}: {detail[:200]}. "
            "Pass the --model that these weights were trained as"
        )
    return UserError(
        f"{spec.weights} cannot be read as weights, it may be torn or corrupt: "
        f"{type(error).__name__}: {detail[:200]}. Fetch or copy it again"
    )
