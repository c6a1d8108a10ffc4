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


def enlarged_size(size: tuple[int, int], multiple: int, least: int) -> tuple[int, int]:
    """Both sides rounded up to a multiple, as Trident does; unchanged where they are multiples.

    Args:
        size: (height, width) in pixels.
        multiple: of the longer side first, which the other one follows; then of both.
        least: pixels that a side has at least, a multiple itself.
    """
    if not any(side % multiple for side in size):
        return size
    longer = _up(max(size), multiple)
    height, width = (_up(int(side * longer / max(size)), multiple) for side in size)
    return max(height, least), max(width, least)


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _padding(window: tuple[int, int], multiple: int) -> tuple[int, int, int, int]:
    """Pixels above, below, left and right of a window that pad it to a multiple, half a side."""
    missing = [(_up(side, multiple) - side) if multiple else 0 for side in window]
    top, left = (total // 2 for total in missing)
    return top, missing[0] - top, left, missing[1] - left


def window_starts(size: int, crop: int, stride: int) -> list[int]:
    """First pixels of the windows along one axis; the last window is shifted back to the border."""
    count = max(size - crop + stride - 1, 0) // stride + 1
    return [max(min(i * stride + crop, size) - crop, 0) for i in range(count)]


@dataclass(frozen=True)
class Geometry:
    """The windows of one image: a product grid of equal windows over the resized image."""

    original: tuple[int, int]  # (height, width) of the image file, pixels
    resized: tuple[int, int]  # of which the windows are cut, pixels
    window: tuple[int, int]  # of every window, pixels
    tops: tuple[int, ...]  # first rows of the windows
    lefts: tuple[int, ...]  # first columns
    tokens: tuple[int, int]  # patch grid of every window
    whole: bool  # one window, resized straight to the original size
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)  # pixels above, below, left and right of each
    enlarged_from: tuple[int, int] | None = None  # after the short-side resize, where it differs

    @classmethod
    def of(cls, height: int, width: int, protocol: Protocol, patch: int) -> Geometry:
        """The windows of an image of height×width pixels, for a patch size in pixels.

        Raises:
            ImageError: so long and thin that the resized image is lower than one patch.
        """
        resized = shrunk = (
            (height, width) if protocol.tile else resized_size(height, width, protocol.short_side)
        )
        if protocol.image_multiple:
            resized = enlarged_size(shrunk, protocol.image_multiple, protocol.slide_crop)
        whole = protocol.slide_crop == 0
        crop = max(resized) if whole else protocol.slide_crop
        stride = crop if whole else protocol.slide_stride
        window = (min(crop, resized[0]), min(crop, resized[1]))
        padding = _padding(window, protocol.window_multiple)
        frame = (window[0] + sum(padding[:2]), window[1] + sum(padding[2:]))
        tokens = (frame[0] // patch, frame[1] // patch)
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
            padding=padding,
            enlarged_from=shrunk if shrunk != resized else None,
        )

    @property
    def frame(self) -> tuple[int, int]:
        """The window with its padding, pixels: what the networks see."""
        top, bottom, left, right = self.padding
        return self.window[0] + top + bottom, self.window[1] + left + right

    @property
    def num_windows(self) -> int:
        """Windows in the grid, row by row."""
        return len(self.tops) * len(self.lefts)

    @property
    def num_tokens(self) -> int:
        """Patches of all windows together."""
        return self.num_windows * self.tokens[0] * self.tokens[1]
