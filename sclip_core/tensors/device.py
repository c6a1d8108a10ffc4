"""The device and the precision to compute in."""

from __future__ import annotations

import torch

from sclip_core.config import UserError, unknown

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def find_device(device: str) -> torch.device:
    """The device ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Raises:
        UserError: there is no such device here.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
        torch.zeros(1, device=found).item()
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0][:200]
        raise UserError(
            f"device '{device}' cannot be used here ({reason}): take auto, cpu, cuda or cuda:N"
        ) from None
    if found.type == "cuda":
        # PyTorch lets convolutions, though not products, round to TF32: their errors are a thousand
        # times those of float32, which is promised here.
        torch.backends.cudnn.allow_tf32 = False
    return found


def find_dtype(dtype: str, device: torch.device) -> str:
    """The name of a dtype, a key of ``DTYPES``.

    Args:
        dtype: such a name, or ``auto``: fp32 on a CPU, and fp16, as in the reference, on a GPU.
        device: decides ``auto``.

    Raises:
        UserError: the name is unknown.
    """
    if dtype == "auto":
        return "fp32" if device.type == "cpu" else "fp16"
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, ["auto", *DTYPES])
    return dtype
