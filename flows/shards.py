"""Flows that spread a run over workers: ``sclip-shard`` is a part of it, ``sclip-spread`` all.

Parts are runs of a deployment, in a work pool of their own: any machine with a worker takes one.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any
from uuid import UUID

from prefect import flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.deployments import run_deployment
from prefect.states import Cancelling

from flows.benchmark import execute_runs, opened_runs
from flows.parameters import FIRST, in_parameters, prefect_type, with_help, with_settings
from sclip_core.config import UserError, WorkerLostError

LOOK = 2.0  # seconds between looks at the parts
PATIENCE = 60.0  # seconds until a part that nobody begins is worth a line


@flow(name="sclip-shard", persist_result=False)
@with_help
@with_settings(prefect_type, first=FIRST)
def sclip_shard(
    config: str | None = None,
    preset: str | None = None,
    pamr: bool | None = None,
    part: int = 0,
    parts: int = 1,
    **given: Any,
) -> None:
    """Compute what is of the images of one part, numbered from 0; write no results."""
    from sclip_core.pipeline.parts import part_of, run_part

    try:
        run_part(opened_runs(config, preset, pamr, given), *part_of(f"{part}/{parts}"))
    except UserError as error:
        raise UserError(in_parameters(str(error))) from error


@flow(name="sclip-spread", persist_result=False)
@with_help
@with_settings(prefect_type, first=FIRST)
def sclip_spread(
    config: str | None = None,
    preset: str | None = None,
    pamr: bool | None = None,
    parts: int = 2,
    deployment: str = "sclip-shard/sclip-shard",
    **given: Any,
) -> Any:
    """Let workers compute the parts of a run, each as a run of a deployment; then score it."""
    try:
        runs = opened_runs(config, preset, pamr, given)
        for run in runs:
            run.check()  # before a worker begins
    except UserError as error:
        raise UserError(in_parameters(str(error))) from error
    own = {"config": config, "preset": preset, "pamr": pamr, "parts": parts, **given}
    parameters = json.loads(
        json.dumps({k: v for k, v in own.items() if v is not None}, default=str)
    )
    begun: list[UUID] = []
    try:
        for part in range(parts):
            asked = {**parameters, "part": part}
            started: Any = run_deployment(deployment, parameters=asked, timeout=0)
            begun.append(started.id)
        get_run_logger().info("%d parts are to be runs of %s", parts, deployment)
        _wait(begun)
    except BaseException:
        _cancel(begun)
        raise
    return execute_runs(runs)


def _wait(begun: list[UUID]) -> None:
    """Wait until all parts are done.

    Raises:
        WorkerLostError: one of them did not end well.
    """
    left = dict(enumerate(begun))
    patient_until, waiting = time.monotonic() + PATIENCE, True  # for the first to begin
    with get_client(sync_client=True) as client:
        while left:
            for part, run_id in list(left.items()):
                state = client.read_flow_run(run_id).state
                if state is None or not state.is_final():
                    continue
                if not state.is_completed():
                    raise WorkerLostError(
                        f"part {part} of {len(begun)} ended as {state.name}: {state.message}; what "
                        "was computed is kept: run again"
                    )
                del left[part]
                get_run_logger().info("part %d of %d is done", part, len(begun))
            if waiting and time.monotonic() > patient_until:
                waiting = False
                states = [client.read_flow_run(run_id).state for run_id in begun]
                if all(state is None or state.is_scheduled() for state in states):
                    get_run_logger().warning("no part has begun yet: is a worker at their pool?")
            time.sleep(LOOK if left else 0)


def _cancel(begun: list[UUID]) -> None:
    """Stop the parts that are not done."""
    with suppress(Exception), get_client(sync_client=True) as client:
        for run_id in begun:
            with suppress(Exception):  # the others are to stop nevertheless
                state = client.read_flow_run(run_id).state
                if state is None or not state.is_final():
                    client.set_flow_run_state(run_id, Cancelling())
