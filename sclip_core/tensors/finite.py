"""Checks for NaN and infinity, before they become labels."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor

from sclip_core.config import UserError


def is_finite(values: Tensor) -> bool:
    """Whether all numbers of a tensor are finite in float32, or in float64 if that is its dtype.

    A finite sum has finite terms, and takes a tenth of the time of checking each; they are checked
    only where the sum is not finite.
    """
    if values.is_meta or not (values.is_floating_point() or values.is_complex()):
        return True
    if values.element_size() == 1:  # PyTorch promotes no dtype of 8 bits
        values = values.float()
    wide = torch.promote_types(values.dtype, torch.float32)
    if bool(values.sum(dtype=wide).isfinite()):
        return True
    return bool(values.to(wide).isfinite().all())


def check_weights(state: Mapping[str, Tensor], path: Path, but: Collection[str] = ()) -> None:
    """Check that weights are finite numbers.

    Args:
        state: tensors by name.
        path: of the file that they are from, for the error.
        but: names of tensors that are not weights.

    Raises:
        UserError: some are not; names the file and the first such tensor.
    """
    for name, values in state.items():
        # Weights of float64 are used in float32.
        numbers = values.float() if values.dtype == torch.float64 else values
        if name in but or is_finite(numbers):
            continue
        wrong = int((~numbers.float().isfinite()).sum())
        raise UserError(
            f"{path}: {wrong} of the {values.numel()} numbers of '{name}' are not finite: "
            "the file is damaged, or its training diverged. Fetch or copy it again"
        )
