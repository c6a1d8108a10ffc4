"""``make demo``: generated pictures through the whole pipeline, with a tiny CLIP of random weights.

It shows how the pipeline is used and what it keeps. Random weights know no words: the scores mean
nothing, and every line that shows one says so.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sclip_core.store.files import write_whole

FOLDER = Path("artifacts/demo")
CLASSES = ("sky, cloud", "grass, lawn", "road", "ball", "box, crate", "cone")
COLOURS = ((225, 190, 140), (70, 150, 80), (110, 110, 115), (60, 60, 210), (60, 130, 190))
PICTURES = 12
MODEL = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {
        "image_size": 224,
        "layers": 3,
        "width": 128,
        "head_width": 64,
        "patch_size": 16,
    },
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2},
}


SETTINGS = {
    "dataset": "demo",
    "images": FOLDER / "images",
    "labels": FOLDER / "labels",
    "classes": FOLDER / "classes.txt",
    "model": FOLDER / "random_clip.json",
    "pretrained": FOLDER / "random_clip.safetensors",
}


def scene(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A landscape with things in it.

    Args:
        seed: of this picture.

    Returns:
        BGR (H, W, 3) and labels (H, W), both uint8; labels index ``CLASSES``.
    """
    rng = np.random.default_rng(seed)
    height, width = int(rng.integers(240, 400)), int(rng.integers(320, 520))
    labels = np.zeros((height, width), np.uint8)
    horizon = int(height * rng.uniform(0.35, 0.6))
    labels[horizon:] = 1
    left, right = sorted(rng.uniform(0, width, 2))
    bottom = [[left - 60, height], [right + 60, height]]
    road = np.array([[width / 2, horizon], *bottom[::-1]], np.int32)
    cv2.fillPoly(labels, [road], 2)
    for _ in range(int(rng.integers(2, 6))):
        x, y = int(rng.integers(40, width - 40)), int(rng.integers(horizon, height - 20))
        size = int(rng.integers(18, 48))
        kind = int(rng.integers(3, 6))
        if kind == 3:
            cv2.circle(labels, (x, y), size, 3, -1)
        elif kind == 4:
            cv2.rectangle(labels, (x - size, y - size), (x + size, y + size // 2), 4, -1)
        else:
            cone = np.array([[x, y - 2 * size], [x - size, y], [x + size, y]], np.int32)
            cv2.fillPoly(labels, [cone], 5)
    colours = np.array([*COLOURS, (40, 120, 245)], np.float32)
    light = np.linspace(0.85, 1.1, height, dtype=np.float32)[:, None, None]
    noise = rng.normal(0, 9, (height, width, 1)).astype(np.float32)
    picture = colours[labels] * light + cv2.GaussianBlur(noise, (3, 3), 0)[..., None]
    return np.clip(picture, 0, 255).astype(np.uint8), labels


def make_inputs(folder: Path) -> None:
    """Write pictures, label maps, words and a model with random weights; what is there stays."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(PICTURES):
        target = folder / "labels" / f"scene{number:02d}.png"
        if not target.exists():
            picture, labels = scene(number)
            cv2.imwrite(str(folder / "images" / f"scene{number:02d}.png"), picture)
            write_whole(target, lambda path, x=labels: path.write_bytes(_png(x)))
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n", "utf-8")
    (folder / "random_clip.json").write_text(json.dumps(MODEL, indent=1), "utf-8")
    settings = "".join(f"  {name}: {value}\n" for name, value in SETTINGS.items())
    (folder / "pipeline.yaml").write_text(f"sclip:\n{settings}", "utf-8")
    weights = folder / "random_clip.safetensors"
    if not weights.exists():
        torch.manual_seed(0)
        state = open_clip.CLIP(**MODEL).state_dict()
        write_whole(weights, lambda path: save_file(dict(state), path))


def sclip(*arguments: str) -> None:
    """Show a command, then run it."""
    print(f"\n$ {shlex.join(['sclip', *arguments])}", flush=True)
    subprocess.run([sys.executable, "-m", "flows.cli", *arguments], check=True)


def main() -> None:
    """Make the inputs; run; run again with PAMR; segment one picture."""
    print("A tiny CLIP of RANDOM weights on generated pictures: it shows the pipeline.")
    print("The scores below mean nothing. Real ones need real weights: see the README.")
    make_inputs(FOLDER)
    config = ["--config", f"{FOLDER}/pipeline.yaml"]
    sclip("run", *config, "--save-vis", f"{FOLDER}/pictures")
    print("\nAnother PAMR setting: only refine and metrics run again, the features are cached.")
    sclip("run", *config, "--pamr", "--direct")
    print("\nOne picture and words of your own:")
    words = ["--classes", "sky, cloud; grass; road; ball"]
    sclip("segment", f"{FOLDER}/images/scene00.png", *words, *config, "-o", f"{FOLDER}/overlay.png")
    print(f"\nLook at {FOLDER}/pictures and {FOLDER}/overlay.png. Try next:")
    print("  .venv/bin/sclip results")
    print(f"  .venv/bin/sclip plan {shlex.join(config)} --pamr-steps 5")
    print("  .venv/bin/sclip run --help")


def _png(labels: NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".png", labels)[1])


if __name__ == "__main__":
    main()
