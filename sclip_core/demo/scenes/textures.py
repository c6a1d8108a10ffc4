"""The stuff of the drawn scenes: eight textures that differ by their pattern, not by their colour.

A pattern is a plane of values in [0, 1]; a palette maps it to colours between a dark and a light
one. Palettes of different textures overlap on purpose: there is a grey sky, a grey sea, a grey
road and a grey wall. Lengths are in units of a training picture's pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[Any]  # (H, W) floating
Colour = tuple[float, float, float]  # RGB in [0, 1]


@dataclass(frozen=True)
class Surface:
    """The plane on which a pattern is drawn: its size, and the pattern's scale and angle."""

    rng: np.random.Generator
    height: int
    width: int
    zoom: float  # pixels per unit
    angle: float = 0.0  # radians from the upright pattern

    def noise(self, across: float, down: float) -> Plane:
        """Smooth noise (H, W) in [0, 1] whose blobs are ``across`` x ``down`` units."""
        across, down = max(across * self.zoom, 1.0), max(down * self.zoom, 1.0)
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        reach = abs(cos) * self.width + abs(sin) * self.height
        drop = abs(sin) * self.width + abs(cos) * self.height
        shape = (int(drop / down) + 4, int(reach / across) + 4)
        grid = self.rng.random(shape, np.float32)
        x, y = self.rng.random(2)
        rotation = np.array(
            [
                [cos / across, sin / across, 1 + x + max(0.0, -sin) * self.height / across],
                [-sin / down, cos / down, 1 + y + max(0.0, sin) * self.width / down],
            ]
        )
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        size = (self.width, self.height)
        warped: Plane = cv2.warpAffine(
            grid, rotation, size, flags=flags, borderMode=cv2.BORDER_REFLECT
        )
        return warped

    def axes(self) -> tuple[Plane, Plane]:
        """Coordinates (H, W) along and down the pattern, in units, from a random origin."""
        x = np.arange(self.width, dtype=np.float32) / self.zoom
        y = np.arange(self.height, dtype=np.float32)[:, None] / self.zoom
        cos, sin = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        left, top = self.rng.uniform(0, 1000, 2).astype(np.float32)
        return cos * x + sin * y + left, cos * y - sin * x + top

    def between(self, low: float, high: float) -> float:
        """A random number between two others."""
        return float(self.rng.uniform(low, high))


def sky(surface: Surface) -> Plane:
    """A slow gradient with soft clouds."""
    clouds = 0.6 * surface.noise(30, 14) + 0.4 * surface.noise(13, 7)
    slope = np.linspace(0, surface.between(0.1, 0.5), surface.height, dtype=np.float32)[:, None]
    amount = surface.between(0.4, 1.0)
    return slope + amount * np.clip((clouds - 0.45) * 3, 0, 1)


def grass(surface: Surface) -> Plane:
    """Blades: fine upright strokes of high contrast."""
    strokes = 0.65 * surface.noise(1.5, 6) + 0.35 * surface.noise(2.6, 11)
    blades: Plane = np.clip((strokes - 0.5) * 2.4 + 0.5, 0, 1)
    return blades


def sea(surface: Surface) -> Plane:
    """Waves: long flat ripples with bright crests."""
    _, down = surface.axes()
    swell = np.sin(2 * np.pi / surface.between(5, 8) * (down + 5 * surface.noise(24, 9)))
    ripples = 0.7 * surface.noise(13, 2.2) + 0.3 * surface.noise(5, 1.5)
    waves: Plane = np.clip(0.32 + 0.22 * swell + 1.1 * (ripples - 0.42), 0, 1)
    return waves


def sand(surface: Surface) -> Plane:
    """Fine grain on winding ripples."""
    _, down = surface.axes()
    dunes = np.sin(2 * np.pi / surface.between(10, 15) * (down + 14 * surface.noise(20, 16)))
    grained: Plane = 0.5 + 0.17 * dunes + 0.5 * (surface.noise(1.1, 1.1) - 0.5)
    return grained


