"""A run started from a command: as the Prefect flow in this process, or the bare stages."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from flows import server
from flows.cli.console import ConsoleReporter
from flows.cli.garbage import search_as_usual
from sclip_core.config import SEVERAL, Settings, UserError, printable

if TYPE_CHECKING:
    from sclip_core.pipeline.pipeline import Finished
    from sclip_core.pipeline.run import Run


def run_settings(
    settings: Settings | Sequence[Settings],
    direct: bool,
    reporter: ConsoleReporter | None = None,
    say_classes: bool = False,
) -> list[Finished]:
    """Run the pipeline.

    Args:
        settings: of the run; or of several, as ``resolve_several`` gives them.
        direct: the stages without Prefect.
        reporter: who is told; None: a new ``ConsoleReporter``.
        say_classes: print the classes in one line before anything is computed.

    Returns:
        What remains of each.

    Raises:
        UserError: what is wrong with the input; it shows before Prefect starts.
    """
    several = [settings] if isinstance(settings, Settings) else list(settings)
    if not direct:
        server.begin(several[0].local_artifacts)
    from sclip_core.pipeline.run import Run

    reporter = reporter or ConsoleReporter()
    try:
        runs = Run.several(several, reporter)
        for run in runs:
            run.check()
        if say_classes:
            print(printable(runs[0].inputs.dataset.vocabulary.summary), flush=True)
        return run_opened(runs, direct)
    finally:
        reporter.close()


def run_opened(runs: list[Run], direct: bool) -> list[Finished]:
    """Run the pipelines of runs that are open already; ``direct`` as of ``run_settings``."""
    from sclip_core.pipeline.pipeline import run_pipelines

    search_as_usual()
    return run_pipelines(runs) if direct else _run_flow(runs)


def run_shards(datasets: Iterable[Sequence[Settings]], shard: str) -> int:
    """Compute one part of the runs over some datasets, without Prefect.

    Args:
        datasets: the settings of the runs over each.
        shard: ``"0/8"``.

    Returns:
        The exit code: 1 if images cannot be used, else 0.

    Raises:
        UserError: what is wrong with the input.
    """
    from flows.cli.console import report_left_out
    from sclip_core.pipeline.parts import part_of, run_part
    from sclip_core.pipeline.run import Run

    part, parts = part_of(shard)
    for several in datasets:
        if (runner := several[0].runner) != "threads":
            raise UserError(
                f"--shard {shard} and --runner {runner} conflict: a part is computed by one "
                "process; use only one"
            )
    reporter = ConsoleReporter()
    failures: list[str] = []
    try:
        for several in datasets:
            failures += run_part(Run.several(several, reporter), part, parts).values()
    finally:
        reporter.close()
    return report_left_out(failures)


def _run_flow(runs: list[Run]) -> list[Finished]:
    """Run the Prefect flow in this process, over runs that are open already."""
    artifacts = runs[0].settings.local_artifacts
    server.prepare(artifacts)
    server.check_settings()
    from flows import benchmark

    if runs[0].models.device.type == "cpu" and not _have_labels(runs):
        from sclip_core.segmentation.backends import warm_up

        warm_up()  # while Prefect's server starts
    token = benchmark.prepared.set(runs)
    try:
        with server.served(artifacts):
            finished = benchmark.sclip_benchmark(**_shown([run.settings for run in runs]))
    finally:
        benchmark.prepared.reset(token)
    return finished if isinstance(finished, list) else [finished]


def _have_labels(runs: list[Run]) -> bool:
    """Whether all runs have label maps of earlier runs, so that most likely none is computed."""
    from sclip_core.pipeline.pipeline import Pipeline

    artifacts = [
        Pipeline.of(run).refine.artifact for run in runs if "refine" in run.settings.stages
    ]
    return all(not each.in_objects and os.path.isdir(each.path) for each in artifacts)


def _shown(several: Sequence[Settings]) -> dict[str, Any]:
    """The flow's parameters as Prefect shows them: of what varies, each value once.

    What a method sets by itself is left out where the methods' settings differ.
    """
    first, *others = (settings.model_dump(exclude_unset=True) for settings in several)
    parameters = {k: v for k, v in first.items() if all(k in o and o[k] == v for o in others)}
    for name in SEVERAL if len(several) > 1 else ():
        parameters[name] = list(dict.fromkeys(getattr(settings, name) for settings in several))
    return parameters
