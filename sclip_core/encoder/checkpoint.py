"""Weights from a file into a model: safetensors, a saved state_dict, OpenAI's TorchScript archive.

Read once, and strictly: open_clip's own loader resizes a position table of another image size
without a word, and gives features that no model was trained for.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from open_clip.model import convert_to_custom_text_state_dict
from safetensors.torch import load_file
from torch import Tensor

from sclip_core.config import UserError

NOT_WEIGHTS = {
    "input_resolution",  # numbers and a mask that archives keep as buffers
    "context_length",
    "vocab_size",
    "attn_mask",
    "text.transformer.embeddings.position_ids",  # of transformers before 4.31
}


def fill(model: Any, path: Path, name: str) -> None:
    """Fill an open_clip model from a file. Pickled code is never executed.

    Args:
        model: open_clip's ``CLIP`` or ``CustomTextCLIP``.
        path: a weights file.
        name: of the model, for the error.

    Raises:
        UserError: a corrupt file, one of another architecture, or one that holds pickled code.
    """
    state = _as_named_in(model, read_state(path))
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise _another_architecture(path, name, state, str(error)) from None


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file by name, on the CPU.

    Raises:
        UserError: a corrupt file, or one that holds something else than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        elif is_torchscript(path):
            state = _read_torchscript(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each reader has a dozen kinds of its own
        raise _unreadable(path, error) from None
    if isinstance(state, dict) and "state_dict" in state:  # a checkpoint of a training run
        state = state["state_dict"]
    if not (isinstance(state, dict) and {type(v) for v in state.values()} == {Tensor}):
        raise UserError(f"{path} holds no weights: expected a state_dict, tensors by name")
    return {name.removeprefix("module."): value for name, value in state.items()}


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive, as OpenAI's are."""
    if path.suffix == ".safetensors" or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _read_torchscript(path: Path) -> Any:
    """The state_dict of an archive; its reader is in C++ and knows no Python to execute."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # deprecated, but OpenAI's files stay
        return torch.jit.load(path, map_location="cpu").state_dict()


def one_line(error: Exception) -> str:
    """What an error says, at most 200 characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _as_named_in(model: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights under the names and in the shapes that the model has for them."""
    state = {name: value for name, value in state.items() if name not in NOT_WEIGHTS}
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    if model.logit_bias is not None:
        state.setdefault("logit_bias", torch.zeros(()))
    for name in {"logit_scale", "logit_bias"} & set(state):  # a number, with or without an axis
        if getattr(model, name) is not None and state[name].numel() == 1:
            state[name] = state[name].reshape(getattr(model, name).shape)
    return state


def _another_architecture(
    path: Path, name: str, state: dict[str, Tensor], report: str
) -> UserError:
    """The error for weights that do not fit; the first size that differs says most."""
    if any(key.startswith("vision_model.") for key in state):
        return UserError(
            f"{path} is in the format of Hugging Face transformers: pass the same weights in "
            "open_clip's or OpenAI's format"
        )
    lines = [line.strip() for line in report.splitlines()[1:]]
    detail = next((line for line in lines if line.startswith("size mismatch")), lines[0])
    return UserError(
        f"{path} holds another architecture than {name}: {detail[:200].rstrip('. ')}. "
        "Pass the --model that these weights were trained as"
    )


def _unreadable(path: Path, error: Exception) -> UserError:
    """The error for a file that its reader refused."""
    code = re.search(r"GLOBAL ([\w.]+)", str(error))
    if code:
        return UserError(
            f"{path} holds pickled code ({code[1]}), which is never executed here: "
            "save the model's state_dict, best as .safetensors, and pass that"
        )
    return UserError(
        f"{path} cannot be read as weights: it is torn, corrupt, or a plain pickle, which is never "
        f"executed here ({one_line(error)}). Fetch or copy it again"
    )
