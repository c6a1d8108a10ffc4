"""Where a worker finds the code, the data and the artifacts: a pull step of the deployments."""

from __future__ import annotations

import os
from pathlib import Path

from prefect.logging import get_logger
from prefect.runtime import flow_run

from sclip_core.config import UserError

HOME = "SCLIP_HOME"
FILE = "pipeline.yaml"


def enter(folder: str | None = None) -> dict[str, str]:
    """Work in the worker's own copy of the project.

    Args:
        folder: of ``pipeline.yaml`` on the worker; None: what ``SCLIP_HOME`` names there, else
            where the worker was started from a shell.

    Returns:
        The ``directory``, as Prefect's own steps give it.

    Raises:
        UserError: there is no such folder, or nothing of the project in it.
    """
    source = "folder" if folder else HOME if os.environ.get(HOME) else "PWD"
    named = Path(folder or os.environ.get(source) or ".").expanduser()
    if not (named / FILE).is_file():
        error = UserError(
            f"{source} of this worker is {named}, and no {FILE} is there: start the worker with "
            f"{HOME}=/path/of/your/clone prefect worker start --pool local"
        )
        run = {"flow_run_id": flow_run.id, "flow_run_name": flow_run.name}
        get_logger("prefect.flow_runs").error(str(error), extra=run)  # Prefect shows no reason
        raise error
    os.chdir(named)
    return {"directory": os.getcwd()}
