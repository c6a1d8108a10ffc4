"""``sclip demo``: drawn scenes, a tiny CLIP that was trained on such, methods side by side.

It measures accuracy on any machine, without weights or data from elsewhere.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.table import Table

from flows.cli.console import ConsoleReporter, console, report_left_out, right, whole
from flows.cli.options import Direct
from sclip_core.config import UserError, resolve
from sclip_core.progress import Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sclip_core.pipeline.pipeline import Finished

TOY = "A toy CLIP on drawn scenes, both made by this project. Real figures need real weights."
METHODS: dict[str, dict[str, Any]] = {
    "vanilla": {"attention": "vanilla"},
    "ClearCLIP": {"attention": "clearclip"},
    "NACLIP": {"attention": "naclip"},
    "CSA (SCLIP)": {"attention": "csa"},
    "SC-CLIP": {"method": "sc-clip"},
    "PEARL": {"method": "pearl"},
    "ResCLIP": {"method": "resclip"},
    "ITACLIP": {"method": "itaclip"},
    "GEM": {"method": "gem"},
    "CSA + masks": {"attention": "csa", "mode": "hybrid", "proposals": "felzenszwalb"},
    "CSA + PAMR": {"attention": "csa"},
}
MASKED = "CSA + masks"  # superpixels, which need no weights, filled with the labels of CSA
REFINED = "CSA + PAMR"  # to which the PAMR settings apply
IN_SHEET = ("vanilla", "CSA (SCLIP)", "SC-CLIP", "PEARL", "ITACLIP", MASKED, REFINED)
HARDEST = "select class_name, max(iou) as iou from class_iou group by 1 order by 2"
SCENES_SHOWN = 4  # on the sheet, the first ones


@dataclass(frozen=True)
class Demo:
    """What a demo does, and where."""

    folder: Path
    root: Path  # of the scenes
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
            "data_root": self.root,
            "num_samples": self.scenes,
            "artifacts": self.artifacts,
            **METHODS[method],
            **(refined if method == REFINED else {}),
        }


class BarsOnly(ConsoleReporter):
    """Bars while a stage runs, and no lines."""

    def _print(self, line: str) -> None:
        """Drop the lines that replace bars where there is no terminal."""

    def finish(self, outcome: Outcome) -> None:
        """Close the bar."""
        self.close()


def demo(
    *,
    scenes: Annotated[int, Parameter(help="Number of scenes.", validator=Number(gte=1))] = 50,
    pamr_steps: Annotated[
        int, Parameter(help="For the run with PAMR.", validator=Number(gte=1))
    ] = 10,
    pamr_dilations: Annotated[str, Parameter(help="For the run with PAMR.")] = "8,16",
    folder: Annotated[Path, Parameter(help="For scenes and pictures.")] = Path("artifacts/demo"),
    artifacts: Path = Path("artifacts"),
    direct: Direct = False,
) -> int:
    """Drawn scenes, a toy CLIP that knows them, eleven methods side by side."""
    from sclip_core.demo.scenes.files import scenes_folder

    root = scenes_folder(folder)
    plan = Demo(folder, root, scenes, pamr_steps, pamr_dilations, direct, artifacts)
    return report_left_out(run_demo(plan))


def run_demo(demo: Demo) -> list[str]:
    """Draw the scenes, run the methods, print the table, save the sheet.

    Returns:
        A line for each scene that could not be used.

    Raises:
        UserError: impossible settings, or a folder that cannot be written.
    """
    from flows.cli.running import run_settings
    from sclip_core.demo.scenes.files import write_scenes

    out = console()
    methods = available()
    settings = {method: resolve(**demo.settings(method)) for method in methods}
    together = [m for m in methods if m not in (MASKED, REFINED)]  # one pass through the encoder
    out.print(TOY, soft_wrap=True)
    drawn = write_scenes(demo.root, demo.scenes)
    out.print(f"{demo.scenes} scenes in {demo.root}, {drawn} drawn now", soft_wrap=True)
    finished: dict[str, Finished] = {}
    alone = [[method] for method in methods if method in (MASKED, REFINED)]
    for several in (together, *alone):
        runs = run_settings([settings[method] for method in several], demo.direct, BarsOnly())
        finished.update(zip(several, runs, strict=True))
        for method, run in zip(several, runs, strict=True):
            done, miou = what_ran(run.outcomes), run.row["miou"]
            out.print(f"{method:<12} mIoU {miou:5.1f}   {done}", soft_wrap=True)
    out.print(method_table(finished))
    path = save_sheet(demo, [method for method in IN_SHEET if method in methods])
    out.print(f"Look at {path}. Try next:\n", soft_wrap=True)
    shown = [finished[method].run_id or "" for method in ("CSA (SCLIP)", REFINED)]
    for line in next_commands(demo, shown):
        out.print(f"  {line}", soft_wrap=True)
    return sorted({line for run in finished.values() for line in run.failures.values()})


def available() -> list[str]:
    """The methods whose libraries are installed; prints a line about one that is left out."""
    from sclip_core.masks import superpixels

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
    title = f"{scenes} drawn scenes, 15 classes, toy CLIP"
    numbers = map(right, ("mIoU", "stuff", "things", "mAcc", "aAcc"))
    table = Table("method", *numbers, whole("run"), title=title, title_justify="left")
    for method, run in finished.items():
        stuff, things = kind_means(run.classes)
        scores = (run.row["miou"], stuff, things, run.row["macc"], run.row["aacc"])
        shown = ("-" if score != score else f"{score:.1f}" for score in scores)
        table.add_row(method, *shown, run.run_id)
    return table


def kind_means(classes: list[dict[str, Any]]) -> tuple[float, float]:
    """Mean IoU of the stuff classes, and of the things, that occur; NaN: none does."""
    from sclip_core.demo.scenes import stuff_names

    stuff = set(stuff_names())
    known = [row for row in classes if row["iou"] is not None]
    kinds = ([r["iou"] for r in known if (r["class_name"] in stuff) == kind] for kind in (1, 0))
    of_stuff, of_things = (sum(ious) / len(ious) if ious else float("nan") for ious in kinds)
    return of_stuff, of_things


def save_sheet(demo: Demo, methods: Sequence[str]) -> Path:
    """Draw the first scenes: picture, truth, and the labels by some of the methods."""
    from sclip_core.drawing import sheet
    from sclip_core.pipeline.pipeline import Pipeline
    from sclip_core.pipeline.run import Run
    from sclip_core.store.files import write_whole

    runs = {method: Run(resolve(**demo.settings(method))) for method in methods}
    stages = {method: Pipeline.of(run).labels for method, run in runs.items()}
    rows = {method: stage.rows() for method, stage in stages.items()}
    first = next(iter(runs.values())).inputs
    labelled = [digest for digest in first.images if all(digest in row for row in rows.values())]
    digests = labelled[:SCENES_SHOWN]
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
    """How to type ``sclip`` in a shell: its name, or the path of the one that runs this."""
    here = Path(sys.executable).with_name("sclip")
    if shutil.which("sclip") or not here.exists():
        return "sclip"
    near = here.is_relative_to(Path.cwd())
    return shlex.quote(str(here.relative_to(Path.cwd()) if near else here))


def next_commands(demo: Demo, runs: Sequence[str]) -> list[str]:
    """Commands to try next, with a comment before each.

    Args:
        demo: what was done.
        runs: the ids of two that are worth a look side by side.
    """
    root = shlex.quote(str(demo.root))
    scenes = f"--preset demo --dataset scenes --data-root {root} --num-samples {demo.scenes}"
    sclip = command()
    usual = demo.artifacts == Demo.artifacts
    artifacts = "" if usual else f" --artifacts {shlex.quote(str(demo.artifacts))}"
    return [
        "# type a word, see where it is: a page on these features, with sliders and methods",
        f"{sclip} explore{artifacts}",
        "# another PAMR setting: the features stay, only refine and what reads it runs",
        f"{sclip} run {scenes} --pamr-steps 20{artifacts}",
        "# which classes are hard for every method? a query over the results",
        f"{sclip} query '{HARDEST}'{artifacts}",
        "# what PAMR does, on a page: scores, classes, confusions, pictures",
        f"{sclip} report {' '.join(runs)}{artifacts}",
        "# the methods as a table for a paper; docs/paper.md goes on from here",
        f"{sclip} table all --format latex{artifacts}",
        "# your photograph, your words, real weights (fetched once, 600 MB)",
        f'{sclip} segment photo.jpg --classes "cat, kitten; grass, lawn; sky"',
    ]
