"""Weights from a file: safetensors, a saved state_dict, a TorchScript archive; never executed."""

from __future__ import annotations

import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from sclip_core.config import UserError, refused_by_system

MOST_PACKED = 2**26  # bytes by which an archive may grow: its code is a megabyte


def read_state(path: Path, mapped: bool = False) -> dict[str, Tensor]:
    """The tensors of a weights file by name, on the CPU.

    Args:
        path: of the file.
        mapped: leave the numbers on the disk until they are used, where the format allows it.

    Raises:
        UserError: the file is corrupt, or holds something else than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        elif swells(path):
            raise ValueError("its archive unpacks to far more than its size on the disk")
        elif is_torchscript(path):
            state = _read_torchscript(path)
        else:
            state = _read_pickled(path, mapped)
    except Exception as error:  # each reader has a dozen kinds of its own
        raise _unreadable(path, error) from None
    if isinstance(state, dict) and "state_dict" in state:  # a checkpoint of a training run
        state = state["state_dict"]
    if not (isinstance(state, dict) and {type(v) for v in state.values()} == {Tensor}):
        raise UserError(f"{path} holds no weights: expected a state_dict, tensors by name")
    return {name.removeprefix("module."): value for name, value in state.items()}


def swells(path: Path) -> bool:
    """Whether a file is an archive that unpacks to far more than its own size.

    PyTorch stores numbers uncompressed and compresses only the code of a TorchScript archive.
    """
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    return unpacked > path.stat().st_size + MOST_PACKED


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive, as OpenAI's weights are."""
    if path.suffix == ".safetensors" or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _read_pickled(path: Path, mapped: bool) -> Any:
    """A saved state_dict; warnings about a pickle's protocol repeat what the error says."""
    mmap = mapped and zipfile.is_zipfile(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)


def _read_torchscript(path: Path) -> Any:
    """The state_dict of an archive; its reader is in C++ and executes no Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # deprecated, but OpenAI's files stay
        return torch.jit.load(path, map_location="cpu").state_dict()


def one_line(error: Exception) -> str:
    """An error's class and message in one line of at most 200 characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def first_mismatch(error: RuntimeError) -> str:
    """Why ``load_state_dict`` refused weights: the first size that differs, or its first reason."""
    lines = [line.strip() for line in str(error).splitlines()[1:]] or [str(error)]
    wrong = next((line for line in lines if line.startswith("size mismatch")), lines[0])
    return wrong[:200].rstrip(". ")


def _unreadable(path: Path, error: Exception) -> UserError:
    """The error for a file that cannot be read."""
    reason = refused_by_system(error)
    if reason:
        return UserError(f"{path} cannot be read: {reason}; free some, and run again")
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
