"""Pictures of textures and things: small ones to train on, large ones to evaluate on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from sclip_core.demo.scenes.textures import TEXTURES, paint
from sclip_core.demo.scenes.things import THINGS, draw_thing

UNITS = 192  # a scene is this many units tall: the side of a training picture is 48
LEAST_SHARE = 0.02  # of the picture, below which a class does not count as seen
PLACES = ("on the left", "in the middle", "on the right")


def class_names() -> tuple[str, ...]:
    """The classes in label order: textures, then things."""
    return (*TEXTURES, *THINGS)


def stuff_names() -> tuple[str, ...]:
    """The classes that are textures; the others are things."""
    return tuple(TEXTURES)


@dataclass(frozen=True)
class Item:
    """Something that a picture shows, in words."""

    name: str  # of a class
    colour: str
    size: str  # "large", "small" or ""
    place: str  # "on the left", ... or ""
    share: float = 0.0  # of the picture that its class covers


@dataclass(frozen=True)
class Picture:
    """A picture and what it shows, without a label map."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB
    items: tuple[Item, ...]  # the ground first


@dataclass(frozen=True)
class Scene(Picture):
    """A picture with its label map."""

    labels: NDArray[np.uint8]  # (H, W), index into ``class_names()``


class Canvas:
    """A picture that is being drawn."""

    def __init__(self, rng: np.random.Generator, height: int, width: int, zoom: float) -> None:
        self.rng, self.height, self.width, self.zoom = rng, height, width, zoom
        self.image = np.zeros((height, width, 3), np.float32)
        self.labels = np.zeros((height, width), np.uint8)
        self.items: list[Item] = []
        self._taken: list[tuple[float, float, float]] = []

    def fill(self, name: str, where: NDArray[np.float32] | None = None) -> None:
        """Draw a texture over the canvas.

        Args:
            name: of the texture.
            where: (H, W) share of the pixel that it covers; None: all.
        """
        zoom = self.zoom * float(np.exp(self.rng.uniform(np.log(0.8), np.log(1.4))))
        painted = paint(name, self.rng, (self.height, self.width), zoom)
        code = class_names().index(name)
        if where is None:
            self.image[:], self.labels[:] = painted.image, code
        else:
            self.image += where[..., None] * (painted.image - self.image)
            self.labels[where >= 0.5] = code
        self.items.append(Item(name, painted.colour, "", ""))

    def put(self, name: str, x: float, y: float, radius: float) -> bool:
        """Draw a thing with its centre at pixel (x, y), unless another thing is too near.

        Returns:
            Whether it was drawn.
        """
        for other_x, other_y, other in self._taken:
            if np.hypot(x - other_x, y - other_y) < 0.75 * (radius + other):
                return False
        side = max(8, round(2 * radius))
        left, top = round(x - side / 2), round(y - side / 2)
        rows = slice(max(0, top), min(self.height, top + side))
        cols = slice(max(0, left), min(self.width, left + side))
        drawn = draw_thing(name, self.rng, side)
        part = (
            slice(rows.start - top, rows.stop - top),
            slice(cols.start - left, cols.stop - left),
        )
        mask = drawn.mask[part].astype(np.float32)[..., None] / 255
        region = self.image[rows, cols]
        region += mask * (drawn.image[part].astype(np.float32) / 255 - region)
        self.labels[rows, cols][drawn.mask[part] >= 128] = class_names().index(name)
        place = PLACES[min(2, int(3 * max(0.0, x) / self.width))]
        share = side / self.height
        size = "large" if share > 0.7 else "small" if share < 0.4 else ""
        self.items.append(Item(name, drawn.colour, size, place))
        self._taken.append((x, y, radius))
        return True

    def seen(self) -> tuple[Item, ...]:
        """The items that are not hidden by later ones, the ground first."""
        names = class_names()
        share = np.bincount(self.labels.ravel(), minlength=len(names)) / self.labels.size
        shares = [float(share[names.index(item.name)]) for item in self.items]
        seen = [replace(i, share=s) for i, s in zip(self.items, shares, strict=True)]
        return tuple(item for item in seen if item.share >= LEAST_SHARE)

    def finish(self) -> NDArray[np.uint8]:
        """Add light, blur and noise; return the picture (H, W, 3) as bytes."""
        rng = self.rng
        a, b = rng.uniform(-0.15, 0.15, 2).astype(np.float32)
        x = np.linspace(-1, 1, self.width, dtype=np.float32)
        y = np.linspace(-1, 1, self.height, dtype=np.float32)[:, None]
        light = np.float32(rng.uniform(0.7, 1.03)) * (1 + a * x + b * y)
        tint = rng.normal(1, 0.04, 3).astype(np.float32)
        image = self.image * light[..., None] * tint
        if rng.random() < 0.5:
            image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.3, 0.9)) * self.zoom)
        grain = rng.standard_normal((self.height, self.width, 1), np.float32)
        image += np.float32(rng.uniform(0.0, 0.05)) * grain
        return np.asarray(np.clip(image * 255, 0, 255), np.uint8)


