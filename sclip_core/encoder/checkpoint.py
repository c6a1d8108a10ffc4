"""Fill a model from a weights file: safetensors, a saved state_dict, OpenAI's TorchScript archive.

Weights of transformers' CLIPModel are given open_clip's names.

Read once, and strictly: open_clip's own loader silently resizes a position table of another image
size, and the features are then those of no model that was trained.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sclip_core.config import UserError
from sclip_core.config.deferred import deferred
from sclip_core.encoder.hugging_face import converted, is_of_transformers
from sclip_core.tensors import check_weights, first_mismatch, read_state

open_clip = deferred("open_clip")
NOT_WEIGHTS = {
    "input_resolution",  # three numbers and a mask that archives keep as buffers
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
        UserError: the file is corrupt, of another architecture, or holds pickled code or numbers
            that are not finite.
    """
    found = read_state(path)
    if is_of_transformers(found):
        found = converted(found, path)
    state = _as_named_in(model, found)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise _another_architecture(path, name, state, error) from None
    check_weights(found, path, but=NOT_WEIGHTS)


def _as_named_in(model: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights under the model's names for them, and in its shapes."""
    state = {name: value for name, value in state.items() if name not in NOT_WEIGHTS}
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = open_clip.model.convert_to_custom_text_state_dict(state)
    if model.logit_bias is not None:
        state.setdefault("logit_bias", torch.zeros(()))
    for name in {"logit_scale", "logit_bias"} & set(state):  # one number, with or without an axis
        if getattr(model, name) is not None and state[name].numel() == 1:
            state[name] = state[name].reshape(getattr(model, name).shape)
    return state


def _another_architecture(
    path: Path, name: str, state: dict[str, Tensor], error: RuntimeError
) -> UserError:
    """The error for weights that do not fit the model."""
    return UserError(
        f"{path} holds another architecture than {name}: {first_mismatch(error)}. "
        "Pass the --model that these weights were trained as"
    )
