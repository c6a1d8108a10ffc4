"""The pieces of a stage: which there are, who executes them, and what becomes of their reports."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TypeAlias

from sclip_core.config import UserError
from sclip_core.pipeline.run import Run
from sclip_core.pipeline.runners import ROUNDS, Runner
from sclip_core.pipeline.stage import Stage
from sclip_core.pipeline.stages.results import ResultsStage
from sclip_core.pipeline.work import Report, Work, opened_here, run_shard

AnyStage: TypeAlias = Stage | ResultsStage

LOOK = 2.0  # seconds between looks at what other processes have stored


def pieces(stage: AnyStage) -> list[Work]:
    """What is to be executed of a stage: itself, or its shards.

    Without a runner the long stages have shards; with one, its processes get all that is of
    images, and what is all there is not sent to them.
    """
    run, runner = stage.run, stage.run.runner
    if runner is None or not isinstance(stage, Stage):
        shards = run.shards if stage.shardable else 1
        return [stage.work.of_shard(i, shards) for i in range(shards)]
    stage.begin()
    if not stage.missing(stage.wanted()):
        return [stage.work]
    runner.start()
    shards = _shards(run, runner) if stage.unit == "images" else 1
    away = replace(stage.work, away=True)
    return [away.of_shard(i, shards) for i in range(shards)]


def _shards(run: Run, runner: Runner) -> int:
    """As many as were asked for, else a few for each process."""
    asked = "shards" in run.settings.model_fields_set
    return run.settings.shards if asked else ROUNDS * runner.places


def carry_out(work: Work) -> Report:
    """Execute a piece of work in this process, or wait for a process of the command's runner.

    Raises:
        UserError: what the stage raises.
    """
    pipelines = opened_here(work)
    runner = pipelines[0].run.runner if pipelines and work.away else None
    return runner.result(work) if runner else run_shard(work)


def take(work: Work, report: Report) -> None:
    """Merge what another process reports into what the command knows.

    Raises:
        UserError: it computed into another artifact.
    """
    pipelines = opened_here(work)
    if not report.elsewhere or pipelines is None:
        return
    stage = pipelines[work.run].stage(work.stage)
    if not isinstance(stage, Stage):
        return
    if report.outcome.key != stage.key:
        raise UserError(
            f"{stage.name}: the worker's artifact is {report.outcome.path}, that of the command "
            f"{stage.artifact.path}: the worker has other weights, code or settings; give both the "
            "same"
        )
    run = stage.run
    run.inputs.journal.heard(report.files)
    for pipeline, failures in zip(pipelines, report.failures, strict=True):
        pipeline.run.journal.heard(failures)
    run.inputs.journal.heard_faults(report.faults)
    for line in report.notes:
        run.reporter.note(line)
    stage.artifact.refresh()
    stage.failed.update(report.failed)
    for number, label, count, seconds in report.made:
        other = pipelines[number].stage(label)
        if isinstance(other, Stage):
            other.owed = (other.owed[0] + count, other.owed[1] + seconds)
    if stage.forced:  # what the shard has is new
        ids = set(stage.in_shard(stage.wanted(), work.shard, work.shards)) - stage.failed
        for each in (stage, *stage.together):
            each.fresh |= ids
    run.journal.finished(stage.credited(report.outcome), work.shards, stage.part)


def halt(run: Run) -> None:
    """Stop all that computes for the command of a run, in whichever process."""
    run.stop.set()  # which all runs of the command share
    run.lease.close()  # without which processes of others end their work
    if run.runner:
        run.runner.stop()


def execute(stage: AnyStage) -> None:
    """Execute a stage or its shards: one after the other, or at once where others compute."""
    run, works = stage.run, pieces(stage)
    away = any(work.away for work in works)
    at_once = len(works) if away else run.models.device_count
    if not away and (at_once == 1 or len(works) == 1):
        for work in works:
            carry_out(work)
        return
    with followed(stage), ThreadPoolExecutor(at_once, "sclip-shard") as pool:
        parts = {pool.submit(carry_out, work): work for work in works}
        try:
            for part in as_completed(parts):
                take(parts[part], part.result())
        except BaseException:  # a signal reaches this thread alone
            halt(run)
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def followed(stage: AnyStage) -> Iterator[None]:
    """Tell the user of rows that other processes store, as long as the block lasts."""
    if stage.run.runner is None or not isinstance(stage, Stage):
        yield
        return
    ids, done = stage.wanted(), threading.Event()
    there = len(ids) - len(stage.missing(ids))
    if there == len(ids):
        yield
        return
    stage.run.reporter.start(stage.name, len(ids), there, stage.unit)

    def look() -> None:
        """Count what is stored, until the block ends."""
        before = now = there
        while not done.wait(LOOK):
            with suppress(UserError):  # whoever needs the rows says what is wrong
                stage.artifact.refresh()
                now = len(ids) - len(stage.missing(ids))
            if now > before and not done.is_set():
                stage.run.reporter.advance(stage.name, now - before)
                before = now

    thread = threading.Thread(target=look, daemon=True, name="sclip-follow")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(LOOK)  # object storage may keep it waiting for minutes
