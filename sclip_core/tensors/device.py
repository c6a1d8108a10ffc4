"""Where and in what precision to compute."""

from __future__ import annotations

import torch

from sclip_core.config import UserError, unknown

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def find_device(device: str) -> torch.device:
    """``auto`` (a GPU where there is one), ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Raises:
        UserError: no such device here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.zeros(1, device=found).item()
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0][:200]
        raise UserError(
            f"device '{device}' cannot be used here ({reason}): take auto, cpu, cuda or cuda:N"
        ) from None
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
