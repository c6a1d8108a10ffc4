"""Networks in bf16 on a CPU: the products of blocks in bf16, all between them in float32.

Every block adds to the stream. In bf16, which has 8 binary digits, each of these sums would be
rounded by up to 1/256 of the whole; on a CPU float32 costs next to nothing there, as products take
the time. On a GPU a network is what PyTorch makes of it, all in one dtype.
"""

from __future__ import annotations

import time
from functools import cache

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sclip_core.tensors.products import has_bf16, linear

SHARE, REST = 0.9, 0.1  # of a pass in float32: its products; what bf16 does not shorten


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


def advice(dtype: str, device: torch.device) -> str | None:
    """A line on what bf16 would save, where ``auto`` has taken fp32 though bf16 is faster.

    Args:
        dtype: as asked for.
        device: where the network is.

    Returns:
        None where there is nothing to say.
    """
    if dtype != "auto" or device.type != "cpu" or not has_bf16():
        return None
    gain = product_gain()
    if gain < 1.5:
        return None
    return (
        f"this CPU multiplies in bf16 {gain:.1f} times as fast as in fp32, which auto stays with: "
        f"--dtype bf16 would take about {SHARE / gain + REST:.0%} of the time for the image tower, "
        "and 99.9 % of the labels of the demo's scenes are the same"
    )


@cache
def product_gain() -> float:
    """How many times as fast a product of a tower's size is in bf16 as in float32, here and now."""
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        rows, weight = torch.ones(1024, 768, dtype=dtype), torch.ones(3072, 768, dtype=dtype)
        taken = []
        for _ in range(4):
            begun = time.perf_counter()
            linear(rows, weight)
            taken.append(time.perf_counter() - begun)
        seconds[dtype] = min(taken)
    return seconds[torch.float32] / seconds[torch.bfloat16]
