"""A run started from a command: as the Prefect flow in this process, or the bare stages."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from flows.console import ConsoleReporter
from sclip_core.config import Settings, UserError

if TYPE_CHECKING:
    from sclip_core.stages.pipeline import Finished

PREFECT_DEFAULTS = {  # for a run in this process; what is set already stays
    "PREFECT_LOGGING_LEVEL": "CRITICAL",  # we report progress and faults ourselves
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}


def run_settings(
    settings: Settings, direct: bool, reporter: ConsoleReporter | None = None
) -> Finished:
    """Run the pipeline.

    Args:
        settings: of the run.
        direct: the stages without Prefect.
        reporter: who is told; None: a new ``ConsoleReporter``.

    Raises:
        UserError: what is wrong with the input; it shows before Prefect starts.
    """
    reporter = reporter or ConsoleReporter()
    try:
        return (_run_direct if direct else _run_flow)(settings, reporter)
    finally:
        reporter.close()


def _run_direct(settings: Settings, reporter: ConsoleReporter) -> Finished:
    from sclip_core.stages.pipeline import run_pipeline
    from sclip_core.stages.run import Run

    return run_pipeline(Run(settings, reporter))


def _run_flow(settings: Settings, reporter: ConsoleReporter) -> Finished:
    from sclip_core.segmentation import compiled
    from sclip_core.stages.run import Run

    run = Run(settings)
    run.check()
    for name, value in PREFECT_DEFAULTS.items():
        os.environ.setdefault(name, value)
    try:
        from flows import benchmark
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "prefect":
            raise
        raise UserError(
            "Prefect is not installed: pip install 'sclip-benchmark[prefect]', "
            "or run the same stages without it: --direct"
        ) from None
    if run.device.type == "cpu":
        compiled.warm_up()  # while Prefect's server starts
    benchmark.reporter.set(reporter)
    finished: Finished = benchmark.sclip_benchmark(**settings.model_dump(exclude_unset=True))
    return finished
