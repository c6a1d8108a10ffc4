"""How fast training pictures are drawn and captioned, and evaluation scenes drawn.

python -m benchmarks.scenes
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ProcessPoolExecutor

import cv2

from sclip_core.demo.scenes import draw_scene, evaluation_rng
from sclip_core.demo.training.pictures import Pictures

BATCHES, BATCH, SCENES = 16, 128, 12


def draw_batch(number: int) -> None:
    """One batch, captions and tokens included."""
    cv2.setNumThreads(1)
    Pictures(0, BATCH, 48).make(number)


def draw_one(number: int) -> None:
    """One scene of 360×480 pixels."""
    cv2.setNumThreads(1)
    draw_scene(evaluation_rng(number), 360, 480)


def main() -> None:
    """Print pictures and scenes per second on all cores."""
    cores = os.cpu_count() or 1
    with ProcessPoolExecutor(cores) as pool:
        list(pool.map(draw_batch, range(cores)))  # starts the processes, fills their caches
        begun = time.perf_counter()
        list(pool.map(draw_batch, range(BATCHES)))
        drawn = time.perf_counter()
        list(pool.map(draw_one, range(SCENES)))
        done = time.perf_counter()
    print(f"{cores} cores: {BATCHES * BATCH / (drawn - begun):.0f} pictures of 48×48 a second,")
    print(f"with captions and tokens; {SCENES / (done - drawn):.0f} scenes of 360×480 a second")


if __name__ == "__main__":
    main()