def brick_wall(surface: Surface) -> Plane:
    """Courses of bricks with a tint each, every other course shifted by half a brick."""
    along, down = surface.axes()
    tall = surface.between(5.5, 7.5)
    long = tall * surface.between(2.0, 2.5)
    course = np.floor(down / tall)
    place = along / long + 0.5 * (course % 2)
    mortar = surface.between(0.9, 1.3)
    joint = ((down / tall - course) * tall < mortar) | ((place - np.floor(place)) * long < mortar)
    tints = surface.rng.uniform(0.0, 0.45, (61, 61)).astype(np.float32)
    tint = tints[course.astype(np.int32) % 61, np.floor(place).astype(np.int32) % 61]
    tint += 0.2 * surface.noise(1.5, 1.5)
    joints = surface.between(0.9, 1.0)
    return np.where(joint, np.float32(joints), tint).astype(np.float32)


def road(surface: Surface) -> Plane:
    """Asphalt with light and dark speckles, and often a painted line."""
    speckle = surface.noise(1.6, 1.6)
    tar = 0.3 + 0.2 * (surface.noise(12, 12) - 0.5)
    tar += 0.35 * (speckle > 0.72) - 0.3 * (speckle < 0.24)
    if surface.rng.random() < 0.5:
        along, down = surface.axes()
        lean = surface.between(0, np.pi)
        across = np.cos(lean) * along + np.sin(lean) * down
        gap = surface.between(45, 80)
        tar = np.where(across % gap < surface.between(2.5, 4.5), np.float32(0.95), tar)
    return np.asarray(tar, np.float32)


def snow(surface: Surface) -> Plane:
    """Lumpy drifts with sparkles."""
    drifts = 0.5 * surface.noise(16, 8) + 0.5 * surface.noise(6, 4)
    sparkle = surface.noise(1.3, 1.3) > 0.78
    return np.clip(0.62 + 0.9 * (drifts - 0.5), 0, 0.84) + np.float32(0.16) * sparkle


def wooden_wall(surface: Surface) -> Plane:
    """Upright planks with grain along them and dark gaps between them."""
    along, _ = surface.axes()
    wide = surface.between(8, 12)
    plank = np.floor(along / wide)
    tints = surface.rng.uniform(0.35, 0.75, 61).astype(np.float32)
    grain = 0.5 * (surface.noise(1.3, 26) - 0.5) + 0.3 * (surface.noise(3, 40) - 0.5)
    wood = tints[plank.astype(np.int32) % 61] + grain
    gap = (along / wide - plank) * wide < surface.between(1.0, 1.6)
    return np.where(gap, np.float32(0.0), wood).astype(np.float32)


@dataclass(frozen=True)
class Texture:
    """A pattern, and the palettes that it is drawn in, by their colour word."""

    pattern: Callable[[Surface], Plane]
    palettes: dict[str, tuple[Colour, Colour]]  # dark, light
    lean: float  # largest angle from upright, radians
    is_wall: bool = False


