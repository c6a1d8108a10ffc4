"""The ``sclip`` command. What needs no flow imports no Prefect."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, CycloptsError, Parameter
from cyclopts.validators import Number
from rich.table import Table

from flows.data import app as data_app
from flows.parameters import flag, with_settings
from flows.pictures import check_target, save
from sclip_core import __version__
from sclip_core.config import (
    OF_MASKS,
    SEVERAL,
    Protocol,
    Settings,
    UserError,
    resolve_several,
    several_values,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sclip_core import Proposals
    from sclip_core.stages.report import Status
    from sclip_core.stages.run import Run

DEFAULT_CONFIG = Path("pipeline.yaml")
MODEL_SETTINGS = ("model", "pretrained", "device", "dtype", "attention")

SEGMENT_SETTINGS = (
    *MODEL_SETTINGS,
    *(name for name in Protocol.model_fields if name != "vocabulary"),
    *sorted(set(OF_MASKS) - {"keep_embeddings", "points_per_batch"}),
)

Switch = bool | None
Pamr = Annotated[
    Switch,
    Parameter(
        name=("--pamr", "--use-pamr"),
        negative=("--no-pamr", "--no-use-pamr"),
        help="Refine with PAMR, 10 steps unless --pamr-steps says otherwise.",
    ),
]
Slide = Annotated[
    Switch,
    Parameter(
        name=("--slide", "--slide-inference"),
        negative=("--no-slide", "--no-slide-inference"),
        help="Windows, or the whole image at once.",
    ),
]
UseSam = Annotated[
    bool,
    Parameter(help="Fill SAM's masks with labels: --mode hybrid --proposals sam.", negative=()),
]
Direct = Annotated[bool, Parameter(help="The same stages without Prefect.", negative=())]
Config = Annotated[Path | None, Parameter(help="Settings file. [pipeline.yaml, if it is there]")]
Preset = Annotated[
    str | None,
    Parameter(help="A benchmark, demo, vitl14-336, hybrid, hybrid-8, baseline; or several: a,b."),
]

app = App(
    name="sclip",
    version=__version__,
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # main says what became of the work
    help="Training-free open-vocabulary segmentation with CLIP, benchmarked.",
)
app.command(data_app)


@app.command
@with_settings(flag)
def run(
    *,
    preset: Preset = None,
    config: Config = None,
    pamr: Pamr = None,
    slide: Slide = None,
    use_sam: UseSam = False,
    direct: Direct = False,
    **given: Any,
) -> int:
    """Segment a dataset, score it if there is ground truth, keep every stage's artifact."""
    from flows.console import comparison_table, console, saved_lines, summary_table
    from flows.running import run_settings

    settings = _several(preset, config, pamr, slide, use_sam, given)
    finished = run_settings(settings, direct)
    out = console()
    if len(finished) > 1:
        out.print(comparison_table(finished))
    else:
        out.print(summary_table(finished[0]))
        if finished[0].run_id:
            out.print(f"run {finished[0].run_id}: {finished[0].path}", soft_wrap=True)
    for line in saved_lines(finished):
        out.print(line, soft_wrap=True)
    left_out = {line for each in finished for line in each.failures.values()}
    for line in sorted(left_out):
        print(f"sclip: left out: {line}", file=sys.stderr)
    return 1 if left_out else 0


@app.command
@with_settings(flag)
def plan(
    *,
    preset: Preset = None,
    config: Config = None,
    pamr: Pamr = None,
    slide: Slide = None,
    use_sam: UseSam = False,
    json_: Annotated[bool, Parameter(name="--json", help="As JSON.", negative=())] = False,
    **given: Any,
) -> int:
    """Say what a run would compute, and why; compute nothing."""
    from flows.console import ConsoleReporter, console, plan_table
    from sclip_core.stages.pipeline import Pipeline
    from sclip_core.stages.run import Run

    settings = _several(preset, config, pamr, slide, use_sam, given)
    runs = Run.several(settings, ConsoleReporter(), download=False)
    stages = {stage.key: stage for pipeline in Pipeline.of_several(runs) for stage in pipeline}
    statuses = [
        replace(status, reason=_told_apart(stage.run, runs, status))
        for stage, status in ((stage, stage.status()) for stage in stages.values())
    ]
    if json_:
        print(json.dumps([asdict(status) for status in statuses], indent=2))
    else:
        console().print(plan_table(statuses))
    return 0


