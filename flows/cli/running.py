"""A run started from a command: as the Prefect flow in this process, or the bare stages."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from flows.cli.console import ConsoleReporter
from sclip_core.config import SEVERAL, Settings, UserError, printable

if TYPE_CHECKING:
    from sclip_core.pipeline.pipeline import Finished
    from sclip_core.pipeline.run import Run

PREFECT_DEFAULTS = {  # for a run in this process; what is set already stays
    "PREFECT_LOGGING_LEVEL": "CRITICAL",  # we report progress and faults ourselves
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}


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
    from sclip_core.pipeline.pipeline import run_pipelines
    from sclip_core.pipeline.run import Run

    reporter = reporter or ConsoleReporter()
    several = [settings] if isinstance(settings, Settings) else list(settings)
    try:
        runs = Run.several(several, reporter)
        if say_classes:
            print(printable(runs[0].inputs.dataset.vocabulary.summary), flush=True)
        return run_pipelines(runs) if direct else _run_flow(runs)
    finally:
        reporter.close()


def _run_flow(runs: list[Run]) -> list[Finished]:
    """Run the Prefect flow in this process, over runs that are open already."""
    from sclip_core.segmentation.backends import warm_up

    for run in runs:
        run.check()
    for name, value in PREFECT_DEFAULTS.items():
        os.environ.setdefault(name, value)
    # FastAPI silences this of the server's own code, for a moment and not for other threads' sake.
    warnings.filterwarnings("ignore", "The 'alias' attribute with value", UserWarning)
    try:
        from flows import benchmark
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "prefect":
            raise
        raise UserError(
            "Prefect is not installed: pip install 'sclip-benchmark[prefect]', "
            "or run the same stages without it: --direct"
        ) from None
    if runs[0].models.device.type == "cpu":
        warm_up()  # while Prefect's server starts
    token = benchmark.prepared.set(runs)
    try:
        with _no_heartbeats():
            finished = benchmark.sclip_benchmark(**_shown([run.settings for run in runs]))
    finally:
        benchmark.prepared.reset(token)
    return finished if isinstance(finished, list) else [finished]


def _shown(several: Sequence[Settings]) -> dict[str, Any]:
    """The flow's parameters as Prefect shows them: of what varies, each value once.

    What a method sets by itself is left out where the methods' settings differ.
    """
    first, *others = (settings.model_dump(exclude_unset=True) for settings in several)
    parameters = {k: v for k, v in first.items() if all(k in o and o[k] == v for o in others)}
    for name in SEVERAL if len(several) > 1 else ():
        parameters[name] = list(dict.fromkeys(getattr(settings, name) for settings in several))
    return parameters


def _no_heartbeats() -> AbstractContextManager[object]:
    """Prefect without the thread that tells a server that the flow is alive.

    Nobody watches a server that lives as long as the run, and the flow's end would wait for that
    thread, up to a second. A server of the user's own gets its heartbeats.
    """
    from prefect import settings

    if settings.PREFECT_API_URL.value():
        return nullcontext()
    return settings.temporary_settings({settings.PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})
