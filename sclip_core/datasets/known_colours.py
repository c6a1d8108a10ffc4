"""The colours in which papers show a dataset's classes: of VOC, ADE20K and Cityscapes, or a file's.

VOC's are the colour map of its development kit, whose index 0 is the background; ADE20K's are those
of the scene parsing challenge (MIT CSAIL, ``color150``); Cityscapes' those of its label definitions
(``labels.py``), for the 19 classes that are evaluated. A class gets its colour by name; where the
names are others but as many, by its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import UserError
from sclip_core.config.errors import few
from sclip_core.datasets.palettes import VOC_CLASSES, is_void, plain, read_colours, voc_colours
from sclip_core.datasets.vocabulary import Vocabulary

CITYSCAPES = """
    804080 f423e8 464646 66669c be9999 999999 faaa1e dcdc00 6b8e23 98fb98 4682b4 dc143c ff0000
    00008e 000046 003c64 005064 0000e6 770b20
"""
ADE20K = """
    787878 b47878 06e6e6 503232 04c803 787850 8c8c8c cc05ff e6e6e6 04fa07 e005ff ebff07 96053d
    787846 08ff33 ff0652 8fff8c ccff04 ff3307 cc4603 0066c8 3de6fa ff0633 0b66ff ff0747 ff09e0
    0907e6 dcdcdc ff095c 7009ff 08ffd6 07ffe0 ffb806 0aff47 ff290a 07ffff e0ff08 6608ff ff3d06
    ffc207 ff7a08 00ff14 ff0829 ff0599 0633ff eb0cff a09614 00a3ff 8c8c8c fa0a0f 14ff00 1fff00
    ff1f00 ffe000 99ff00 0000ff ff4700 00ebff 00adff 1f00ff 0bc8c8 ff5200 00fff5 003dff 00ff70
    00ff85 ff0000 ffa300 ff6600 c2ff00 008fff 33ff00 0052ff 00ff29 00ffad 0a00ff adff00 00ff99
    ff5c00 ff00ff ff00f5 ff0066 ffad00 ff0014 ffb8b8 001fff 00ff3d 0047ff ff00cc 00ffc2 00ff52
    000aff 0070ff 3300ff 00c2ff 007aff 00ffa3 ff9900 00ff0a ff7000 8fff00 5200ff a3ff00 ffeb00
    08b8aa 8500ff 00ff5c b800ff ff001f 00b8ff 00d6ff ff0070 5cff00 00e0ff 70e0ff 46b8a0 a300ff
    9900ff 47ff00 ff00a3 ffcc00 ff008f 00ffeb 85ff00 ff00eb f500ff ff007a fff500 0abed4 d6ff00
    00ccff 1400ff ffff00 0099ff 0029ff 00ffcc 2900ff 29ff00 ad00ff 00f5ff 4700ff 7a00ff 00ffb8
    005cff b8ff00 0085ff ffd600 19c2c2 66ff00 5c00ff
"""


def _codes(text: str) -> list[int]:
    return [int(colour, 16) for colour in text.split()]


# name: the vocabulary that names its classes, and their colours in its order
KNOWN: dict[str, tuple[str, Callable[[], list[int]]]] = {
    "voc": ("voc21", lambda: voc_colours()[:VOC_CLASSES]),
    "ade20k": ("ade20k", lambda: _codes(ADE20K)),
    "cityscapes": ("cityscapes", lambda: _codes(CITYSCAPES)),
}


def class_colours(name: str | Path, class_names: Sequence[str]) -> NDArray[np.uint8]:
    """The colour of each class.

    Args:
        name: ``voc``, ``ade20k``, ``cityscapes``, or a file as ``read_colours`` takes it: lines
            such as ``sky:128,128,128``.
        class_names: the names (C,) of the classes.

    Returns:
        (C, 3) uint8 RGB.

    Raises:
        UserError: a class has no colour, or the file cannot be read.

    >>> class_colours("voc", ["cat", "dog"]).tolist()
    [[64, 0, 0], [64, 0, 128]]
    """
    if str(name) in KNOWN:
        vocabulary, listing = KNOWN[str(name)]
        listed = list(zip(_names(vocabulary), listing(), strict=True))
    else:
        listed = [
            (plain(colour.name or ""), colour.code)
            for colour in read_colours(Path(name))
            if not is_void(colour.name)
        ]
    by_name = {key: code for key, code in reversed(listed) if key}
    wanted = [plain(each) for each in class_names]
    lacking = [each for each, key in zip(class_names, wanted, strict=True) if key not in by_name]
    if not lacking:
        found = [by_name[key] for key in wanted]
    elif len(listed) == len(class_names) or (not by_name and len(listed) > len(class_names)):
        found = [code for _, code in listed[: len(class_names)]]
    else:
        raise UserError(
            f"palette {name} has no colour of {few(lacking)}, and its {len(listed)} colours are "
            f"not one for each of the {len(class_names)} classes: pass --palette FILE with a line "
            "'name:r,g,b' for each"
        )
    codes = np.array(found, np.int64).reshape(-1, 1)
    return np.asarray(codes >> np.array([16, 8, 0]) & 255, np.uint8)


@cache
def _names(vocabulary: str) -> list[str]:
    return [plain(name) for name in Vocabulary.named(vocabulary).class_names]
