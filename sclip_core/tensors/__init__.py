"""What every network here needs: weights from files, room for products."""

from sclip_core.tensors.room import Room
from sclip_core.tensors.weights import is_torchscript, one_line, read_state

__all__ = ["Room", "is_torchscript", "one_line", "read_state"]
