"""Where mask proposals come from: an object for each source."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from sclip_core.config import UserError
from sclip_core.config.masks import MaskSettings
from sclip_core.masks import superpixels
from sclip_core.masks.id_maps import SUFFIXES, id_map_file, proposals_of, read_id_map
from sclip_core.masks.proposals import Proposals
from sclip_core.tensors.device import DTYPES, find_device, find_dtype

Proposer = Callable[[NDArray[np.uint8]], Proposals]  # an image (H, W, 3) uint8 RGB to masks


@dataclass
class MaskSource(ABC):
    """A source of masks; nothing is loaded before it is opened.

    Attributes:
        settings: its name and what it reads of them.
        checkpoint: the file of its weights; None: fetched by name.
        download: whether weights may be fetched.
        points_at_once: prompts in a pass; 0: as many as suit the device.
        folder: of id maps, of the source that reads them.
    """

    settings: MaskSettings
    checkpoint: Path | None = None
    download: bool = True
    points_at_once: int = 0
    folder: Path | None = None

    has_encoder: ClassVar[bool] = False  # whose embeddings of an image can be kept

    def identity(self, dtype: str) -> dict[str, Any]:
        """The settings that decide the masks, as plain JSON values; ``dtype``: of the encoder."""
        precision = {"dtype": dtype} if self.has_encoder else {}
        return {"source": self.settings.proposals, **precision, **self.settings.relevant()}

    @property
    def weights(self) -> Path | None:
        """The weights file, found but not loaded; None: the source has none."""
        return None

    @abstractmethod
    def check(self) -> None:
        """See that it can be opened, without opening it.

        Raises:
            UserError: a library is not installed; weights that are not there, torn or of another
                model.
        """

    @abstractmethod
    def open(self, device: torch.device, dtype: torch.dtype) -> Proposer:
        """Make it ready to be called with images.

        Raises:
            UserError: a library or weights that are not there.
        """


class Sam(MaskSource):
    """Segment Anything's automatic generator."""

    has_encoder = True

    @cached_property
    def weights(self) -> Path:
        """Meta's file, or the one that was given."""
        from sclip_core.masks.sam.loading import find_checkpoint

        return find_checkpoint(self.settings.sam_model, self.checkpoint, self.download)

    def check(self) -> None:
        """See that the library is installed and that the weights are whole and of this SAM."""
        from sclip_core.masks.sam import loading

        loading.library()  # before anything is fetched for it
        loading.check_checkpoint(self.settings.sam_model, self.weights)

    def open(self, device: torch.device, dtype: torch.dtype) -> Proposer:
        """A ``MaskGenerator`` on a device."""
        from sclip_core.masks.sam.loading import library, load_sam

        library()  # before anything is fetched for it
        sam = load_sam(self.settings.sam_model, self.weights, device, dtype)
        from sclip_core.masks.sam.generator import MaskGenerator

        generator = MaskGenerator(sam, self.settings)
        generator.points_at_once = self.points_at_once or generator.points_at_once
        return generator


class Superpixels(MaskSource):
    """Segments by scikit-image; they need no weights, and no device."""

    def check(self) -> None:
        """See that scikit-image is installed."""
        superpixels.library()

    def open(self, device: torch.device, dtype: torch.dtype) -> Proposer:
        """Return a function that divides an image into segments."""
        self.check()
        segment = getattr(superpixels, self.settings.proposals)
        return partial(superpixels.propose, settings=self.settings, segment=segment)


class MaskFiles(MaskSource):
    """Id maps in a folder: masks are found by the name of an image, not made of its pixels."""

    def check(self) -> None:
        """See that the folder is there."""
        _ = self.place

    @property
    def place(self) -> Path:
        """The folder.

        Raises:
            UserError: none is given, or it is not there.
        """
        if self.folder is None:
            raise UserError("masks from files need their folder: --proposals files --masks DIR")
        if not self.folder.is_dir():
            raise UserError(
                f"--masks {self.folder} is no folder: expected one with a PNG or npy id map for "
                "each image, of the image's name"
            )
        return self.folder

    def check_names(self, image_ids: Iterable[str]) -> None:
        """See that there is an id map for at least one of the images.

        Raises:
            UserError: there is none.
        """
        first = None
        for image_id in image_ids:
            first = first or image_id
            if any((self.place / f"{image_id}{suffix}").is_file() for suffix in SUFFIXES):
                return
        if first is not None:
            names = " or ".join(f"{first}{suffix}" for suffix in SUFFIXES)
            raise UserError(
                f"--masks {self.place} has an id map for none of the images: expected files of "
                f"the images' names, such as {names}"
            )

    def find(self, image_id: str) -> Path:
        """The file of an image's id map.

        Raises:
            ImageError: there is none, or both kinds.
            UserError: there is no such folder.
        """
        return id_map_file(self.place, image_id)

    def of_image(self, image_id: str, size: tuple[int, int]) -> Proposals:
        """The masks of an image of this height and width.

        Raises:
            ImageError: it has no id map, or one that cannot be used.
            UserError: there is no such folder.
        """
        return proposals_of(read_id_map(self.find(image_id), size))

    def open(self, device: torch.device, dtype: torch.dtype) -> Proposer:
        """Refuse: pixels do not say which file is theirs."""
        raise UserError(
            "masks from files are found by the image's name, which pixels do not say: read the "
            "id map (H, W) yourself, and pass it as masks="
        )


SOURCES: dict[str, type[MaskSource]] = {
    "sam": Sam,
    "felzenszwalb": Superpixels,
    "slic": Superpixels,
    "files": MaskFiles,
}


def open_source(
    settings: MaskSettings,
    checkpoint: Path | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Proposer:
    """A source of masks, ready to be called with images.

    Args:
        settings: which, and its own settings.
        checkpoint: SAM's weights; None: Meta's, by name.
        device: where SAM runs.
        dtype: of SAM.

    Raises:
        UserError: a library or weights that are not there.
    """
    return SOURCES[settings.proposals](settings, checkpoint).open(torch.device(device), dtype)


def mask_source(
    source: str = "sam",
    checkpoint: Path | str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    **settings: Any,
) -> Proposer:
    """What proposes masks: called with an image (H, W, 3) uint8 RGB, it gives those of it.

    Args:
        source: ``sam``; or ``felzenszwalb``, ``slic``, which need no weights.
        checkpoint: SAM's weights, a .pth of Meta's; None: fetched by name.
        device: where SAM runs: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
        dtype: of SAM: ``auto`` (fp32 on a CPU, fp16 on a GPU), ``fp32``, ``bf16``, ``fp16``.
        **settings: of ``MaskSettings``, e.g. ``sam_model="vit_h"``, ``points_per_side=8``.

    Raises:
        UserError: an unknown name, a library or weights that are not there.
    """
    checked = MaskSettings.checked({"proposals": source, **settings})
    weights = Path(checkpoint).expanduser() if checkpoint is not None else None
    where = find_device(device)
    return open_source(checked, weights, where, DTYPES[find_dtype(dtype, where)])
