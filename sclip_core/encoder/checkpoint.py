"""Weights from a file into a model: safetensors, a saved state_dict, OpenAI's TorchScript archive.

Read once, and strictly: open_clip's own loader resizes a position table of another image size
without a word, and gives features that no model was trained for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from open_clip.model import convert_to_custom_text_state_dict
from torch import Tensor

from sclip_core.config import UserError
from sclip_core.tensors import check_weights, read_state

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
        UserError: a corrupt file, one of another architecture, one that holds pickled code, or
            numbers that are not finite.
    """
    found = read_state(path)
    state = _as_named_in(model, found)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise _another_architecture(path, name, state, str(error)) from None
    check_weights(found, path, but=NOT_WEIGHTS)


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
