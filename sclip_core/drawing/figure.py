"""Figures for papers: pictures at the resolution of print, captions and a legend that stay text.

Places are in pixels of the page at its resolution, so that a picture of so many pixels is put on
exactly as many, and none is resampled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sclip_core.config import UserError
from sclip_core.config.optional import optional
from sclip_core.drawing.panels import resized, resized_size

FORMATS = (".pdf", ".svg", ".png")
INK = "#000000"
HATCH = {"facecolor": "#3a3a3a", "edgecolor": "#a0a0a0", "hatch": "//////", "linewidth": 0}
POINTS = 72  # of an inch
GAP = 0.035  # inches between pictures
LINE = 1.3  # of the font size, from one line of text to the next
SWATCH = 1.0, 1.7  # of the font size: height and width
BESIDE = 0.5  # of the font size, between a swatch and its name
APART = 1.4  # of the font size, between a name and the next swatch
TALLEST = 1.0  # of a picture's width, its height: upright pictures are narrower
MOST_PIXELS = 50_000  # of a side: matplotlib draws less than 65,536
MOST_AREA = 150_000_000  # pixels of the pictures together; each takes a dozen bytes while drawn
ELLIPSIS, MINUS = "…", "−"
# Text stays text that can be searched and edited; most venues ask for TrueType in a PDF.
EMBEDDED = {"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "sclip"}
# After the chosen font, for the characters that it lacks; those that are installed.
FALLBACKS = ("DejaVu Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans", "Arial Unicode MS")


class Swatch(NamedTuple):
    """An entry of the legend."""

    name: str
    colour: tuple[int, int, int] | None  # RGB
    hatched: bool = False  # as ignored pixels are


@dataclass(frozen=True)
class Look:
    """Sizes of a figure, and its font."""

    width: float = 6.9
    """Inches; 6.9 is the text of a page of CVPR, 3.25 a column."""
    dpi: int = 300
    """Pixels of an inch of the pictures."""
    font_size: float = 8
    """Points."""
    font: str = "DejaVu Sans"
    """A font that matplotlib finds, such as ``Times New Roman``."""

    @property
    def pixels(self) -> int:
        """Of the width."""
        return round(self.width * self.dpi)

    def of_font(self, sizes: float) -> int:
        """Pixels of so many sizes of the font."""
        return round(sizes * self.font_size / POINTS * self.dpi)

    def cell(self, columns: int) -> int:
        """Pixels that a picture is wide where there are so many in a row.

        Raises:
            UserError: less than 20, or a wider row than can be drawn.
        """
        if self.pixels > MOST_PIXELS:
            raise UserError(
                f"a figure {self.pixels:,} pixels wide: at most {MOST_PIXELS:,} can be drawn; pass "
                "a smaller --dpi or --width"
            )
        gap = round(GAP * self.dpi)
        wide = (self.pixels - (columns - 1) * gap) // columns
        if wide < 20:
            raise UserError(
                f"{columns} columns in {self.width:g} inches at {self.dpi} dpi: {max(wide, 0)} "
                "pixels for each; pass a larger --width or --dpi, or fewer columns"
            )
        return wide

    @cached_property
    def families(self) -> list[str]:
        """The font, and what draws the characters that it lacks.

        Raises:
            UserError: there is no such font.
        """
        manager = optional("matplotlib.font_manager", "plot").fontManager
        there = {font.name for font in manager.ttflist}
        if self.font not in there:
            raise UserError(
                f"no font '{self.font}': expected one that matplotlib finds, such as 'DejaVu Sans'"
            )
        return list(dict.fromkeys([self.font, *(name for name in FALLBACKS if name in there)]))


def fitted(image: NDArray[np.uint8], width: int) -> Image.Image:
    """The image (H, W, 3) at the size of a cell: of its width, and at most ``TALLEST`` as high."""
    return resized(image, max(fitted_size(image, width)))


def fitted_size(image: NDArray[np.uint8], width: int) -> tuple[int, int]:
    """Width and height of an image (H, W, 3) in a cell of this width."""
    high, wide = image.shape[:2]
    factor = min(width / wide, round(TALLEST * width) / high)
    return resized_size(wide, high, max(1, round(factor * max(high, wide))))


class Layout:
    """A figure that grows from the top; draw with the methods in the order of what they draw."""

    def __init__(self, look: Look) -> None:
        """Begin with an empty page.

        Raises:
            UserError: matplotlib is not installed, or has no such font.
        """
        self.look = look
        self._parts: list[Callable[[Any, int], None]] = []  # each draws on a figure of a height
        self._bottom = 0  # pixels from the top
        optional("matplotlib.figure", "plot")
        fonts = optional("matplotlib.font_manager", "plot")
        self._font = fonts.FontProperties(look.families, size=look.font_size)
        canvas = optional("matplotlib.backends.backend_agg", "plot")
        self._measure = canvas.RendererAgg(8, 8, look.dpi)

    def text_width(self, text: str) -> float:
        """Pixels that a text takes."""
        return float(self._measure.get_text_width_height_descent(text, self._font, False)[0])

    def space(self, pixels: int) -> None:
        """Leave some space."""
        self._bottom += pixels

    def captions(self, texts: Sequence[str], lefts: Sequence[int], width: int) -> None:
        """Write a caption above each column, in as many lines as it takes, centred."""
        lines = [self._wrapped(text, width) for text in texts]
        most = max(map(len, lines), default=0)
        step = self.look.of_font(LINE)
        for left, own in zip(lefts, lines, strict=False):
            for number, line in enumerate(reversed(own)):
                base = self._bottom + (most - number) * step - self.look.of_font(0.35)
                self._text(line, left + width / 2, base, "center")
        self._bottom += most * step + self.look.of_font(0.15) * bool(most)

    def pictures(
        self,
        row: Sequence[Image.Image],
        lefts: Sequence[int],
        width: int,
        marked: tuple[float, float] | None = None,
    ) -> None:
        """Put a row of pictures on the page, each centred in its column.

        Args:
            row: the pictures.
            lefts: of the columns.
            width: of a column.
            marked: a place in each, across and down from 0 to 1, that gets a small ring.
        """
        high = max(picture.height for picture in row)
        for picture, left in zip(row, lefts, strict=False):
            place = left + (width - picture.width) // 2, self._bottom
            self._picture(np.asarray(picture), *place)
            if marked is not None:
                x, y = marked[0] * picture.width, marked[1] * picture.height
                self._ring(place[0] + x, place[1] + y)
        self._bottom += high

    def legend(self, entries: Sequence[Swatch]) -> None:
        """Put a legend below what is there: entries in columns, row by row."""
        look = self.look
        high, wide = look.of_font(SWATCH[0]), look.of_font(SWATCH[1])
        room = look.pixels - wide - look.of_font(BESIDE)
        names = [self._shortened(entry.name, room) for entry in entries]
        longest = math.ceil(max(map(self.text_width, names), default=0))
        needed = wide + look.of_font(BESIDE) + longest + look.of_font(APART)
        most = max(1, (look.pixels + look.of_font(APART)) // needed)
        rows = -(-len(entries) // most)
        columns = -(-len(entries) // max(rows, 1))
        step = look.of_font(LINE + 0.2)
        for number, (entry, name) in enumerate(zip(entries, names, strict=True)):
            row, column = divmod(number, columns)
            left, top = column * look.pixels // columns, self._bottom + row * step
            self._swatch(entry, left, top, wide, high)
            base = top + high - look.of_font(0.15)
            self._text(name, left + wide + look.of_font(BESIDE), base, "left")
        self._bottom += max(0, rows * step - (step - high))

    def bars(
        self,
        spans: Sequence[tuple[float, float] | None],
        colours: NDArray[np.uint8],
        lefts: Sequence[int],
        width: int,
    ) -> None:
        """Put a bar of colours (N, 3), a rectangle each, between two numbers below each column."""
        high, space = self.look.of_font(0.8), self.look.of_font(0.4)
        top = self._bottom + self.look.of_font(0.4)
        for left, ends in zip(lefts, spans, strict=False):
            if ends is None:
                continue
            low, upper = (f"{value:.3g}".replace("-", MINUS) for value in ends)
            start = left + math.ceil(self.text_width(low)) + space
            room = left + width - math.ceil(self.text_width(upper)) - space - start
            for number, colour in enumerate(colours if room > 0 else ()):
                edges = [start + round(k * room / len(colours)) for k in (number, number + 1)]
                # a pixel into the next, for viewers draw a thin white line where two only touch
                wide = edges[1] - edges[0] + (number + 1 < len(colours))
                self._rectangle(edges[0], top, wide, high, facecolor=_hex(colour))
            self._text(low, left, top + high, "left")
            self._text(upper, left + width, top + high, "right")
        self._bottom = top + high + self.look.of_font(0.2)

    def figure(self) -> Any:
        """The figure, of matplotlib.

        Raises:
            UserError: it is larger than can be drawn.
        """
        height, dpi = max(self._bottom, 1), self.look.dpi
        if max(height, self.look.pixels) > MOST_PIXELS:
            raise UserError(
                f"a figure of {self.look.pixels:,}×{height:,} pixels: at most {MOST_PIXELS:,} can "
                "be drawn; pass fewer images, or a smaller --dpi or --width"
            )
        size = self.look.pixels / dpi, height / dpi
        figure = optional("matplotlib.figure", "plot").Figure(size, dpi=dpi)
        for part in self._parts:
            part(figure, height)
        return figure

    def save(self, target: Path, ending: str = "") -> None:
        """Write the figure, in the format of an ending, of the file's where none is given."""
        matplotlib = optional("matplotlib", "plot")
        kind = (ending or target.suffix).lower().removeprefix(".")
        undated: dict[str, Any] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
        with matplotlib.rc_context(EMBEDDED):
            self.figure().savefig(
                target, format=kind, dpi=self.look.dpi, metadata=undated.get(kind, {})
            )

    def _wrapped(self, text: str, width: int) -> list[str]:
        """A text in lines of at most so many pixels, broken at spaces."""
        lines: list[str] = []
        for word in text.split():
            together = f"{lines[-1]} {word}" if lines else word
            if lines and self.text_width(together) <= width:
                lines[-1] = together
            else:
                lines.append(word)
        return [self._shortened(line, width) for line in lines]

    def _shortened(self, text: str, width: int) -> str:
        """The text, cut where it is wider."""
        if self.text_width(text) <= width:
            return text
        while text and self.text_width(text + ELLIPSIS) > width:
            text = text[:-1]
        return text.rstrip(" ,;") + ELLIPSIS

    def _text(self, text: str, x: float, base: float, side: str) -> None:
        def draw(figure: Any, height: int) -> None:
            """Write the text; the figure is ``height`` pixels high."""
            figure.text(
                x / self.look.pixels,
                1 - base / height,
                text,
                ha=side,
                va="baseline",
                color=INK,
                fontproperties=self._font,
                parse_math=False,
            )

        self._parts.append(draw)

    def _picture(self, picture: NDArray[np.uint8], left: int, top: int) -> None:
        high, wide = picture.shape[:2]

        def draw(figure: Any, height: int) -> None:
            """Show the picture, a pixel for a pixel; the figure is ``height`` pixels high."""
            axes = figure.add_axes(
                (
                    left / self.look.pixels,
                    1 - (top + high) / height,
                    wide / self.look.pixels,
                    high / height,
                )
            )
            axes.imshow(picture, interpolation="none", aspect="auto")
            axes.set_axis_off()

        self._parts.append(draw)

    def _ring(self, x: float, y: float) -> None:
        """A white ring with a dark rim, seen on any picture."""
        size, look = self.look.font_size, self.look

        def draw(figure: Any, height: int) -> None:
            """Draw the rim, then the ring on it; the figure is ``height`` pixels high."""
            lines = optional("matplotlib.lines", "plot")
            for rim, wide in (("#000000", 0.16 * size), ("#ffffff", 0.08 * size)):
                ring = lines.Line2D(
                    [x / look.pixels],
                    [1 - y / height],
                    marker="o",
                    markersize=0.6 * size,
                    markerfacecolor="none",
                    markeredgecolor=rim,
                    markeredgewidth=wide,
                    transform=figure.transFigure,
                    zorder=9,
                )
                figure.add_artist(ring)

        self._parts.append(draw)

    def _swatch(self, entry: Swatch, left: int, top: int, wide: int, high: int) -> None:
        if entry.hatched:
            self._rectangle(left, top, wide, high, **HATCH)
        elif entry.colour is not None:
            self._rectangle(left, top, wide, high, facecolor=_hex(entry.colour))

    def _rectangle(self, left: int, top: int, wide: int, high: int, **style: Any) -> None:
        def draw(figure: Any, height: int) -> None:
            """Draw the rectangle; the figure is ``height`` pixels high."""
            patches = optional("matplotlib.patches", "plot")
            place = left / self.look.pixels, 1 - (top + high) / height
            shape = patches.Rectangle(
                place,
                wide / self.look.pixels,
                high / height,
                **{"linewidth": 0, **style},
                transform=figure.transFigure,
            )
            figure.add_artist(shape)

        self._parts.append(draw)


def _hex(colour: Sequence[int] | NDArray[np.uint8]) -> str:
    """A colour as matplotlib takes it, exactly."""
    return "#" + bytes(int(channel) for channel in colour).hex()
