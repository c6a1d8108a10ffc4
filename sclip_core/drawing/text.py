"""Names and titles in pictures, in any script: on one line, cut to the width there is."""

from __future__ import annotations

import unicodedata
from functools import cache

from PIL import ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Pillow's own font is the same on every machine but has only ASCII. Other scripts are drawn with
# the system's fonts; `readable` leaves out what none of them can draw.
PILLOWS = ""
FONTS = (
    PILLOWS,
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "Arial.ttf",
    "Arial Unicode.ttf",
    "msyh.ttc",
)
LONGEST = 300  # characters of a text; the rest is left out
ELLIPSIS = "..."


def write(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    size: int,
    ink: tuple[int, int, int],
    width: float,
) -> None:
    """Draw a `readable` text with its top left corner at `place`, at most `width` pixels wide."""
    draw.text(place, shortened(text, size, width), ink, _font_for(text, size))


def text_width(text: str, size: int) -> float:
    """Pixels that a text takes at a font size."""
    return _font_for(text, size).getlength(text)


def shortened(text: str, size: int, width: float) -> str:
    """The text if it fits `width` pixels, else its beginning and three dots."""
    font = _font_for(text, size)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + ELLIPSIS) > width:
        text = text[:-1]
    return text.rstrip(" ,;") + ELLIPSIS


def readable(text: str) -> str:
    r"""The text on one line; if no font has all its characters, without accents and unknown ones.

    >>> readable("  grass,\n lawn ")
    'grass, lawn'
    """
    text = unicodedata.normalize("NFC", text[:LONGEST].encode("utf-8", "replace").decode("utf-8"))
    text = " ".join("".join(c for c in text if c.isspace() or c.isprintable()).split())
    if not any(_draws(name, text) for name in FONTS):
        plain = unicodedata.normalize("NFKD", text)
        text = "".join(c for c in plain if _draws(PILLOWS, c))
    return " ".join(text.split())


def _font_for(text: str, size: int) -> Font:
    fitting = (_font(name, size) for name in FONTS if _draws(name, text))
    return next((font for font in fitting if font), None) or ImageFont.load_default(size=size)


@cache
def _font(name: str, size: int) -> Font | None:
    if name == PILLOWS:
        return ImageFont.load_default(size=size)
    try:
        return ImageFont.truetype(name, size)
    except OSError:  # this system has no such font
        return None


def _draws(name: str, text: str) -> bool:
    return all(_has_glyph(name, char) for char in text)


@cache
def _has_glyph(name: str, char: str) -> bool:
    """Whether a font has a glyph for a character, other than the one for unknown characters."""
    font = _font(name, 16)
    if font is None:
        return False
    unknown = "\U0010ffff"
    return char == " " or bytes(font.getmask(char)) != bytes(font.getmask(unknown))
