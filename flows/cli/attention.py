"""``sclip segment --attention-of``: what a point of a photograph attends to in the last block."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.cli.heat import FIGURES, save_array, write_file
from flows.cli.targets import check_target
from sclip_core.config import Protocol, UserError, printable
from sclip_core.config.errors import shown
from sclip_core.config.optional import optional

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sclip_core import SCLIP

PICTURE = ".attention.sclip.png"  # beside the image, unless -o names another
POINT = re.compile(r"\s*(-?[0-9]{1,9})\s*,\s*(-?[0-9]{1,9})\s*")
Maps = dict[str, Any]


def point_of(text: str) -> tuple[int, int]:
    """A point as typed.

    Raises:
        UserError: it is none.

    >>> point_of("120,45")
    (120, 45)
    """
    found = POINT.fullmatch(text)
    if found is None:
        raise UserError(f"--attention-of {shown(text)}: expected a pixel's row and column, 120,45")
    return int(found[1]), int(found[2])


def attention_files(
    images: Sequence[Path], output: Path | None, array: Path | None, needless: Sequence[str]
) -> Path:
    """Check what is to be written; returns the picture's file.

    Args:
        images: that were given.
        output: the picture; None: beside the image.
        array: the array; None: none.
        needless: flags that were given and have no meaning beside ``--attention-of``.

    Raises:
        UserError: several images, a flag of another picture, or a file that cannot be written.
    """
    if needless:
        flags = " and ".join(needless)
        raise UserError(f"--attention-of shows attention, which reads no words: leave {flags} out")
    if len(images) != 1 or images[0].is_dir():
        raise UserError("--attention-of is a pixel of one image: pass one image")
    optional("matplotlib.figure", "plot")
    picture = output or images[0].with_suffix(PICTURE)
    check_target(picture, FIGURES, [images[0]], "a figure")
    if array is not None:
        check_target(array, (".npy",), [images[0], picture], "an array")
    return picture


def show_attention(
    model: SCLIP,
    pixels: NDArray[np.uint8],
    point: tuple[int, int],
    protocol: Protocol,
    heads: bool,
    picture: Path,
    array: Path | None,
) -> None:
    """Write the picture and the array, and print their names.

    Args:
        model: that attends.
        pixels: (H, W, 3) RGB.
        point: row and column of a pixel.
        protocol: how it attends.
        heads: whether each head has a map beside their mean.
        picture: to write.
        array: to write, (H, W) float32, or (heads, H, W); None: none.

    Raises:
        UserError: no such point, or no such attention.
        DiskError: a file cannot be written.
    """
    import numpy as np

    from sclip_core.drawing.figure import Look
    from sclip_core.drawing.figures import heat_figure

    of_heads = model.attention_of(pixels, point, protocol, heads=True)
    mean = of_heads.mean(axis=0)
    maps: Maps = {f"attention of {point[0]},{point[1]}": mean}
    if heads:
        maps |= {f"head {number}": values for number, values in enumerate(of_heads, 1)}
    figure = heat_figure(pixels, maps, Look(), point)
    write_file(picture, partial(figure.save, ending=picture.suffix))
    print(printable(str(picture)), flush=True)
    if array is not None:
        values = np.ascontiguousarray(of_heads if heads else mean, np.float32)
        write_file(array, partial(save_array, array=values))
        print(printable(str(array)), flush=True)