JITTER = 0.07  # of a palette's colours: with less, the mean colour alone identifies most textures
GREY = ((0.36, 0.38, 0.40), (0.72, 0.74, 0.76))
TEXTURES: dict[str, Texture] = {
    "sky": Texture(
        sky,
        {
            "blue": ((0.32, 0.53, 0.84), (0.92, 0.95, 0.98)),
            "grey": ((0.52, 0.55, 0.60), (0.86, 0.87, 0.89)),
            "orange": ((0.83, 0.47, 0.33), (0.99, 0.84, 0.60)),
            "dark": ((0.10, 0.12, 0.28), (0.36, 0.36, 0.48)),
        },
        lean=0.2,
    ),
    "grass": Texture(
        grass,
        {
            "green": ((0.12, 0.32, 0.08), (0.50, 0.74, 0.26)),
            "yellow": ((0.48, 0.42, 0.14), (0.88, 0.80, 0.42)),
            "brown": ((0.30, 0.22, 0.12), (0.66, 0.54, 0.34)),
            "dark": ((0.05, 0.16, 0.10), (0.26, 0.42, 0.24)),
        },
        lean=0.25,
    ),
    "sea": Texture(
        sea,
        {
            "blue": ((0.06, 0.22, 0.52), (0.66, 0.82, 0.94)),
            "green": ((0.05, 0.34, 0.34), (0.58, 0.84, 0.76)),
            "grey": GREY,
            "orange": ((0.40, 0.26, 0.30), (0.98, 0.74, 0.48)),
        },
        lean=0.12,
    ),
    "sand": Texture(
        sand,
        {
            "yellow": ((0.62, 0.50, 0.28), (0.97, 0.88, 0.64)),
            "white": ((0.70, 0.68, 0.64), (0.98, 0.97, 0.94)),
            "red": ((0.52, 0.26, 0.16), (0.90, 0.60, 0.42)),
            "grey": GREY,
        },
        lean=0.4,
    ),
    "brick wall": Texture(
        brick_wall,
        {
            "red": ((0.46, 0.14, 0.10), (0.84, 0.76, 0.70)),
            "yellow": ((0.62, 0.48, 0.24), (0.95, 0.90, 0.78)),
            "grey": ((0.30, 0.31, 0.33), (0.80, 0.81, 0.82)),
            "white": ((0.96, 0.95, 0.92), (0.58, 0.56, 0.54)),
        },
        lean=0.12,
        is_wall=True,
    ),
    "road": Texture(
        road,
        {
            "grey": ((0.20, 0.21, 0.22), (0.84, 0.85, 0.85)),
            "dark": ((0.06, 0.06, 0.08), (0.58, 0.58, 0.58)),
            "brown": ((0.28, 0.21, 0.15), (0.82, 0.74, 0.62)),
            "blue": ((0.16, 0.20, 0.32), (0.74, 0.80, 0.90)),
        },
        lean=3.1,
    ),
    "snow": Texture(
        snow,
        {
            "white": ((0.55, 0.58, 0.64), (1.0, 1.0, 1.0)),
            "blue": ((0.32, 0.46, 0.72), (0.86, 0.93, 1.0)),
            "pink": ((0.66, 0.46, 0.50), (1.0, 0.90, 0.90)),
            "grey": ((0.38, 0.40, 0.43), (0.84, 0.85, 0.87)),
        },
        lean=0.3,
    ),
    "wooden wall": Texture(
        wooden_wall,
        {
            "brown": ((0.22, 0.13, 0.06), (0.72, 0.50, 0.30)),
            "grey": ((0.18, 0.19, 0.20), (0.74, 0.75, 0.75)),
            "green": ((0.06, 0.18, 0.10), (0.48, 0.68, 0.46)),
            "blue": ((0.08, 0.14, 0.28), (0.50, 0.66, 0.86)),
            "red": ((0.24, 0.06, 0.05), (0.78, 0.34, 0.26)),
        },
        lean=0.12,
        is_wall=True,
    ),
}


def paint(name: str, rng: np.random.Generator, size: tuple[int, int], zoom: float) -> Painted:
    """Draw a texture.

    Args:
        name: of the texture.
        rng: decides palette, pattern and jitter.
        size: height and width in pixels.
        zoom: pixels per unit.
    """
    texture = TEXTURES[name]
    colour = str(rng.choice(list(texture.palettes)))
    shift = rng.normal(0, JITTER, 3)  # the same for both, which keeps the contrast
    dark, light = (np.array(c) + shift for c in texture.palettes[colour])
    angle = float(rng.uniform(-texture.lean, texture.lean))
    plane = texture.pattern(Surface(rng, *size, zoom, angle))
    mixed = plane[..., None] * (light - dark).astype(np.float32) + dark.astype(np.float32)
    return Painted(mixed, colour)


@dataclass(frozen=True)
class Painted:
    """A texture on a plane."""

    image: NDArray[np.float32]  # (H, W, 3) RGB, about [0, 1]
    colour: str  # its word
