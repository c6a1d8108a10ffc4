"""``sclip run | plan``: segment a dataset and score it, or say what that would compute."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from flows.cli.options import Config, Direct, Pamr, Preset, Shard, Slide, UseSam, settings_of
from flows.parameters import flag, with_settings
from sclip_core.config import SEVERAL, STAGE_SPECS, Settings, printable, unread, value_text

if TYPE_CHECKING:
    from sclip_core.pipeline.pipeline import Finished
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
    shard: Shard = None,
    **given: Any,
) -> int:
    """Segment a dataset, score it if there is ground truth, keep every stage's artifact."""
    from flows.cli.console import report_left_out
    from flows.cli.datasets import each_dataset, run_each
    from flows.cli.running import run_settings, run_shards

    several = {
        name: settings_of(preset, config, pamr, slide, use_sam, own)
        for name, own in each_dataset(given, config).items()
    }
    if shard is not None:
        return run_shards(several.values(), shard)
    if len(several) == 1:
        finished = run_settings(next(iter(several.values())), direct, say_classes=True)
        _print(finished)
        return report_left_out(
            (line for each in finished for line in each.failures.values()),
            (line for each in finished for line in each.faults),
        )
    finished, failed = run_each(several, lambda one: run_settings(one, direct, say_classes=True))
    if finished:
        _print(finished)
    code = report_left_out(
        (
            f"{each.settings.dataset}: {line}"
            for each in finished
            for line in each.failures.values()
        ),
        (f"{each.settings.dataset}: {line}" for each in finished for line in each.faults),
    )
    if failed:
        print(f"sclip: no result, for the reason above: {', '.join(failed)}", file=sys.stderr)
    return 2 if failed else code


def _print(finished: list[Finished]) -> None:
    """The scores of a command's runs, and where they are."""
    from flows.cli.console import console
    from flows.cli.datasets import mean_line
    from flows.cli.tables import comparison_table, detail_lines, saved_lines, summary_table
    from sclip_core.pipeline.frozen import compare_after

    out, first = console(), finished[0]
    out.print(comparison_table(finished) if len(finished) > 1 else summary_table(first))
    if len(finished) == 1 and first.run_id:
        out.print(printable(f"run {first.run_id}: {first.path}"), soft_wrap=True)
    mean = mean_line(finished)
    frozen = [line for each in finished for line in compare_after(each)]
    details = [line for each in finished for line in detail_lines(each.run_id, each.settings)]
    for line in [*details, *([mean] if mean else []), *saved_lines(finished), *frozen]:
        out.print(printable(line), soft_wrap=True)


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
    from flows.cli.console import console
    from flows.cli.datasets import each_dataset
    from flows.cli.tables import plan_table

    several = [
        settings_of(preset, config, pamr, slide, use_sam, own)
        for own in each_dataset(given, config).values()
    ]
    planned = [_planned(settings) for settings in several]
    if json_:
        named = [
            {**({"dataset": run.settings.dataset} if len(planned) > 1 else {}), **asdict(status)}
            for run, statuses in planned
            for status in statuses
        ]
        print(json.dumps(named, indent=2))
        return 0
    for run, statuses in planned:
        dataset = run.inputs.dataset
        print(printable(f"{dataset.name}: " if len(planned) > 1 else ""), end="")
        print(printable(dataset.vocabulary.summary))
        console().print(plan_table(statuses))
    return 0


def _planned(settings: list[Settings]) -> tuple[Run, list[Status]]:
    """The first run of one dataset, and what the runs would compute, a stage once."""
    from flows.cli.console import ConsoleReporter
    from sclip_core.pipeline.pipeline import Pipeline
    from sclip_core.pipeline.run import Run

    runs = Run.several(settings, ConsoleReporter(), download=False)
    for run in runs:
        run.compare_with_frozen()
    stages = {stage.key: stage for pipeline in Pipeline.of_several(runs) for stage in pipeline}
    return runs[0], [_with_settings_named(s.status(), s.run, runs) for s in stages.values()]


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
