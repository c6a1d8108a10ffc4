"""The curve of a training run: loss and held-out accuracy over the pictures shown.

python -m sclip_core.demo.training.curve runs/demo/log.jsonl -o curve.png
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

from sclip_core.config import UserError
from sclip_core.store.files import write_whole


def draw(log: Path, target: Path) -> None:
    """Draw a log as a PNG.

    Args:
        log: what ``train`` wrote, a JSON object a line.
        target: the picture.

    Raises:
        UserError: Matplotlib is not installed, or the log is none.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise UserError(
            "Matplotlib is not installed: pip install 'sclip-benchmark[plot]'"
        ) from None
    try:
        lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
        shown = [line["pictures_shown"] / 1e6 for line in lines]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{log} is no log of a training run ({error})") from None
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    left = figure.subplots()
    right = left.twinx()
    left.plot(shown, [line["loss"] for line in lines], color="#1f6fb4", label="loss")
    accuracy = [100 * line["held_out_accuracy"] for line in lines]
    right.plot(shown, accuracy, color="#d1691f", label="best caption is true")
    left.set(xlabel="pictures shown, millions", ylabel="contrastive loss", ylim=(0, None))
    right.set(ylabel="held-out pictures, %", ylim=(0, 100))
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    write_whole(target, partial(figure.savefig, format="png", dpi=130))


def main() -> None:
    """Read the command line; draw."""
    parser = argparse.ArgumentParser(description="Draw the curve of a training run.")
    parser.add_argument("log", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("curve.png"))
    given = parser.parse_args()
    try:
        draw(given.log, given.output)
    except UserError as error:
        parser.error(str(error))
    print(given.output)


if __name__ == "__main__":
    main()