@app.command
@with_settings(flag, SEGMENT_SETTINGS)
def segment(
    image: Path,
    *,
    classes: Annotated[
        str, Parameter(help="'cat, kitten; grass': classes by ';', synonyms by ', '; or a file.")
    ],
    output: Annotated[
        Path | None,
        Parameter(
            name=("--output", "-o"), help="Picture to write: PNG, JPEG or WebP. [IMAGE.sclip.png]"
        ),
    ] = None,
    labels_out: Annotated[
        Path | None, Parameter(help="Label map to write: PNG, pixel value k is class k.")
    ] = None,
    preset: Preset = None,
    config: Config = None,
    pamr: Pamr = None,
    slide: Slide = None,
    use_sam: UseSam = False,
    **given: Any,
) -> int:
    """Segment one photograph with your own words."""
    from sclip_core import SCLIP, Vocabulary, read_image
    from sclip_core.evaluation import overlay

    pixels = read_image(image)
    target = output or image.with_suffix(".sclip.png")
    check_target(target, taken=[image])
    if labels_out is not None:
        check_target(labels_out, exact=True, taken=[image, target])
    is_file = os.path.isfile(classes)
    vocabulary = (
        Vocabulary.from_file(classes) if is_file else Vocabulary.from_classes(classes.split(";"))
    )
    given = {"images": image.parent, **given}
    settings = _only(_several(preset, config, pamr, slide, use_sam, given))
    masks = _proposed(pixels, settings)  # before CLIP is loaded: weights may be missing
    model = SCLIP.load(**{name: getattr(settings, name) for name in MODEL_SETTINGS})
    segmentation = model.segment(
        pixels, settings, vocabulary, masks=masks, rule=settings.hybrid_rule
    )
    names = list(segmentation.class_names)
    save(overlay(pixels, segmentation.labels, names), target)
    print(target)
    if labels_out:
        from PIL.Image import fromarray

        save(fromarray(segmentation.labels), labels_out)
        print(labels_out)
    return 0


@app.command
def demo(
    *,
    scenes: Annotated[int, Parameter(help="How many scenes.", validator=Number(gte=1))] = 50,
    pamr_steps: Annotated[
        int, Parameter(help="Of the run with PAMR.", validator=Number(gte=1))
    ] = 10,
    pamr_dilations: Annotated[str, Parameter(help="Of the run with PAMR.")] = "8,16",
    folder: Annotated[Path, Parameter(help="For scenes and pictures.")] = Path("artifacts/demo"),
    artifacts: Path = Path("artifacts"),
    direct: Direct = False,
) -> int:
    """Drawn scenes, a toy CLIP that knows them, six methods side by side."""
    from flows.demo import Demo, run_demo

    left_out = run_demo(Demo(folder, scenes, pamr_steps, pamr_dilations, direct, artifacts))
    for line in left_out:
        print(f"sclip: left out: {line}", file=sys.stderr)
    return 1 if left_out else 0


@app.command
def query(
    sql: Annotated[str, Parameter(help="SQL over the tables runs, class_iou and image_areas.")],
    *,
    artifacts: Path = Path("artifacts"),
) -> int:
    """Ask the results a question in SQL (DuckDB)."""
    from flows.console import console, rows_table
    from sclip_core.store.query import query_results

    console().print(rows_table(query_results(artifacts, sql)))
    return 0


