"""``sclip demo``: drawn scenes, a tiny CLIP that was trained on such, six methods side by side.

The only accuracy that can be measured anywhere, without weights or data from elsewhere.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from flows.cli.console import ConsoleReporter, console
from flows.cli.running import run_settings
from sclip_core.config import UserError, resolve
from sclip_core.demo.scenes import stuff_names
from sclip_core.demo.scenes.files import scenes_folder, write_scenes
from sclip_core.drawing import sheet
from sclip_core.masks import superpixels
from sclip_core.pipeline.pipeline import Finished, Pipeline
from sclip_core.pipeline.run import Run
from sclip_core.progress import Outcome
from sclip_core.store.files import write_whole

TOY = "A toy CLIP on drawn scenes, both made by this project. Real figures need real weights."
METHODS: dict[str, dict[str, Any]] = {
    "vanilla": {"attention": "vanilla"},
    "ClearCLIP": {"attention": "clearclip"},
    "NACLIP": {"attention": "naclip"},
    "CSA (SCLIP)": {"attention": "csa"},
    "CSA + masks": {"attention": "csa", "mode": "hybrid", "proposals": "felzenszwalb"},
    "CSA + PAMR": {"attention": "csa"},
}
MASKED = "CSA + masks"  # superpixels, which need no weights, filled with the labels of CSA
REFINED = "CSA + PAMR"  # the one that the PAMR settings are for
IN_SHEET = ("vanilla", "CSA (SCLIP)", MASKED, REFINED)
HARDEST = "select class_name, max(iou) as iou from class_iou group by 1 order by 2"
SHOWN = 4  # scenes on the sheet, the first ones


@dataclass(frozen=True)
class Demo:
    """What a demo does, and where."""

    folder: Path
    scenes: int
    pamr_steps: int
    pamr_dilations: str
    direct: bool
    artifacts: Path = Path("artifacts")

    def settings(self, method: str) -> dict[str, Any]:
        """The settings of one method, as flags would give them."""
        refined = {"pamr_steps": self.pamr_steps, "pamr_dilations": self.pamr_dilations}
        return {
            "preset": "demo",
            "dataset": "scenes",
            "data_root": scenes_folder(self.folder),
            "num_samples": self.scenes,
            "artifacts": self.artifacts,
            **METHODS[method],
            **(refined if method == REFINED else {}),
        }


class Brief(ConsoleReporter):
    """Bars while a stage runs, and no line of its own behind them."""

    def __init__(self) -> None:
        """Lines without a terminal go nowhere."""
        super().__init__(log=lambda line: None)

    def finish(self, outcome: Outcome) -> None:
        """Close the bar."""
        self.close()


def run_demo(demo: Demo) -> list[str]:
    """Draw the scenes, run the methods, print the table, save the sheet.

    Returns:
        A line for each scene that could not be used.

    Raises:
        UserError: settings that are none, a folder that takes nothing.
    """
    out = console()
    methods = available()
    settings = {method: resolve(**demo.settings(method)) for method in methods}
    together = [m for m in methods if m not in (MASKED, REFINED)]  # one pass through the encoder
    out.print(TOY, soft_wrap=True)
    root = scenes_folder(demo.folder)
    drawn = write_scenes(root, demo.scenes)
    out.print(f"{demo.scenes} scenes in {root}, {drawn} drawn now", soft_wrap=True)
    finished: dict[str, Finished] = {}
    alone = [[method] for method in methods if method in (MASKED, REFINED)]
    for several in (together, *alone):
        runs = run_settings([settings[method] for method in several], demo.direct, Brief())
        finished.update(zip(several, runs, strict=True))
        for method, run in zip(several, runs, strict=True):
            done, score = what_ran(run.outcomes), run.row["miou"]
            out.print(f"{method:<12} mIoU {score:5.1f}   {done}", soft_wrap=True)
    out.print(method_table(finished))
    path = save_sheet(demo, [method for method in IN_SHEET if method in methods])
    out.print(f"Look at {path}. Try next:\n", soft_wrap=True)
    shown = [finished[method].run_id or "" for method in ("CSA (SCLIP)", REFINED)]
    for line in next_commands(demo, shown):
        out.print(f"  {line}", soft_wrap=True)
    return sorted({line for run in finished.values() for line in run.failures.values()})


def available() -> list[str]:
    """The methods whose libraries are installed; a line about one that is left out."""
    try:
        superpixels.library()
    except UserError as error:
        console().print(f"{MASKED} is left out: {error}", soft_wrap=True)
        return [method for method in METHODS if method != MASKED]
    return list(METHODS)


def what_ran(outcomes: Mapping[str, Outcome]) -> str:
    """What a run computed and what it found, in one line."""
    ran = [f"{o.stage} {o.computed} in {o.seconds:.1f} s" for o in outcomes.values() if o.computed]
    cached = [o.stage for o in outcomes.values() if not o.computed]
    if not ran:
        return "all cached"
    return f"computed: {', '.join(ran)}" + (f"; cached: {', '.join(cached)}" if cached else "")


def method_table(finished: Mapping[str, Finished]) -> Table:
    """Scores of the methods, in percent."""
    scenes = next(iter(finished.values())).row["num_images"]
    table = Table(title=f"{scenes} drawn scenes, 15 classes, toy CLIP", title_justify="left")
    table.add_column("method")
    for column in ("mIoU", "stuff", "things", "mAcc", "aAcc"):
        table.add_column(column, justify="right")
    table.add_column("run", no_wrap=True)
    for method, run in finished.items():
        stuff, things = kind_means(run.classes)
        scores = (run.row["miou"], stuff, things, run.row["macc"], run.row["aacc"])
        shown = ("-" if np.isnan(score) else f"{score:.1f}" for score in scores)
        table.add_row(method, *shown, run.run_id)
    return table


def kind_means(classes: list[dict[str, Any]]) -> tuple[float, float]:
    """Mean IoU of the stuff classes and of the things; of those that occur."""
    of_stuff = set(stuff_names())
    known = [
        (row["class_name"] in of_stuff, row["iou"]) for row in classes if row["iou"] is not None
    ]
    means = [[iou for is_stuff, iou in known if is_stuff == kind] for kind in (True, False)]
    stuff, things = (float(np.mean(values)) if values else float("nan") for values in means)
    return stuff, things


def save_sheet(demo: Demo, methods: Sequence[str]) -> Path:
    """Draw the first scenes: picture, truth, and what some of the methods made of them."""
    runs = {method: Run(resolve(**demo.settings(method))) for method in methods}
    stages = {method: Pipeline.of(run).labels for method, run in runs.items()}
    rows = {method: stage.rows() for method, stage in stages.items()}
    first = next(iter(runs.values())).inputs
    labelled = [digest for digest in first.images if all(digest in row for row in rows.values())]
    digests = labelled[:SHOWN]
    images = [first.image(digest) for digest in digests]
    columns: dict[str, list[NDArray[Any]]] = {
        "truth": [first.ground_truth(first.images[digest]) for digest in digests]
    }
    for method, stage in stages.items():
        columns[method] = [stage.read(rows[method][digest]) for digest in digests]
    names = first.dataset.vocabulary.class_names
    title = "Drawn scenes, labelled by a toy CLIP"
    picture = sheet(images, columns, names, title, TOY)
    path = demo.folder / "sheet.png"
    write_whole(path, lambda target: picture.save(target, "PNG", optimize=True))
    return path


def command() -> str:
    """How a shell finds ``sclip``: by name, or in the environment that runs this."""
    here = Path(sys.executable).with_name("sclip")
    if shutil.which("sclip") or not here.exists():
        return "sclip"
    near = here.is_relative_to(Path.cwd())
    return shlex.quote(str(here.relative_to(Path.cwd()) if near else here))


def next_commands(demo: Demo, runs: Sequence[str]) -> list[str]:
    """Commands that lead on.

    Args:
        demo: what was done.
        runs: the ids of two that are worth a look side by side.
    """
    root = shlex.quote(str(scenes_folder(demo.folder)))
    scenes = f"--preset demo --dataset scenes --data-root {root} --num-samples {demo.scenes}"
    sclip = command()
    usual = demo.artifacts == Demo.artifacts
    kept = "" if usual else f" --artifacts {shlex.quote(str(demo.artifacts))}"
    return [
        "# another PAMR setting: the features stay, only refine and what reads it runs",
        f"{sclip} run {scenes} --pamr-steps 20{kept}",
        "# what is best, and which words are hard? a question to the results",
        f"{sclip} query '{HARDEST}'{kept}",
        "# what PAMR does, on a page: scores, classes, confusions, pictures",
        f"{sclip} report {' '.join(runs)}{kept}",
        "# your photograph, your words, real weights (fetched once, 600 MB)",
        f'{sclip} segment photo.jpg --classes "cat, kitten; grass, lawn; sky"',
    ]
