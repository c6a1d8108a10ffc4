"""Add an attention of your own, and compare it with those that are built in.

python examples/own_attention.py

The policy lets each token attend to those with a similar value. It is compared with two others on
three drawn scenes, by the toy CLIP of the package.
"""

from __future__ import annotations

from pathlib import Path

import cv2
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from sclip_core import SCLIP, Protocol, Vocabulary
from sclip_core.encoder import policy

SCENES = Path(__file__).parent / "scenes"
TOY_WINDOWS = Protocol(short_side=192, slide_crop=48, slide_stride=24)


@policy("vv", arch="reduced")  # reduced: without the residual and the MLP of the block
def value_to_value(q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
    """S(v·vᵀ)·v; each of shape (batch, heads, 1 + patches, width), the CLS token first."""
    return scaled_dot_product_attention(v, v, v)


def accuracy(attention: str) -> float:
    """The share of all pixels that get the right class."""
    model = SCLIP.load("sclip-demo", "scenes", attention=attention)
    words = Vocabulary.named("scenes")
    right = total = 0
    for path in sorted((SCENES / "images").iterdir()):
        truth = cv2.imread(str(SCENES / "labels" / f"{path.stem}.png"), cv2.IMREAD_UNCHANGED)
        found = model.segment(path, words, TOY_WINDOWS)
        right += int((found.labels == truth).sum())
        total += truth.size
    return right / total


def main() -> None:
    """Print the accuracy of three policies."""
    for attention in ("vanilla", "csa", "vv"):
        print(f"{attention:<8}{accuracy(attention):6.1%}")


if __name__ == "__main__":
    main()
