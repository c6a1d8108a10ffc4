"""Pages of captioned pictures: where each part goes, and how large the page is."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from sclip_core.drawing.legend import FAINT, INK, PAPER, WIDEST, Entry, legend
from sclip_core.drawing.text import readable, write

MARGIN, GAP = 20, 16  # pixels
CAPTION, TITLE = 17, 21  # font sizes, pixels
BELOW_CAPTION = 10  # pixels

Ink = tuple[int, int, int]


class Page:
    """A white page that grows with what is put on it; places are in pixels from its top left."""

    def __init__(self, margin: int) -> None:
        """Take the pixels that stay white on the right and at the bottom."""
        self._margin = margin
        self._pictures: list[tuple[Image.Image, int, int]] = []
        self._texts: list[tuple[tuple[int, int], str, int, Ink, int]] = []

    def picture(self, picture: Image.Image, left: int, top: int) -> None:
        """Put a picture on the page."""
        self._pictures.append((picture, left, top))

    def text(self, text: str, left: int, top: int, size: int, ink: Ink, width: int) -> None:
        """Write one line, cut to the given width, which the page reserves for it."""
        self._texts.append(((left, top), readable(text), size, ink, width))

    def drawn(self) -> Image.Image:
        """The page; it holds at least one picture."""
        rights = [left + picture.width for picture, left, _ in self._pictures]
        rights += [place[0] + width for place, *_, width in self._texts]
        bottom = max(top + picture.height for picture, _, top in self._pictures)
        page = Image.new("RGB", (max(rights) + self._margin, bottom + self._margin), PAPER)
        for picture, left, top in self._pictures:
            page.paste(picture, (left, top))
        draw = ImageDraw.Draw(page)
        for text in self._texts:
            write(draw, *text)
        return page


def captioned_rows(
    rows: Sequence[Sequence[Image.Image]],
    captions: Sequence[str],
    entries: Sequence[Entry],
    cell: int,
    title: str = "",
    note: str = "",
    caption_ink: Ink = INK,
) -> Image.Image:
    """Pictures in rows, with a caption above each column and a legend below all.

    Args:
        rows: pictures, each row as many as there are captions.
        captions: of the columns; all empty: no space is left for them.
        entries: of the legend.
        cell: pixels, the width of a column.
        title: the first line; empty: none.
        note: a smaller line below the title; empty: none.
        caption_ink: the colour of the captions.
    """
    page = Page(MARGIN)
    inner = max(len(captions) * (cell + GAP) - GAP, WIDEST)
    lefts = [MARGIN + k * (cell + GAP) for k in range(len(captions))]
    top = MARGIN
    if title := readable(title):
        page.text(title, MARGIN, top - 4, TITLE, INK, inner)
        top += TITLE + GAP
    if note:
        page.text(note, MARGIN, top - 10 if title else top, CAPTION, FAINT, inner)
        top += CAPTION + GAP // 2
    if any(captions):
        for left, caption in zip(lefts, captions, strict=True):
            page.text(caption, left, top, CAPTION, caption_ink, cell)
        top += CAPTION + BELOW_CAPTION
    for row in rows:
        for left, picture in zip(lefts, row, strict=True):
            page.picture(picture, left, top)
        top += max(picture.height for picture in row) + GAP
    page.picture(legend(entries, inner), MARGIN, top)
    return page.drawn()


def in_columns(pictures: Sequence[Image.Image], count: int) -> Image.Image:
    """Pictures of any size, dealt to `count` columns in turn, without gaps."""
    page, left = Page(0), 0
    for column in (pictures[i::count] for i in range(min(count, len(pictures)))):
        top = 0
        for picture in column:
            page.picture(picture, left, top)
            top += picture.height
        left += max(picture.width for picture in column)
    return page.drawn()
