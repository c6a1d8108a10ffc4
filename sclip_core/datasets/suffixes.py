"""Endings of image files: which are read, by what, and what is said of the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from PIL import features

from sclip_core.config.optional import heif_opener

CLASSIC = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
PICTURES = (".png", ".tif", ".tiff", ".bmp")
LABEL_SUFFIXES = (*PICTURES, ".npy", ".gif")  # of several label maps, the first is taken
MORE = (".jfif", ".jpe", ".dib", ".gif", ".jp2", ".ppm", ".pgm", ".pbm", ".pnm")
HEIC = (".heic", ".heif", ".hif")
AVIF = (".avif",)
HEIC_ADVICE = "pip install 'sclip-benchmark[heic]'"
AVIF_ADVICE = "pip install 'pillow>=11.3'"

IMAGE_SUFFIXES = (
    *CLASSIC,
    *MORE,
    *(AVIF if features.check("avif") else ()),
    *(HEIC if heif_opener() else ()),
)
LISTED = " ".join(IMAGE_SUFFIXES)  # what an error says is expected


def skipped_note(endings: Iterable[str], beside: Iterable[str] = ()) -> str | None:
    """A line about the files of a folder that are not read, by ending.

    Args:
        endings: in lower case, one for each file that is no image here.
        beside: likewise, of images that have the name of another one.

    Returns:
        Such as ``"3 files skipped: 2 .heic (pip install ...), 1 .mov"``; None: there are none.

    >>> skipped_note([".mov", ".txt", ".mov"])
    '3 files skipped: 2 .mov, 1 .txt'
    """
    counts, doubled = Counter(endings), Counter(beside)
    if not counts and not doubled:
        return None
    total = counts.total() + doubled.total()
    parts = [f"{n:,} {end or 'without an ending'}{_advice(end)}" for end, n in counts.most_common()]
    parts += [f"{n:,} {end} beside an image of that name" for end, n in doubled.most_common()]
    return f"{total:,} {'file' if total == 1 else 'files'} skipped: {', '.join(parts)}"


def _advice(ending: str) -> str:
    if ending in HEIC:
        return f" ({HEIC_ADVICE} reads them)"
    return f" ({AVIF_ADVICE} reads them)" if ending in AVIF else ""
