"""Networks built without drawing their weights, which a file overwrites anyway.

Drawing 150 million numbers takes most of the time in which a model is loaded. PyTorch's device
``meta`` would leave out buffers too, which constructors compute and no file holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

DRAWN = {  # in place: of tensors, and of ``torch.nn.init``
    "uniform_",
    "normal_",
    "trunc_normal_",
    "xavier_uniform_",
    "xavier_normal_",
    "kaiming_uniform_",
    "kaiming_normal_",
}


class Undrawn(TorchFunctionMode):
    """Within it this thread draws nothing: tensors keep what their memory holds."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Leave out a call that draws."""
        kwargs = kwargs or {}
        if func is torch.randn:
            return torch.empty(*args, **{k: v for k, v in kwargs.items() if k != "generator"})
        if getattr(func, "__name__", "") in DRAWN:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
