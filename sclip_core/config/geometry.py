"""Where the windows of an image lie (docs/protocol.md, sections 2 and 4).

The encoder cuts by this and the stitcher sews by it, so that they cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass

from sclip_core.config.errors import ImageError
from sclip_core.config.protocol import Protocol

LONG_SIDE = 2048  # pixels; the resize never goes beyond it


def resized_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Size (height, width) in pixels after the short-side resize, rounded as the reference does."""
    factor = min(LONG_SIDE / max(height, width), short_side / min(height, width))
    return int(height * factor + 0.5), int(width * factor + 0.5)


def window_starts(size: int, crop: int, stride: int) -> list[int]:
    """First pixels of the windows along one axis; the last window is shifted back to the border."""
    count = max(size - crop + stride - 1, 0) // stride + 1
    return [max(min(i * stride + crop, size) - crop, 0) for i in range(count)]


@dataclass(frozen=True)
class Geometry:
    """The windows of one image: a product grid of equal windows over the resized image."""

    original: tuple[int, int]  # (height, width) of the image file, pixels
    resized: tuple[int, int]  # after the short-side resize, pixels
    window: tuple[int, int]  # of every window, pixels
    tops: tuple[int, ...]  # first rows of the windows
    lefts: tuple[int, ...]  # first columns
    tokens: tuple[int, int]  # patch grid of every window
    whole: bool  # one window, resized straight to the original size

    @classmethod
    def of(cls, height: int, width: int, protocol: Protocol, patch: int) -> Geometry:
        """The windows of an image of height×width pixels, for a patch size in pixels.

        Raises:
            ImageError: so long and thin that the resized image is lower than one patch.
        """
        resized = resized_size(height, width, protocol.short_side)
        whole = protocol.slide_crop == 0
        crop = max(resized) if whole else protocol.slide_crop
        stride = crop if whole else protocol.slide_stride
        window = (min(crop, resized[0]), min(crop, resized[1]))
        tokens = (window[0] // patch, window[1] // patch)
        if min(tokens) < 1:
            raise ImageError(
                f"the image of {height}×{width} pixels is {resized[0]}×{resized[1]} after the "
                f"resize, with windows of {window[0]}×{window[1]}: less than one patch of "
                f"{patch}×{patch}; leave it out, or crop it to a less extreme shape"
            )
        return cls(
            original=(height, width),
            resized=resized,
            window=window,
            tops=tuple(window_starts(resized[0], crop, stride)),
            lefts=tuple(window_starts(resized[1], crop, stride)),
            tokens=tokens,
            whole=whole,
        )

    @property
    def num_windows(self) -> int:
        """Windows in the grid, row by row."""
        return len(self.tops) * len(self.lefts)

    @property
    def num_tokens(self) -> int:
        """Patches of all windows together."""
        return self.num_windows * self.tokens[0] * self.tokens[1]
