"""Networks in bf16 on a CPU: the products of blocks in bf16, all between them in float32.

Every block adds to the stream. In bf16, which has 8 binary digits, each of these sums would be
rounded by up to 1/256 of the whole; on a CPU float32 costs next to nothing there, as products take
the time. On a GPU a network is what PyTorch makes of it, all in one dtype.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call


def stream_dtype(weight: Tensor) -> torch.dtype:
    """The dtype of the residual stream of a network with such weights."""
    if weight.dtype == torch.bfloat16 and weight.device.type == "cpu":
        return torch.float32
    return weight.dtype


def cast(network: nn.Module, blocks: nn.Module, dtype: torch.dtype) -> None:
    """Cast a network in place; to bf16 on a CPU the products of its blocks alone.

    What is before and after the blocks is few products, and norms multiply the whole stream: on the
    demo's scenes rounding the weights of norms changed five times as many labels as rounding one
    kind of matrix in all blocks.

    Args:
        network: on its device.
        blocks: a part of it.
        dtype: of its products.
    """
    device = next(network.parameters()).device
    if dtype != torch.bfloat16 or device.type != "cpu":
        network.to(dtype)
        return
    norms = [module for module in blocks.modules() if isinstance(module, nn.LayerNorm)]
    kept = [{name: value.clone() for name, value in norm.state_dict().items()} for norm in norms]
    blocks.to(dtype)
    for norm, weights in zip(norms, kept, strict=True):
        norm.float().load_state_dict(weights)


def normed(norm: nn.Module, x: Tensor, dtype: torch.dtype) -> Tensor:
    """A norm of tokens, computed in the dtype of the tokens, whatever that of its weights is.

    Args:
        norm: a LayerNorm, an RMS norm, or none (``Identity``).
        x: (..., width).
        dtype: of the result, which is rounded once.

    Returns:
        (..., width).
    """
    weights = dict(norm.named_parameters())
    if all(weight.dtype == x.dtype for weight in weights.values()):
        plain: Tensor = norm(x)
        return plain.to(dtype)
    wide = {name: weight.to(x.dtype) for name, weight in weights.items()}
    exact: Tensor = functional_call(norm, wide, (x,))
    return exact.to(dtype)
