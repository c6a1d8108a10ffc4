"""Train the demo's CLIP from scratch as CLIP was trained: on pictures and captions alone.

    python -m sclip_core.demo.training.train --out runs/demo
    python -m sclip_core.demo.training.train --curve runs/demo/log.jsonl

A run that was stopped continues where it was when the command is started again. The second command
draws the loss and the held-out accuracy of a run as a PNG beside its log.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import torch
from safetensors.torch import save_file
from torch.utils.data import DataLoader

from sclip_core.config import UserError
from sclip_core.config.optional import optional
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
        recipe: everything that decides the weights.
        out: folder for ``recipe.json``, ``state.pt``, ``log.jsonl`` and ``weights.safetensors``.
        workers: processes that draw pictures; 0: this one draws them.
        minutes: stop after so many.
        every: steps between two saved states, and two lines of the log.

    Raises:
        UserError: the folder has a run of another recipe, or cannot be written.
    """
    writable_folder(out, "--out")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = json.loads(CONFIG.read_text("utf-8"))
    side = config["vision_cfg"]["image_size"]
    trainer = Trainer(recipe, config, device)
    _resume(trainer, out)
    pictures = Pictures(recipe.seed, recipe.batch, side, recipe.shows, trainer.step, recipe.steps)
    held_out = Pictures(recipe.seed + 1, HELD_OUT, side).make(0)
    begun, losses = time.perf_counter(), []
    own = torch.Generator()  # else the loader would advance the one that drops patches
    for batch in DataLoader(pictures, batch_size=None, num_workers=workers, generator=own):
        losses.append(trainer.take(batch))
        seconds = time.perf_counter() - begun
        last = trainer.step == recipe.steps or seconds > 60 * minutes
        if trainer.step % every == 0 or last:
            speed = len(losses) * recipe.batch / seconds
            _save(trainer, out, _line(trainer, losses[-every:], held_out, speed))
        if last:
            break


def _resume(trainer: Trainer, out: Path) -> None:
    """Restore the state that an earlier start left in the folder, if there was one."""
    recipe = asdict(trainer.recipe)
    record = out / "recipe.json"
    if record.exists() and json.loads(record.read_text("utf-8")) != recipe:
        raise UserError(f"{record} is of another recipe: pass another folder, --out DIR")
    write_whole(record, lambda path: path.write_text(json.dumps(recipe, indent=1), "utf-8"))
    if (out / "state.pt").exists():
        saved = torch.load(out / "state.pt", map_location=trainer.device, weights_only=True)
        trainer.restore(saved)
        _save_weights(trainer, out)  # which come after the state, and may be older


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
    """Write the state for a later start, the weights, and then the line of the log."""
    write_whole(out / "state.pt", lambda path: torch.save(trainer.state(), path))
    _save_weights(trainer, out)
    print(json.dumps(line), flush=True)
    with open(out / "log.jsonl", "a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")


def _save_weights(trainer: Trainer, out: Path) -> None:
    write_whole(out / "weights.safetensors", lambda path: save_file(trainer.weights(), path))


def draw_curve(log: Path, target: Path) -> None:
    """Draw the loss and the held-out accuracy over the pictures shown, as a PNG.

    Args:
        log: ``log.jsonl`` of a run, a JSON object in each line.
        target: the picture.

    Raises:
        UserError: Matplotlib is not installed, or the file is not such a log.
    """
    matplotlib = optional("matplotlib.figure", "plot")
    try:
        lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
        shown = [line["pictures_shown"] / 1e6 for line in lines]
        losses = [line["loss"] for line in lines]
        accuracies = [100 * line["held_out_accuracy"] for line in lines]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{log} is not the log of a training run ({error})") from None
    figure = matplotlib.Figure(figsize=(7, 3.2), layout="constrained")
    left = figure.subplots()
    right = left.twinx()
    left.plot(shown, losses, color="#1f6fb4", label="loss")
    right.plot(shown, accuracies, color="#d1691f", label="best caption is true")
    left.set(xlabel="pictures shown, millions", ylabel="contrastive loss", ylim=(0, None))
    right.set(ylabel="held-out pictures, %", ylim=(0, 100))
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    write_whole(target, partial(figure.savefig, format="png", dpi=130))


def main() -> None:
    """Read the command line; train, or draw a curve."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("artifacts/demo-training"))
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so many")
    parser.add_argument("--workers", type=int, default=0, help="processes that draw pictures")
    parser.add_argument("--curve", type=Path, metavar="LOG", help="draw curve.png beside it")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    for name, value in asdict(Recipe()).items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=type(value), default=value, help=f"[{value}]")
    given = vars(parser.parse_args())
    torch.set_num_threads(given.pop("threads"))
    cv2.setNumThreads(1)  # the pictures are small
    out, minutes, workers, log = (given.pop(n) for n in ("out", "minutes", "workers", "curve"))
    try:
        if log:
            draw_curve(log, log.with_name("curve.png"))
        else:
            train(Recipe(**given), out, workers, minutes)
    except UserError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
