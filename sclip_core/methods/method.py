"""What a method is: what it reads of the networks, and how it makes features of that.

docs/methods.md describes the methods. One is a subclass of ``Method`` in a file of this package or
of a user's own. It reads *taps*, outputs of blocks of CLIP's image tower, so that one pass through
the tower serves all methods of one geometry, and a method whose taps were kept needs no pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import ConfigDict
from torch import Tensor

from sclip_core.config import Geometry, UserError
from sclip_core.config.protocol import Checked
from sclip_core.encoder.code import code_digest
from sclip_core.encoder.taps import Tap
from sclip_core.encoder.tower import Tower


@dataclass(frozen=True)
class Scene:
    """One image on its way through a method. All tensors may be overwritten."""

    geometry: Geometry
    """Where the windows lie, and the grid of CLIP's patches in each."""
    tower: Tower
    """The parts of CLIP's image tower."""
    taps: Mapping[Tap, Tensor]
    """Of all windows, for each view in turn: (views·windows, 1+N, width) float32, CLS first."""
    pixels: Callable[[], Tensor]
    """The windows' pixels, CLIP-normalised and padded: (windows, 3, h, w) float32."""
    network: Any = None
    """The second network; see ``second``."""
    second: Mapping[str, Tensor] = field(default_factory=dict)
    """What the second network gives, by the names of ``second_taps``: (windows, rows, columns, C)
    float32; of SAM (1, 64, 64, C), or 2 of the halves of the image that Trident has."""
    sam: Any = None
    """SAM's image encoder, where the method reads it."""
    words: Tensor | None = None
    """The words' vectors (Q, D), unit length, where ``reads_words``."""
    regions: Tensor | None = None
    """Id map (H, W) int64 of the original image, where ``reads_masks``; the lowest id is what no
    mask covers."""

    def h(self, block: int) -> Tensor:
        """H_l: the output of block l counted from 1, (views·windows, 1+N, width) float32.

        Args:
            block: l; or from the last as a negative number: -1 is what the last block reads.

        Raises:
            UserError: it is none of the method's taps.
        """
        tap = Tap.of(block if block >= 0 else self.tower.layers + block)
        if tap not in self.taps:
            there = ", ".join(map(str, self.taps))
            raise UserError(f"block {block} is read, but not declared: taps has {there}")
        return self.taps[tap].float()


class Method(Checked):
    """A training-free method; its fields are its parameters, with the published values."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Goes up when the same settings give other features."""
    views: ClassVar[tuple[str, ...]] = ("original",)
    """The versions of each window that the tower sees; of ``encoder.views``."""
    positions: ClassVar[str] = "reference"
    """How the tower's position table is resized to windows of another size than the tower was
    trained on; of ``encoder.positions.POSITIONS``."""
    templates: ClassVar[str] = "openai"
    """The prompt templates that each word is put into; of ``encoder.text.TEMPLATES``."""
    second_taps: ClassVar[tuple[str, ...]] = ()
    """What it reads of a second network: ``tokens`` (the last block's, after the final norm),
    ``queries+keys`` (of the last block), ``penultimate`` (what the last block reads)."""
    second_patch: ClassVar[int | None] = None
    """The patch that the second network has to have; None: any."""
    reads_network: ClassVar[bool] = True
    """Whether it computes with parts of the second network, and not with its taps alone."""
    reads_sam: ClassVar[bool] = False
    """Whether it reads what the last block of SAM's encoder gets, ``sam`` in ``Scene.second``."""
    reads_words: ClassVar[bool] = False
    """Whether the features depend on the words."""
    reads_masks: ClassVar[bool] = False
    """Whether the features depend on masks."""
    needs_cls: ClassVar[bool] = False
    """Whether it computes with the CLS token. Without it, tokens are ``tower.prefix`` ones, which
    may be none, and the patches."""

    @classmethod
    def code(cls) -> str:
        """A digest of the class and of what it uses, for the key of what users' methods make."""
        usual = {name: (str(f.annotation), f.default) for name, f in cls.model_fields.items()}
        return hashlib.sha256(f"{code_digest(cls)} {usual}".encode()).hexdigest()[:16]

    def taps(self, layers: int) -> tuple[Tap, ...]:
        """What it reads of a tower of so many blocks."""
        return (Tap.of(layers - 1),)

    def layout(self, geometry: Geometry, patch: int) -> Geometry:
        """How the features lie, where it is not on CLIP's grid in each window.

        Args:
            geometry: of the windows.
            patch: side of a patch of the second network.
        """
        return geometry

    def features(self, scene: Scene) -> Tensor:
        """The features of an image.

        Returns:
            (windows, rows, columns, D) float32 as of ``layout``; cosines are their products with
            the words' vectors, so they are of unit length unless the method says otherwise.
        """
        raise NotImplementedError
