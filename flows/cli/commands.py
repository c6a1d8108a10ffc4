"""The commands of ``sclip``. What needs no flow imports no Prefect."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from cyclopts.validators import Number

from flows.cli.data import app as data_app
from flows.cli.gc import gc
from flows.cli.options import Config, Direct, Pamr, Preset, Slide, UseSam, only_local, settings_of
from flows.cli.results import compare, query, report, results
from flows.cli.segment import segment
from flows.cli.sweep import sweep
from flows.parameters import flag, with_settings
from sclip_core import __version__
from sclip_core.config import SEVERAL, printable, unread, value_text

if TYPE_CHECKING:
    from sclip_core.pipeline.run import Run
    from sclip_core.progress import Status

app = App(
    name="sclip",
    version=__version__,
    default_parameter=Parameter(validator=only_local),
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # main says what became of the work
    help="Training-free open-vocabulary segmentation with CLIP, benchmarked.",
)


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
    from flows.cli.console import comparison_table, console, saved_lines, summary_table
    from flows.cli.running import run_settings

    settings = settings_of(preset, config, pamr, slide, use_sam, given)
    finished = run_settings(settings, direct)
    out = console()
    if len(finished) > 1:
        out.print(comparison_table(finished))
    else:
        out.print(summary_table(finished[0]))
        if finished[0].run_id:
            out.print(printable(f"run {finished[0].run_id}: {finished[0].path}"), soft_wrap=True)
    for line in saved_lines(finished):
        out.print(line, soft_wrap=True)
    left_out = {line for each in finished for line in each.failures.values()}
    for line in sorted(left_out):
        print(f"sclip: left out: {line}", file=sys.stderr)
    return 1 if left_out else 0


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
    from flows.cli.console import ConsoleReporter, console, plan_table
    from sclip_core.pipeline.pipeline import Pipeline
    from sclip_core.pipeline.run import Run

    settings = settings_of(preset, config, pamr, slide, use_sam, given)
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
    from flows.cli.demo import Demo, run_demo

    left_out = run_demo(Demo(folder, scenes, pamr_steps, pamr_dilations, direct, artifacts))
    for line in left_out:
        print(f"sclip: left out: {line}", file=sys.stderr)
    return 1 if left_out else 0


ONLY_TELL = ("plan", "results", "compare", "query")  # commands that do nothing else

for command in (
    run,
    plan,
    sweep,
    segment,
    demo,
    results,
    compare,
    report,
    query,
    gc,
    data_app,
):  # as `sclip --help` lists them
    app.command(command)


def _told_apart(run: Run, runs: Sequence[Run], status: Status) -> str:
    """Why a stage is in its state; before it, where there are several, whose stage it is."""
    read_by: dict[str, tuple[str, ...]] = {
        "text_bank": ("mode",),
        **dict.fromkeys(("trunk", "sam_embeddings", "proposals", "crop_features"), ()),
        "dense_features": ("attention",),
        "refine": tuple(name for name in SEVERAL if name not in ("mode", "hybrid_rule")),
    }
    several = [n for n in SEVERAL if len({getattr(r.settings, n) for r in runs}) > 1]
    read = set(read_by.get(status.stage, SEVERAL)) - unread(run.settings)
    names = [n for n in several if n in read]
    whose = ", ".join(f"{name} {value_text(getattr(run.settings, name))}" for name in names)
    return f"{whose}: {status.reason}" if whose else status.reason
