"""The files and rows of ``benchmarks.scale``: made, but stored by the code of real ones."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import resolve
from sclip_core.pipeline.pipeline import Pipeline
from sclip_core.pipeline.run import Run
from sclip_core.store.arrays import NewRow

SIDE = 8  # pixels
IN_A_FOLDER = 1000
LINKS = 30_000  # of a file: file systems allow some 65,000
AT_ONCE = 4096  # images whose rows are made together
PRESENT = 6  # classes in an image
TAKEN_FOR = 3  # classes as which the pixels of a class are predicted, itself among them
PIXELS = 50_000  # of a class in an image, at most


def opened(folder: Path, steps: str) -> Run:
    """The run with so many steps of PAMR."""
    settings = resolve(
        preset="demo",
        images=folder / "images",
        labels=folder / "labels",
        classes=folder / "classes.txt",
        artifacts=folder / "artifacts",
        pamr_steps=int(steps),
    )
    return Run(settings)


def make_images(folder: Path, number: int) -> None:
    """``images/0000/0000123.png`` and ``labels/0000/0000123.png``, so many of both."""
    target = Path()
    for i in range(number):
        name = f"{i // IN_A_FOLDER:04d}/{i:07d}.png"
        if i % IN_A_FOLDER == 0:
            for kind in ("images", "labels"):
                (folder / kind / name).parent.mkdir(parents=True, exist_ok=True)
        with open(folder / "images" / name, "wb") as file:
            file.write(png(3 * SIDE, b"\2", str(i).encode()))
        if i % LINKS == 0:
            target = folder / "labels" / name
            target.write_bytes(png(SIDE, b"\0", b"", value=1))
        else:
            os.link(target, folder / "labels" / name)


def png(row_bytes: int, colours: bytes, comment: bytes, value: int = 0) -> bytes:
    """A PNG of ``SIDE`` rows, with a comment; all values are 0 but for the last row's."""
    size = struct.pack(">II", SIDE, SIDE)
    last = bytes([0, *[value] * row_bytes])
    pixels = zlib.compress(bytes((row_bytes + 1) * (SIDE - 1)) + last, 1)
    chunks = ((b"IHDR", size + b"\x08" + colours + b"\0\0\0"), (b"tEXt", b"n\0" + comment))
    body = b"".join(map(_chunk, (*chunks, (b"IDAT", pixels), (b"IEND", b""))))
    return b"\x89PNG\r\n\x1a\n" + body


def _chunk(chunk: tuple[bytes, bytes]) -> bytes:
    kind, data = chunk
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def store_metrics(folder: Path, number: int, steps: str, classes: int, seed: int) -> None:
    """Rows of the stage ``metrics`` for all images, in the batches in which it stores them."""
    metrics = Pipeline.of(opened(folder, steps)).metrics
    rows = pairs(number, classes, seed)
    with metrics.storing([], tells=False) as batch:
        for row_id, values in zip(metrics.wanted(), rows, strict=True):
            batch.add([NewRow(row_id, values)])


def pairs(number: int, classes: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """For each image (pairs, 3): label, prediction, pixels; the seed does not change the labels.

    Of each class in an image some pixels are right and the others are called two other classes.
    """
    truth, guess = np.random.default_rng(0), np.random.default_rng(seed)
    for first in range(0, number, AT_ONCE):
        count = min(AT_ONCE, number - first)
        label = (truth.integers(classes, size=(count, 1)) + 7 * np.arange(PRESENT)) % classes
        pixels = truth.integers(TAKEN_FOR, PIXELS, (count, PRESENT))
        right = (pixels * guess.random((count, PRESENT))).astype(np.int64)
        one = ((pixels - right) * guess.random((count, PRESENT))).astype(np.int64)
        shift = np.stack([np.zeros_like(label), *guess.integers(1, 5, (2, count, PRESENT))], axis=2)
        shift[:, :, 2] += 5
        values = np.stack(
            [
                np.broadcast_to(label[:, :, None], shift.shape),
                (label[:, :, None] + shift) % classes,
                np.stack([right, one, pixels - right - one], axis=2),
            ],
            axis=3,
        ).reshape(count, PRESENT * TAKEN_FOR, 3)
        yield from values


def results_stage(folder: Path, steps: str) -> None:
    """Execute the stage ``results`` of a run, whose metrics are there."""
    Pipeline.of(opened(folder, steps)).results.execute()
