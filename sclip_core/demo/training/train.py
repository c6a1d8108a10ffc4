"""Train the demo's CLIP from scratch, the way CLIP was: pictures and captions, nothing else.

    python -m sclip_core.demo.training.train --out runs/demo

A run that was stopped goes on where it was when it is started again.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import torch
from safetensors.torch import save_file
from torch.utils.data import DataLoader

from sclip_core.config import UserError
from sclip_core.demo.training.pictures import Batch, Pictures
from sclip_core.demo.training.trainer import Recipe, Trainer
from sclip_core.store.files import writable_folder, write_whole

CONFIG = Path(__file__).parents[1] / "sclip_demo.json"
HELD_OUT = 512  # pictures of another seed


def train(
    recipe: Recipe, out: Path, workers: int = 0, minutes: float = 1e9, every: int = 200
) -> None:
    """Train until the recipe's steps are done or the time is up.

    Args:
        recipe: see there.
        out: folder for ``recipe.json``, ``state.pt``, ``log.jsonl`` and ``weights.safetensors``.
        workers: processes that draw; 0: none of their own.
        minutes: at most so long this time.
        every: steps between two lines of the log, and two saved states.

    Raises:
        UserError: the folder holds a run of another recipe, or cannot be written.
    """
    writable_folder(out, "--out")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = json.loads(CONFIG.read_text("utf-8"))
    side = config["vision_cfg"]["image_size"]
    trainer = Trainer(recipe, config, device)
    _go_on(trainer, out)
    pictures = Pictures(recipe.seed, recipe.batch, side, recipe.shows, trainer.step, recipe.steps)
    held_out = Pictures(recipe.seed + 1, HELD_OUT, side).make(0)
    begun, losses = time.perf_counter(), []
    own = torch.Generator()  # or the loader would draw from the one that drops patches
    for batch in DataLoader(pictures, batch_size=None, num_workers=workers, generator=own):
        losses.append(trainer.take(batch))
        seconds = time.perf_counter() - begun
        last = trainer.step == recipe.steps or seconds > 60 * minutes
        if trainer.step % every == 0 or last:
            speed = len(losses) * recipe.batch / seconds
            _save(trainer, out, _line(trainer, losses[-every:], held_out, speed))
        if last:
            break


def _go_on(trainer: Trainer, out: Path) -> None:
    """Restore the state of an earlier start, if there was one."""
    recipe = asdict(trainer.recipe)
    noted = out / "recipe.json"
    if noted.exists() and json.loads(noted.read_text("utf-8")) != recipe:
        raise UserError(f"{noted} is of another recipe: pass another folder, --out DIR")
    write_whole(noted, lambda path: path.write_text(json.dumps(recipe, indent=1), "utf-8"))
    if (out / "state.pt").exists():
        saved = torch.load(out / "state.pt", map_location=trainer.device, weights_only=True)
        trainer.restore(saved)
        _save_weights(trainer, out)  # it may have been stopped before they were written


def _line(trainer: Trainer, losses: list[float], held_out: Batch, speed: float) -> dict[str, Any]:
    """A line of the log."""
    return {
        "step": trainer.step,
        "pictures_shown": trainer.step * trainer.recipe.batch,
        "loss": round(sum(losses) / len(losses), 4),
        "held_out_accuracy": round(trainer.accuracy(held_out), 4),
        "rate": trainer.rate(),
        "pictures_per_second": round(speed, 1),
    }


def _save(trainer: Trainer, out: Path, line: dict[str, Any]) -> None:
    """Write what a later start needs, the weights, and then the log."""
    write_whole(out / "state.pt", lambda path: torch.save(trainer.state(), path))
    _save_weights(trainer, out)
    print(json.dumps(line), flush=True)
    with open(out / "log.jsonl", "a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")


def _save_weights(trainer: Trainer, out: Path) -> None:
    write_whole(out / "weights.safetensors", lambda path: save_file(trainer.weights(), path))


def main() -> None:
    """Read the command line; train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("artifacts/demo-training"))
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so long")
    parser.add_argument("--workers", type=int, default=0, help="processes that draw")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    for name, value in asdict(Recipe()).items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=type(value), default=value, help=f"[{value}]")
    given = vars(parser.parse_args())
    torch.set_num_threads(given.pop("threads"))
    cv2.setNumThreads(1)  # pictures are small
    out, minutes, workers = (given.pop(name) for name in ("out", "minutes", "workers"))
    try:
        train(Recipe(**given), out, workers, minutes)
    except UserError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
