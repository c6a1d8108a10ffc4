"""What every network needs: devices, weights from files, checks for NaN, buffers for products."""

from sclip_core.tensors.buffers import Buffers
from sclip_core.tensors.finite import check_weights, is_finite
from sclip_core.tensors.products import attend, linear
from sclip_core.tensors.weights import first_mismatch, is_torchscript, one_line, read_state

__all__ = [
    "Buffers",
    "attend",
    "check_weights",
    "first_mismatch",
    "is_finite",
    "is_torchscript",
    "linear",
    "one_line",
    "read_state",
]
