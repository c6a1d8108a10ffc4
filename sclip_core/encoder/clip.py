"""CLIP on pixels: an image's windows to patch features, its masked crops and words to vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any
from typing import Protocol as Interface

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from sclip_core.config import Geometry, Protocol
from sclip_core.encoder.attention import Attention
from sclip_core.encoder.beginnings import Beginnings
from sclip_core.encoder.crops import masked_crop
from sclip_core.encoder.dense import DenseEncoder
from sclip_core.encoder.lazy import LazyWindows, is_worthwhile
from sclip_core.encoder.loading import ModelSpec, load_model, load_tokenizer
from sclip_core.encoder.pixels import check_protocol, cut_windows, normalise, resize
from sclip_core.encoder.taps import Tap
from sclip_core.encoder.text import encode_word
from sclip_core.encoder.towers import in_dtype
from sclip_core.encoder.views import VIEWS
from sclip_core.encoder.words import Words, check_words
from sclip_core.tensors.device import DTYPES

USUAL_TOKENS = 197  # of a window of 224 pixels in patches of 16


class Masks(Interface):
    """What CLIP reads of the M masks of an image, such as ``sclip_core.masks.Proposals``."""

    @property
    def areas(self) -> NDArray[np.int64]:
        """The number of pixels of each mask, (M,)."""

    def regions(self, order: Sequence[int]) -> Iterator[Any]:
        """The masks with these numbers, each within its bounding box.

        Yields:
            The slices ``columns`` and ``rows`` of the image, and ``inside`` (columns, rows) bool.
        """


class CLIP:
    """A frozen CLIP whose image tower gives a feature for every patch."""

    def __init__(
        self, spec: ModelSpec, attention: Attention, device: torch.device, dtype: str
    ) -> None:
        """Load the weights of a model.

        Args:
            spec: the model, from ``find_model``.
            attention: of the last block, unless a call names another.
            device: where to.
            dtype: of the image tower: ``fp32``, ``bf16`` or ``fp16``.

        Raises:
            UserError: the weights do not fit, or cannot be read.
        """
        self.spec = spec
        self._tokenizer = load_tokenizer(spec)
        self._clip = load_model(spec, device)
        # Text in fp32: it is encoded once. Only the image tower is cast.
        self.encoder = DenseEncoder(in_dtype(self._clip.visual, DTYPES[dtype]), attention)
        self._vectors: dict[tuple[str, str], Tensor] = {}
        self._beginnings = Beginnings()
        self._seen_words: set[Any] = set()  # lists of classes, each with its templates

    @property
    def network(self) -> Any:
        """Open_clip's model, both towers."""
        return self._clip

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.encoder.device

    def encode_word(self, word: str, templates: str = "openai") -> Tensor:
        """The vector (D,) of one word; remembered."""
        named = word, templates
        if named not in self._vectors:
            given = self._clip, self._tokenizer, word, templates, self._beginnings
            self._vectors[named] = encode_word(*given)
        return self._vectors[named]

    def word_notes(self, classes: Words, templates: str = "openai") -> list[str]:
        """What a user should know of words for this model, the first time that they are asked of.

        Args:
            classes: of each class its name and its words, in label order.
            templates: the set that the words are put into.

        Returns:
            A line each, as of ``check_words``; nothing for classes that were looked at before.

        Raises:
            UserError: it cannot read a word, or not tell two classes apart.
        """
        asked = tuple((name, tuple(words)) for name, words in classes), templates
        if asked in self._seen_words:
            return []
        notes = check_words(self._tokenizer, classes, [templates], Path(self.spec.weights))
        self._seen_words.add(asked)
        return notes

    def dense_tokens(self, pixels: Tensor) -> Tensor:
        """Projected tokens, not normalised.

        Args:
            pixels: (B, 3, h, w), normalised (``sclip_core.encoder.pixels.normalise``).

        Returns:
            (B, 1+N, D), CLS first; without CLS where the tower has none.
        """
        return self.encoder.tokens(pixels)

    def windows(self, image: NDArray[np.uint8], protocol: Protocol) -> tuple[Geometry, Tensor]:
        """The windows of an RGB image, ready for the encoder.

        Returns:
            Where they lie, and their pixels (windows, 3, height, width) float32 on the CPU.
        """
        check_protocol(protocol, self.spec.patch)
        geometry = Geometry.of(image.shape[0], image.shape[1], protocol, self.spec.patch)
        return geometry, cut_windows(self.pixels(image, geometry), geometry)

    def windows_of(
        self, image: NDArray[np.uint8], protocol: Protocol
    ) -> tuple[Geometry, Tensor | LazyWindows]:
        """As ``windows``; very many are made only when they are asked for, slice by slice."""
        check_protocol(protocol, self.spec.patch)
        geometry = Geometry.of(image.shape[0], image.shape[1], protocol, self.spec.patch)
        if not is_worthwhile(geometry):
            return geometry, cut_windows(self.pixels(image, geometry), geometry)
        resized = resize(image, geometry.resized)
        return geometry, LazyWindows(resized, geometry, self.spec.mean, self.spec.std)

    def pixels(self, image: NDArray[np.uint8], geometry: Geometry) -> Tensor:
        """The normalised resized image (3, h, w) float32."""
        return resized_pixels(image, geometry, self.spec)

    def window_features(
        self, windows: Tensor | LazyWindows, batch_size: int = 0, attention: Attention | None = None
    ) -> Tensor:
        """Unit-length patch features of windows of one size.

        Args:
            windows: (B, 3, h, w), normalised.
            batch_size: windows per forward pass; 0: as many as keep the device busy.
            attention: of the last block; None: that of the model.

        Returns:
            (B, h // patch, w // patch, D) float32.
        """
        size = batch_size or default_batch_size(self.device, windows.shape, self.spec.patch)
        parts = windows.split(size)
        return torch.cat([self.encoder.patch_features(part, attention) for part in parts])

    def window_taps(
        self, windows: Tensor, wanted: Sequence[Tap], views: Sequence[str], positions: str
    ) -> dict[Tap, Tensor]:
        """Outputs of the tower's blocks, of each view of each window.

        Args:
            windows: (B, 3, h, w), normalised.
            wanted: the outputs.
            views: of ``VIEWS``.
            positions: as for ``DenseEncoder.taps``.

        Returns:
            Each (views·B, 1+N, width).
        """
        seen = torch.cat([VIEWS[view](windows) for view in views])
        size = default_batch_size(self.device, seen.shape, self.spec.patch)
        passes = [self.encoder.taps(part, wanted, positions) for part in seen.split(size)]
        return {tap: torch.cat([one[tap] for one in passes]) for tap in wanted}

    def mask_features(
        self, image: NDArray[np.uint8], proposals: Masks, batch_size: int = 0
    ) -> Tensor:
        """CLIP's own embedding of the masked crop of every mask: no policy of attention.

        Args:
            image: (H, W, 3) uint8 RGB.
            proposals: M masks of it.
            batch_size: crops per forward pass; 0: as many as keep the device busy.

        Returns:
            (M, D) float32, unit length; of a mask without a pixel, zeros.
        """
        side = self.encoder.image_side
        size = batch_size or default_batch_size(self.device, (side, side), self.spec.patch)
        found = torch.zeros(len(proposals.areas), self.spec.width, device=self.device)
        numbers = np.flatnonzero(proposals.areas).tolist()
        regions = proposals.regions(numbers)
        for start in range(0, len(numbers), size):
            crops = [
                masked_crop(
                    image,
                    region.inside.T,
                    (region.rows.start, region.columns.start),
                    side,
                    self.spec.mean,
                    self.spec.std,
                )
                for region in islice(regions, size)
            ]
            chosen = numbers[start : start + size]
            found[chosen] = self.encoder.image_features(torch.stack(crops))
        return found


def resized_pixels(image: NDArray[np.uint8], geometry: Geometry, spec: ModelSpec) -> Tensor:
    """The resized image, normalised as the model was trained: (3, h, w) float32."""
    pixels = normalise(
        resize(image, geometry.enlarged_from or geometry.resized), spec.mean, spec.std
    )
    if geometry.enlarged_from is None:
        return pixels
    return interpolate(pixels[None], size=geometry.resized, mode="bilinear")[0]


def default_batch_size(device: torch.device, shape: Sequence[int], patch: int) -> int:
    """Windows per forward pass that keep a device busy without filling it.

    Args:
        device: a CPU gets the tokens of 16 windows of ViT-B/16, a GPU those of 256.
        shape: of the windows, (..., height, width).
        patch: its side in pixels.
    """
    tokens = 1 + (shape[-2] // patch) * (shape[-1] // patch)
    usual = 16 if device.type == "cpu" else 256
    return max(1, usual * USUAL_TOKENS // tokens)
