"""``sclip segment --heat-out``: heat maps as arrays, and as figures for a paper."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from flows.cli.targets import ELSEWHERE, check_target
from sclip_core.config import UserError
from sclip_core.config.optional import optional
from sclip_core.store.files import writable_folder, write_whole, written_to

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ARRAYS = ".npz"
FIGURES = (".pdf", ".svg", ".png")
LONGEST = 200  # bytes of a file's name; systems take 255, endings included


def check_heat(target: Path, asked: Iterable[str], taken: Iterable[Path], single: bool) -> None:
    """Refuse heat maps that cannot be written, before there are any; a folder is made.

    Args:
        target: a file, or a folder.
        asked: the words.
        taken: files that must not be replaced.
        single: whether there is one image; of several the target is a folder.

    Raises:
        UserError: no word is asked for, or the target cannot be written.
    """
    if not list(asked):
        raise UserError("--heat-out needs words to map: pass --heat WORD, or WORD,WORD")
    if target.suffix.lower() in (ARRAYS, *FIGURES):
        if not single:
            raise UserError(f"--heat-out {target} is a file: for several images, pass a folder")
        check_target(target, (ARRAYS, *FIGURES), taken, "heat maps")
        if target.suffix.lower() in FIGURES:
            optional("matplotlib.figure", "plot", ", or write arrays: --heat-out FILE.npz")
        return
    if os.path.exists(target) and not os.path.isdir(target):
        raise UserError(f"--heat-out {target}: expected {ARRAYS}, {', '.join(FIGURES)} or a folder")
    writable_folder(target, "--heat-out")


def save_heat(
    image: NDArray[np.uint8], maps: Mapping[str, NDArray[np.float32]], target: Path
) -> None:
    """Write heat maps.

    Args:
        image: (H, W, 3) RGB.
        maps: (H, W) float32 by their words.
        target: ``.npz``: the arrays by their words; ``.pdf``, ``.svg`` or ``.png``: a figure of
            all; else a folder, which gets ``WORD.npy`` and ``WORD.png`` of each, the picture as
            large as the image.

    Raises:
        DiskError: it cannot be written.
    """
    import numpy as np
    from PIL import Image

    from sclip_core.drawing.figure import Look
    from sclip_core.drawing.figures import heat_figure
    from sclip_core.drawing.heat import heated

    ending = target.suffix.lower()
    if ending in FIGURES:
        figure = heat_figure(image, maps, Look())
        write_file(target, partial(figure.save, ending=ending))
    elif ending == ARRAYS:
        write_file(target, partial(_savez, maps=maps))
    else:
        writable_folder(target, "--heat-out")
        photo = Image.fromarray(image)
        for name, (word, values) in zip(file_names(maps), maps.items(), strict=True):
            array = np.ascontiguousarray(values, np.float32)
            write_file(target / f"{name}.npy", partial(save_array, array=array))
            picture = heated(photo, maps[word])
            write_file(target / f"{name}.png", partial(picture.save, format="PNG"))


def file_names(words: Iterable[str]) -> list[str]:
    """A file name for each word, all different: letters and digits stay, the rest is ``_``.

    >>> file_names(["cat", "traffic light", "a/b", "a:b"])
    ['cat', 'traffic light', 'a_b', 'a_b-2']
    """
    found: list[str] = []
    for word in words:
        name = (
            re.sub(r"[^\w -]", "_", word).encode()[:LONGEST].decode(errors="ignore").strip() or "_"
        )
        others = (f"{name}-{number}" for number in count(2))
        found.append(next(each for each in chain([name], others) if each not in found))
    return found


def write_file(target: Path, write: partial[None]) -> None:
    """Write a file whole or not at all; ``write`` is given a temporary path.

    Raises:
        DiskError: it cannot be written.
    """
    with written_to(target, ELSEWHERE):
        write_whole(target, write)


def _savez(path: Path, maps: Mapping[str, NDArray[np.float32]]) -> None:
    """As ``numpy.savez_compressed``, which takes no array called ``file``."""
    import numpy as np

    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for word, values in maps.items():
            with archive.open(f"{word}.npy", "w") as file:
                np.lib.format.write_array(file, np.ascontiguousarray(values, np.float32))


def save_array(path: Path, array: NDArray[np.float32]) -> None:
    """As ``numpy.save``, to exactly this path."""
    import numpy as np

    with open(path, "wb") as file:
        np.save(file, array)
