"""What a caller of ``SCLIP`` may give: images and classes in any of their usual forms."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sclip_core.config import ImageError, Protocol, UserError, tables, unknown
from sclip_core.config.errors import shown
from sclip_core.config.protocol import is_benchmark
from sclip_core.datasets import Vocabulary, image_size, read_bytes, read_image
from sclip_core.encoder import TextBank
from sclip_core.encoder.pixels import as_rgb, check_mode
from sclip_core.masks import Proposals, mask_source
from sclip_core.masks.id_maps import as_id_map

Picture = str | os.PathLike[str] | Image.Image | NDArray[Any] | Tensor
Pictures = list[Any] | tuple[Any, ...]
Classes = Sequence[str] | Sequence[Sequence[str]] | Vocabulary | TextBank
How = Protocol | str | None
KINDS_OF_CLASSES = (list, tuple, Vocabulary, TextBank)


def rgb_of(image: Any) -> NDArray[np.uint8]:
    """The pixels (H, W, 3) uint8 RGB of a file, a PIL image, an array or a tensor.

    Raises:
        ImageError: the file cannot be read.
        UserError: it is something else, or its layout or scale is not clear (``as_rgb``).
    """
    return read_image(os.fspath(image)) if _is_path(image) else as_rgb(image)


def check_pictures(images: Sequence[Any]) -> None:
    """Look at every image of a list, so that none is found wanting after an hour of the others.

    Of a file that is its header and its end, of a PIL image its mode.

    Raises:
        ImageError: some cannot be used; says how many, and names the first.
    """
    faults = [
        f"images[{number}]: {fault}"
        for number, image in enumerate(images)
        if (fault := _fault(image)) is not None
    ]
    if faults:
        raise ImageError(
            f"{len(faults)} of {len(images)} images cannot be used, such as {faults[0]}; "
            "leave them out"
        )


def _fault(image: Any) -> str | None:
    """Why an image cannot be used; None if it seems fit."""
    try:
        if _is_path(image):
            image_size(read_bytes(image), str(image))
        elif isinstance(image, Image.Image):
            check_mode(image)
        else:
            as_rgb(image)
    except UserError as error:
        return str(error)
    return None


def _is_path(image: Any) -> bool:
    return isinstance(image, str | os.PathLike)


def masks_of_each(masks: Any, number: int) -> Sequence[Any]:
    """The masks of each image of a list.

    Raises:
        UserError: they are not a list as long.
    """
    if masks is None:
        return [None] * number
    if not isinstance(masks, list | tuple) or len(masks) != number:
        found = f"{len(masks)}" if isinstance(masks, list | tuple) else type(masks).__name__
        raise UserError(f"masks of {number} images: expected a list of {number}, found {found}")
    return masks


def shown_progress(images: Sequence[Any], wanted: bool = True) -> Iterator[Any]:
    """The images one by one, with a progress bar on a terminal or in a notebook."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(file=sys.stderr)
    seen = wanted and (console.is_terminal or console.is_jupyter)
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not seen) as bar:
        yield from bar.track(images, description="segment")


def told_apart(
    given: Sequence[Any], classes: Any = None, protocol: Any = None
) -> tuple[Classes | None, How]:
    """Classes and protocol of a call, in which either may come first.

    Args:
        given: up to two arguments without a name: classes; a ``Protocol`` or a benchmark's name.
        classes: the argument of this name.
        protocol: the argument of this name.

    Raises:
        UserError: classes or a protocol are given twice, or a word that is no benchmark's name.
    """
    for one in given:
        if isinstance(one, KINDS_OF_CLASSES):
            if classes is not None:
                raise UserError("classes are given twice: pass them once")
            classes = one
        elif isinstance(one, Protocol | str):
            if protocol is not None:
                raise UserError("a protocol is given twice: pass it once")
            if isinstance(one, str) and not is_benchmark(one):
                wrong = unknown("benchmark", one, tables()["benchmarks"])
                raise UserError(f"{wrong} Classes are a list: [{one!r}]")
            protocol = one
        elif one is not None:
            raise UserError(f"expected classes, such as ['cat', 'grass, lawn'], found {shown(one)}")
    return classes, protocol


def vocabulary_of(classes: Classes) -> Vocabulary:
    """The classes and their words.

    Raises:
        UserError: no list of words, or a text bank whose parts do not fit together.
    """
    if not isinstance(classes, TextBank):
        return Vocabulary.from_classes(classes)
    of, names = classes.query_class.tolist(), classes.class_names
    parts = {len(of), len(classes.queries), len(classes.embeddings)}
    if len(parts) > 1 or of != sorted(of) or sorted(set(of)) != list(range(len(names))):
        raise UserError(
            f"{classes!r}: expected a class for each vector, class after class, and at least one "
            f"vector for each class; query_class holds {str(of)[:80]}"
        )
    words: list[list[str]] = [[] for _ in names]
    for word, number in zip(classes.queries, of, strict=True):
        words[number].append(word)
    return Vocabulary(tuple(names), tuple(map(tuple, words)))


def warn_caller(line: str) -> None:
    """Give a Python warning whose place is the line that called this package."""
    level = 1
    frame = sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").startswith("sclip_core"):
        frame, level = frame.f_back, level + 1
    warnings.warn(line, stacklevel=level)


def regions_of(masks: Any, image: NDArray[np.uint8]) -> NDArray[np.int64] | None:
    """The id map (H, W) of masks that were given for an image.

    Raises:
        UserError: they are of another image, or no masks.
    """
    size = (image.shape[0], image.shape[1])
    if masks is None:
        return None
    if not isinstance(masks, Proposals):
        return as_id_map(masks, size)
    if masks.size != size:
        raise UserError(f"masks of an image of {masks.size} for one of {size}")
    return masks.id_map()


def propose_masks(
    image: Picture,
    source: str = "sam",
    checkpoint: Path | str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    **settings: Any,
) -> Proposals:
    """Masks of one image; for those of many, open the source once: ``mask_source``.

    Args:
        image: as for ``SCLIP.segment``, one.
        source: ``sam``; or ``felzenszwalb``, ``slic``, which need no weights. An id map of your own
            needs no source: pass it to ``segment`` as ``masks``.
        checkpoint: SAM's weights, a .pth file of Meta's; None: fetched by name.
        device: where SAM runs: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
        dtype: of SAM: ``auto`` (fp32 on a CPU, fp16 on a GPU), ``fp32``, ``bf16``, ``fp16``.
        **settings: of ``MaskSettings``, e.g. ``sam_model="vit_h"``, ``points_per_side=8``.

    Returns:
        The masks of the image, M of them, with boxes in pixels.

    Raises:
        UserError: an unknown name, a library or weights that are not there.
    """
    return mask_source(source, checkpoint, device, dtype, **settings)(rgb_of(image))
