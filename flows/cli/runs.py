"""``sclip run | plan``: segment a dataset and score it, or say what that would compute."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from flows.cli.options import Config, Direct, Pamr, Preset, Slide, UseSam, settings_of
from flows.parameters import flag, with_settings
from sclip_core.config import SEVERAL, STAGE_SPECS, printable, unread, value_text

if TYPE_CHECKING:
    from sclip_core.pipeline.run import Run
    from sclip_core.progress import Status


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
    from flows.cli.console import console, report_left_out
    from flows.cli.running import run_settings
    from flows.cli.tables import comparison_table, saved_lines, summary_table

    settings = settings_of(preset, config, pamr, slide, use_sam, given)
    finished = run_settings(settings, direct, say_classes=True)
    out, first = console(), finished[0]
    out.print(comparison_table(finished) if len(finished) > 1 else summary_table(first))
    if len(finished) == 1 and first.run_id:
        out.print(printable(f"run {first.run_id}: {first.path}"), soft_wrap=True)
    for line in saved_lines(finished):
        out.print(line, soft_wrap=True)
    return report_left_out(line for each in finished for line in each.left_out)


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
    from flows.cli.console import ConsoleReporter, console
    from flows.cli.tables import plan_table
    from sclip_core.pipeline.pipeline import Pipeline
    from sclip_core.pipeline.run import Run

    settings = settings_of(preset, config, pamr, slide, use_sam, given)
    runs = Run.several(settings, ConsoleReporter(), download=False)
    stages = {stage.key: stage for pipeline in Pipeline.of_several(runs) for stage in pipeline}
    statuses = [_with_settings_named(s.status(), s.run, runs) for s in stages.values()]
    if json_:
        print(json.dumps([asdict(status) for status in statuses], indent=2))
    else:
        print(printable(runs[0].inputs.dataset.vocabulary.summary))
        console().print(plan_table(statuses))
    return 0


def _with_settings_named(status: Status, run: Run, runs: Sequence[Run]) -> Status:
    """The status of a stage; its reason begins with what sets the stage apart from others."""
    several = [n for n in SEVERAL if len({getattr(r.settings, n) for r in runs}) > 1]
    read = set(STAGE_SPECS[status.stage].reads) - unread(run.settings)
    read -= {"attention"} if "method" in several else set()  # which is the method of such runs
    given = {name: getattr(run.settings, name) for name in several if name in read}
    if given.get("method", "") is None:
        given["method"] = run.settings.attention
    values = [f"{name} {value_text(value)}" for name, value in given.items() if value != ""]
    return replace(status, reason=f"{', '.join(values)}: {status.reason}") if values else status
