"""A colour for every class: the same one whatever the number of classes."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

MOST = 65_536  # classes of a uint16 label map

# The first 20 were chosen by eye: far apart, none dark, none grey. Each of the others is, of 8,192
# vivid colours, the one farthest from all before it in OKLab (Ottosson 2020).
FIRST = """
    1f77d0 ff8c1a 2ca84a d62f3c 9b5fd0 17bfc4 f2d024 e45fb4 8c5a3c a4d43a 6a6f0c ffb99a 0e7a5f
    8fd0ff 4a35a0 ff6b78 b8860b 9c1452 9be8b5 d9a6f0 0d11fe da0cfc 7605f5 05fe09 9a08a4 719af9
    045c83 4f91a1 d10d85 a85f84 bcb46d 12cf0d 862c09 bffb04 d37afb c4867d 36d68f e26100 744d98
    1b640b 4b54f7 0afcfd 0c8708 4dfe94 a52af1 f205c4 92aa0f fa2b76 054dc3 ff90b4 5f520f 7a7ec6
    f3de9e c115c3 7c1b79 7e8d1e 3f748f 7ea8c8 4f01d8 b38ad3 5da787 b11e01 fa54f5 17bbfd 6f0daa
    b86048 6d70f7 19ded3 873dc6 a43582 c853db 199dd9 dfa08c 046156 d85972 eaac02 b6fb8d fe3028
    3b905a 5859c4 a44357 c04ea6 957429 a07efb 0688ff a4a8fd a4e9f7 fd76e0 d77fad 18e964 7ebb70
    c4d079 22f5c5 9157fc be0b53 81cab3 7c3250 b76fac 2661ac 8dec15 ee8262 01c15f 9a52a0 bfba0a
    d1944c f0eb05 fcafc3 7cc219 aa825a f4c165 3b4a8d 13d2f5 6736c7 e9349f 0548f0 596fb0 7be381
    01bc8c a84809 7d5fb7 939b4f 2229d5 37742d 7048e6 2389bd 088685 226efe d986d9 fa13fb 32a7ba
    c06f23 0861d9 4d1ffc c84606 714328 7abaed 91092d 0a9b86 fa95ef c3466e b15efb f7b4fe f2a362
    b41a9c b9a52a c473d5 e6ec79 cbe03f ac43b9 980178 87fbe1 663c85 b591ff 52930f 85369a 5cb218
    6995c4 df1a69 9a03d1 f15a51 83dae1 795b05 fb6fb4 903d3d f87319 bf33e7 fd43bb 413ac1 dbb784
    28a4ff d529b2 d37155 7c08d1 1dccae 85fdb7 6bd917 08e7fc 99cc7d a45f01 e04bff 90386a 508be3
    fd928a 80bdc9 d65246 c2717c 68a055 f4034a 72d162 d97904 fd5190 6bb89a 006a79 888fd9 a07acc
    5b02bd a6bdfe 4a43de e645d9 7c85f2 57842e cde298 4f50a7 810c98 b29564 d74386 e2787b 934c80
    8d36fc 6cead4 0dfe6b b662c2 0878b0 6d39a3 03e908 bb3837 e16b91 4cabdd e863dc 4e6de0 7159ff
    d88c97 03d660 b80877 aa0539 da93c3 1ea673 a2ec71 d5be4e a65858 fdceb1 8812b8 c15b90 fba2d9
    a26f50 0b6c49 6c5fde 75d7a3 20ee99 a042d4 e604df 00afa2 834b18 9b360b 881c5e 8d6ef4 85a5e6
    884edf fcd46f 6e4abc b74589 9cbb43 d58ffc e63804 88ff25 a1ac62
"""


def palette(n: int) -> NDArray[np.uint8]:
    """Distinct colours; ``palette(n)`` begins like ``palette(m)``, so a class keeps its colour.

    Args:
        n: number of classes, up to 65,536.

    Returns:
        (n, 3) uint8 RGB, read-only.

    Raises:
        ValueError: n is outside 0..65,536.

    >>> palette(2).tolist()
    [[31, 119, 208], [255, 140, 26]]
    """
    if not 0 <= n <= MOST:
        raise ValueError(f"palette of {n} colours: expected 0..{MOST}")
    return _table()[:n]


@cache
def _table() -> NDArray[np.uint8]:
    first = np.array([int(colour, 16) for colour in FIRST.split()])
    # An odd factor makes this a permutation of the 24-bit colours, so none comes twice.
    others = np.arange(1 << 17) * 0x9E3779 % (1 << 24)
    codes = np.concatenate([first, others[~np.isin(others, first)]])
    table = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1)
    vivid = (np.ptp(table, axis=1) > 70) & (table.sum(axis=1) > 200) & (table.sum(axis=1) < 600)
    vivid[: len(first)] = True
    colours: NDArray[np.uint8] = table[vivid][:MOST].astype(np.uint8)
    colours.flags.writeable = False
    return colours