def draw_picture(rng: np.random.Generator, side: int = 48) -> Picture:
    """A small picture to train on, mostly of one thing, as pictures in the web are.

    16 % show one texture. 60 % show one thing on a texture, from half as wide as the frame to so
    near that the frame lies within it. 14 % show two textures, 10 % two textures and some things.
    """
    canvas = Canvas(rng, side, side, side / 48)
    kind = rng.random()
    if kind < 0.16:
        canvas.fill(_texture(rng))
    elif kind < 0.76:
        canvas.fill(_texture(rng))
        reach = side * float(np.exp(rng.uniform(np.log(0.5), np.log(2.4)))) / 2
        slack = max(0.08 * side, 0.55 * reach)
        x, y = side / 2 + rng.uniform(-slack, slack, 2)
        canvas.put(_thing(rng), float(x), float(y), reach)
    else:
        one, two = _textures(rng, 2)
        canvas.fill(one)
        canvas.fill(two, _split(rng, side, side))
        if kind > 0.9:
            _scatter(canvas, int(rng.integers(1, 5)), 0.15, 0.35)
    return Picture(canvas.finish(), canvas.seen())


def draw_scene(
    rng: np.random.Generator, height: int | None = None, width: int | None = None
) -> Scene:
    """A scene to evaluate on: two to four textures, one to eight things.

    Args:
        rng: decides everything else.
        height: in pixels; None: 240 to 480, at random.
        width: in pixels; None: 320 to 640, at random, and at least the height.
    """
    height = int(rng.integers(240, 481)) if height is None else height
    if width is None:
        width = int(rng.integers(max(320, height), max(641, height + 1)))
    canvas = Canvas(rng, height, width, height / UNITS)
    names = _textures(rng, int(rng.integers(2, 5)))
    names.sort(key=lambda name: not TEXTURES[name].is_wall and name != "sky")  # upright ones behind
    canvas.fill(names[0])
    for index, name in enumerate(names[1:], 1):
        level = (index + rng.uniform(-0.25, 0.25)) / len(names)
        lean = float(rng.uniform(-0.2, 0.2))
        across = rng.random() < 0.25
        canvas.fill(name, _edge(rng, height, width, float(level), lean, across))
    _scatter(canvas, int(rng.integers(1, 9)), 0.10, 0.26)
    return Scene(canvas.finish(), canvas.seen(), canvas.labels)


def _scatter(canvas: Canvas, count: int, smallest: float, largest: float) -> None:
    """Put things at random places, with radii given as shares of the height."""
    rng = canvas.rng
    for _ in range(count):
        radius = float(rng.uniform(smallest, largest)) * canvas.height
        x, y = rng.uniform(0.05, 0.95) * canvas.width, rng.uniform(0.1, 0.92) * canvas.height
        canvas.put(_thing(rng), float(x), float(y), radius)


def _split(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    """A mask (H, W) of what lies on one side of a wavy edge in a random direction."""
    across = rng.random() < 0.4
    level, lean = float(rng.uniform(0.3, 0.7)), float(rng.uniform(-0.5, 0.5))
    share = _edge(rng, height, width, level, lean, across)
    return share if rng.random() < 0.5 else 1 - share


def _edge(
    rng: np.random.Generator, height: int, width: int, level: float, lean: float, across: bool
) -> NDArray[np.float32]:
    """A mask (H, W): 1 below (or right of) a wavy line, 0 above it, a soft edge of one pixel."""
    x = np.linspace(-0.5, 0.5, width, dtype=np.float32)
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    if across:
        x, y = y - 0.5, x[None] + 0.5
    phase, waves, swing = rng.uniform(0, 6.28), rng.uniform(1, 4), rng.uniform(0, 0.04)
    line = level + lean * x + swing * np.sin(2 * np.pi * waves * x + phase)
    pixels = width if across else height
    share: NDArray[np.float32] = np.clip((y - line) * pixels + 0.5, 0, 1).astype(np.float32)
    return share


def _texture(rng: np.random.Generator) -> str:
    return _textures(rng, 1)[0]


def _textures(rng: np.random.Generator, count: int) -> list[str]:
    return [str(name) for name in rng.choice(list(TEXTURES), count, replace=False)]


def _thing(rng: np.random.Generator) -> str:
    return str(rng.choice(list(THINGS)))
