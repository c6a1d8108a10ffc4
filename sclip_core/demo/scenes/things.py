"""The things of the drawn scenes: seven shapes with typical parts, in any colour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from sclip_core.demo.scenes.textures import Surface

Point = tuple[float, float]  # x to the right, y down, the thing in [-1, 1]
Colour = NDArray[np.float64]  # RGB in [0, 1]
SHIFT = 4  # bits of a subpixel in OpenCV's drawing

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.84, 0.14, 0.13),
    "orange": (0.95, 0.52, 0.12),
    "yellow": (0.95, 0.83, 0.20),
    "green": (0.20, 0.60, 0.24),
    "blue": (0.16, 0.36, 0.80),
    "purple": (0.50, 0.24, 0.66),
    "pink": (0.93, 0.52, 0.68),
    "white": (0.93, 0.93, 0.92),
    "grey": (0.54, 0.55, 0.56),
    "brown": (0.46, 0.30, 0.17),
}
FOLIAGE = ("green", "yellow", "orange", "red", "brown")


class Sketch:
    """The square on which a thing is drawn, and the mask of the thing."""

    def __init__(self, side: int, rng: np.random.Generator, angle: float, stretch: float) -> None:
        self.rng = rng
        self.image = np.zeros((side, side, 3), np.uint8)
        self.mask = np.zeros((side, side), np.uint8)
        cos, sin, radius = np.cos(angle), np.sin(angle), side / 2 - 1
        self._turn = radius * np.array([[cos * stretch, sin * stretch], [-sin, cos]])
        self._centre = np.array([side / 2, side / 2])

    def polygon(self, points: Sequence[Point] | NDArray[np.float64], colour: Colour) -> None:
        """Fill a polygon."""
        at = (np.asarray(points) @ self._turn + self._centre) * (1 << SHIFT)
        corners = [np.round(at).astype(np.int32)]
        cv2.fillPoly(self.image, corners, _bytes(colour), cv2.LINE_AA, SHIFT)
        cv2.fillPoly(self.mask, corners, 255, cv2.LINE_AA, SHIFT)

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """Fill a circle."""
        turns = np.linspace(0, 2 * np.pi, 25)[:-1]
        self.polygon(np.stack([x + radius * np.cos(turns), y + radius * np.sin(turns)], 1), colour)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """Fill an upright rectangle."""
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def shade(self, amount: NDArray[np.float32]) -> None:
        """Multiply the image by ``amount`` (side, side)."""
        self.image = np.clip(self.image * amount[..., None], 0, 255).astype(np.uint8)


def ball(sketch: Sketch, colour: Colour) -> None:
    """A beach ball: sectors in two colours around a pole, lit from above."""
    other = _contrast(colour, sketch.rng)
    sketch.disc(0, 0, 1, colour)
    pole = sketch.rng.uniform(-0.45, 0.45, 2)
    count = int(sketch.rng.integers(3, 5))
    start = sketch.rng.uniform(0, np.pi)
    for index in range(count):
        turns = start + np.pi / count * (2 * index + np.linspace(0, 1, 9))
        rim = np.stack([np.cos(turns), np.sin(turns)], 1)
        sketch.polygon(np.vstack([pole[None], rim]), other)
    side = len(sketch.mask)
    x = np.linspace(-1, 1, side, dtype=np.float32)
    lit = 1.1 - 0.32 * ((x + 0.35) ** 2 + (x[:, None] + 0.4) ** 2)
    sketch.shade(np.maximum(lit, 0.35).astype(np.float32))


def box(sketch: Sketch, colour: Colour) -> None:
    """A crate seen from a corner: three faces, each with a frame and a crossed lath."""
    tilt = sketch.rng.uniform(0.35, 0.55)
    side, depth = 0.9, 1 - tilt
    up, mid = -1.0, -1.0 + tilt
    faces = (
        ([(-side, mid), (0, mid + tilt), (0, 1.0), (-side, depth)], 0.72),
        ([(side, mid), (0, mid + tilt), (0, 1.0), (side, depth)], 0.5),
        ([(0, up), (side, mid), (0, mid + tilt), (-side, mid)], 1.0),
    )
    for corners, light in faces:
        face = np.array(corners)
        sketch.polygon(face, colour * light * 0.55)
        inner = face.mean(0) + 0.76 * (face - face.mean(0))
        sketch.polygon(inner, colour * light)
        a, b, c, d = inner
        for one, two in ((a, c), (b, d)):
            along = (two - one) / np.linalg.norm(two - one)
            aside = 0.07 * np.array([-along[1], along[0]])
            sketch.polygon(
                [one + aside, two + aside, two - aside, one - aside], colour * light * 0.6
            )


def tree(sketch: Sketch, colour: Colour) -> None:
    """A crown of light and dark leaves on a trunk."""
    rng = sketch.rng
    sketch.box(-0.14, 0.2, 0.14, 1.0, np.array([0.36, 0.24, 0.14]) * rng.uniform(0.7, 1.2))
    trunk = sketch.mask.copy()
    sketch.mask[:] = 0
    for turn in np.linspace(0, 2 * np.pi, 8)[:-1] + rng.uniform(0, 1):
        size = rng.uniform(0.3, 0.42)
        x, y = 0.52 * np.cos(turn), -0.34 + 0.34 * np.sin(turn)
        sketch.disc(float(x), float(y), float(size), colour)
    sketch.disc(0, -0.35, 0.5, colour)
    side = len(sketch.mask)
    leaf = Surface(rng, side, side, 1.0).noise(max(1.6, side / 16), max(1.6, side / 16))
    leaves = np.clip((leaf - 0.5) * 2.6 + 0.85, 0.3, 1.35)
    sketch.shade(np.where(sketch.mask > 0, leaves, 1).astype(np.float32))
    np.maximum(sketch.mask, trunk, out=sketch.mask)


def house(sketch: Sketch, colour: Colour) -> None:
    """A wall, a tiled roof, a door, and windows with crossed bars."""
    rng = sketch.rng
    roof = _contrast(colour, rng) * rng.uniform(0.55, 0.85)
    sketch.box(-0.78, -0.15, 0.78, 1.0, colour)
    sketch.polygon([(-1.0, -0.1), (0, -1.0), (1.0, -0.1)], roof)
    for level in (-0.75, -0.55, -0.35):  # rows of tiles
        half = (level + 1.0) / 0.9
        sketch.box(-half * 0.9, level - 0.02, half * 0.9, level + 0.03, roof * 0.6)
    glass, frame = np.array([0.55, 0.72, 0.86]) * rng.uniform(0.5, 1.1), np.array([0.95] * 3)
    sketch.box(-0.16, 0.4, 0.16, 1.0, np.array([0.26, 0.16, 0.1]))
    for x in (-0.48, 0.48):
        sketch.box(x - 0.21, 0.1, x + 0.21, 0.55, frame)
        sketch.box(x - 0.16, 0.15, x + 0.16, 0.5, glass)
        sketch.box(x - 0.02, 0.15, x + 0.02, 0.5, frame)
        sketch.box(x - 0.16, 0.3, x + 0.16, 0.34, frame)


def star(sketch: Sketch, colour: Colour) -> None:
    """Five points, each with a lit and a shaded facet."""
    turns = np.arange(10) * np.pi / 5 - np.pi / 2
    radius = np.where(np.arange(10) % 2 == 0, 1.0, sketch.rng.uniform(0.42, 0.52))
    rim = np.stack([radius * np.cos(turns), radius * np.sin(turns)], 1)
    for index in range(10):
        light = 1.12 if index % 2 else 0.55
        sketch.polygon([(0.0, 0.0), rim[index], rim[(index + 1) % 10]], colour * light)


def cone(sketch: Sketch, colour: Colour) -> None:
    """A traffic cone: bands of two colours on a foot."""
    band = np.array([0.95, 0.95, 0.94]) if colour.min() < 0.6 else np.array([0.2, 0.2, 0.22])
    edges = np.linspace(-1.0, 0.82, int(sketch.rng.integers(5, 8)))
    sketch.polygon([(-0.9, 0.8), (0.9, 0.8), (1.0, 1.0), (-1.0, 1.0)], colour * 0.7)
    for index, (top, bottom) in enumerate(pairwise(edges)):
        narrow, wide = (0.12 + 0.55 * (y + 1.0) / 1.82 for y in (top, bottom))
        band_of = colour if index % 2 == 0 else band
        sketch.polygon([(-narrow, top), (narrow, top), (wide, bottom), (-wide, bottom)], band_of)
        sketch.polygon(
            [(narrow * 0.4, top), (narrow, top), (wide, bottom), (wide * 0.4, bottom)],
            band_of * 0.75,
        )


def car(sketch: Sketch, colour: Colour) -> None:
    """A body, a cabin with windows, wheels with hubs, a light."""
    facing = 1 if sketch.rng.random() < 0.5 else -1

    def at(*points: Point) -> list[Point]:
        return [(x * facing, y) for x, y in points]

    sketch.polygon(at((-0.6, -0.05), (-0.38, -0.55), (0.3, -0.55), (0.6, -0.05)), colour * 0.85)
    body = ((-1.0, -0.05), (0.7, -0.05), (1.0, 0.12), (1.0, 0.45), (-1.0, 0.45))
    sketch.polygon(at(*body), colour)
    sketch.polygon(at((-1.0, 0.26), (1.0, 0.26), (1.0, 0.45), (-1.0, 0.45)), colour * 0.65)
    glass = np.array([0.22, 0.3, 0.38])
    sketch.polygon(at((-0.48, -0.1), (-0.32, -0.46), (-0.06, -0.46), (-0.06, -0.1)), glass)
    sketch.polygon(at((0.04, -0.1), (0.04, -0.46), (0.26, -0.46), (0.46, -0.1)), glass)
    sketch.polygon(
        at((0.88, 0.08), (1.0, 0.14), (1.0, 0.26), (0.88, 0.24)), np.array([1, 0.95, 0.6])
    )
    for x in (-0.55, 0.55):
        sketch.disc(x, 0.45, 0.27, np.array([0.07, 0.07, 0.08]))
        sketch.disc(x, 0.45, 0.13, np.array([0.72, 0.72, 0.74]))


@dataclass(frozen=True)
class Thing:
    """How a thing is drawn, and in which colours."""

    draw: Callable[[Sketch, Colour], None]
    colours: tuple[str, ...] = tuple(COLOURS)
    lean: float = 0.15  # largest angle from upright, radians


THINGS: dict[str, Thing] = {
    "ball": Thing(ball, lean=3.1),
    "box": Thing(box),
    "tree": Thing(tree, FOLIAGE),
    "house": Thing(house),
    "star": Thing(star, lean=0.6),
    "cone": Thing(cone),
    "car": Thing(car, lean=0.1),
}


@dataclass(frozen=True)
class Drawn:
    """A thing on a square."""

    image: NDArray[np.uint8]  # (side, side, 3) RGB
    mask: NDArray[np.uint8]  # (side, side), 255 where the thing is
    colour: str


def draw_thing(name: str, rng: np.random.Generator, side: int) -> Drawn:
    """A thing, ``side`` pixels tall and wide, in one of its colours."""
    thing = THINGS[name]
    colour = str(rng.choice(thing.colours))
    value = np.clip(np.array(COLOURS[colour]) + rng.normal(0, 0.04, 3), 0.03, 1)
    angle = float(rng.uniform(-thing.lean, thing.lean))
    sketch = Sketch(side, rng, angle, float(rng.uniform(0.8, 1.0)))
    thing.draw(sketch, value)
    return Drawn(sketch.image, sketch.mask, colour)


def _bytes(colour: Colour) -> tuple[float, float, float]:
    red, green, blue = np.clip(np.asarray(colour) * 255, 0, 255)
    return float(red), float(green), float(blue)


def _contrast(colour: Colour, rng: np.random.Generator) -> Colour:
    """A random colour that differs clearly from ``colour``."""
    others = [np.array(c) for c in COLOURS.values()]
    far = [c for c in others if np.abs(c - colour).sum() > 0.7]
    return np.asarray(far[int(rng.integers(len(far)))])
