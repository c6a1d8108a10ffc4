"""What every network here needs: weights from files, finite ones, and room for products."""

from sclip_core.tensors.buffers import Room
from sclip_core.tensors.finite import check_weights, is_finite
from sclip_core.tensors.weights import is_torchscript, one_line, read_state

__all__ = ["Room", "check_weights", "is_finite", "is_torchscript", "one_line", "read_state"]