@app.command
def results(*, artifacts: Path = Path("artifacts")) -> int:
    """List the runs, newest first."""
    from flows.console import console, described_mode
    from sclip_core.store.results import read_runs

    runs = read_runs(artifacts)
    if not runs:
        raise UserError(f"no runs under {artifacts}/results: `sclip run` makes them")
    table = Table()
    scored = ("images", "mIoU", "mAcc", "aAcc")
    for column in ("run", "when", "mode", "model", "attention", "PAMR", *scored):
        table.add_column(column, no_wrap=column == "run")
    for row in runs:
        scores = (_number(row[name]) for name in ("miou", "macc", "aacc"))
        steps = f"{row['pamr_steps']} ({row['pamr_dilations']})" if row["pamr_steps"] else "-"
        table.add_row(
            row["run_id"],
            f"{row['created_at']:%Y-%m-%d %H:%M}",
            described_mode(row),
            f"{row['model']} {row['pretrained']}",
            row["attention"] or "-",
            steps,
            str(row["num_images"]),
            *scores,
        )
    console().print(table)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        0 done, 2 the user's mistake (one line says what to do), 1 images left out or our fault.
    """
    try:
        return int(app(arguments, exit_on_error=False, print_error=False) or 0)
    except UserError as error:
        return _mistake(str(error))
    except CycloptsError as error:
        return _mistake(f"{' '.join(str(error).split())} See `sclip --help`.")
    except KeyboardInterrupt:
        print("sclip: stopped; what was computed is kept", file=sys.stderr)
        return 130
    except Exception:
        traceback.print_exc()
        print("sclip: this is a fault of ours, see above; no artifact is lost", file=sys.stderr)
        return 1


def _mistake(line: str) -> int:
    """Say what the user can mend, in one line."""
    print(f"sclip: {line}", file=sys.stderr)
    return 2


def _proposed(pixels: NDArray[np.uint8], settings: Settings) -> Proposals | None:
    """The masks that are to be filled in a photograph (H, W, 3); None: there are to be none.

    Raises:
        UserError: it is to be segmented as the baseline does, or the source cannot be opened.
    """
    from sclip_core import propose_masks

    if settings.mode == "baseline":
        raise UserError(
            "the baseline labels no pixel outside of masks, so it is for runs alone: "
            "leave it out, and --hybrid-rule crop classifies the masks of one image in its way"
        )
    if settings.mode == "dense":
        return None
    return propose_masks(
        pixels,
        settings.proposals,
        settings.sam_checkpoint,
        settings.device,
        settings.dtype,
        **settings.relevant(),
    )


def _only(several: list[Settings]) -> Settings:
    """The settings of a command for one run."""
    if len(several) > 1:
        names = [n for n in SEVERAL if len({getattr(s, n) for s in several}) > 1]
        raise UserError(f"several values of {' and '.join(names)}: this command takes one of each")
    return several[0]


def _several(
    preset: str | None,
    config: Path | None,
    pamr: Switch,
    slide: Switch,
    use_sam: bool,
    given: dict[str, Any],
) -> list[Settings]:
    """The settings of a command's runs, its switches put into them."""
    for switch, name, setting in ((pamr, "pamr", "pamr_steps"), (slide, "slide", "slide_crop")):
        value = given.get(setting)
        values = several_values(setting, value) if value is not None else []
        if switch is not None and any(switch != (one != 0) for one in values):
            said = f"--{name}" if switch else f"--no-{name}"
            option = f"--{setting.replace('_', '-')} {value}"
            raise UserError(f"{said} and {option} say two things: leave one out")
        if switch is False:
            given = {**given, setting: 0}
    if use_sam:
        source, mode = given.get("proposals") or "sam", given.get("mode") or "hybrid"
        if source != "sam" or set(several_values("mode", mode)) == {"dense"}:
            said = f"--proposals {source}" if source != "sam" else f"--mode {mode}"
            raise UserError(f"--use-sam and {said} say two things: leave one out")
        given = {**given, "proposals": source}
    if given.get("images") is not None and given.get("data_root") is not None:
        raise UserError(
            "--images and --data-root say two things: --images DIR --classes FILE [--labels DIR] "
            "is for images of your own, --dataset NAME --data-root DIR for a benchmark"
        )
    file = config or (DEFAULT_CONFIG if DEFAULT_CONFIG.is_file() else None)
    several = resolve_several(file, preset, **given)
    if pamr and not any(settings.pamr_steps for settings in several):
        several = [settings.replace(pamr_steps=10) for settings in several]
    if slide and not several[0].slide_crop:
        several = [s.replace(slide_crop=Protocol().slide_crop) for s in several]
    return several


def _told_apart(run: Run, runs: Sequence[Run], status: Status) -> str:
    """Why a stage is in its state; before it, where there are several, whose stage it is."""
    read_by: dict[str, tuple[str, ...]] = {
        "text_bank": ("mode",),
        **dict.fromkeys(("trunk", "sam_embeddings", "proposals", "crop_features"), ()),
        "dense_features": ("attention",),
        "refine": ("attention", "pamr_steps"),
    }
    several = [n for n in SEVERAL if len({getattr(r.settings, n) for r in runs}) > 1]
    names = [n for n in several if n in read_by.get(status.stage, SEVERAL)]
    whose = ", ".join(f"{name} {getattr(run.settings, name)}" for name in names)
    return f"{whose}: {status.reason}" if whose else status.reason


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
