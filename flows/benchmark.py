"""The Prefect flow ``sclip-benchmark``: the stages of the pipeline, a task each.

    text_bank ──────────┐
                        ▼
    dense_features ──► refine ─────┬──► metrics ──► results
        ▲                          ▼       ▲
      trunk, where it is kept   hybrid ────┘    where there are masks: of proposals,
                                   ▲            by SAM or as superpixels
    proposals ──► crop_features ───┘

The order stands in ``sclip_core.pipeline.pipeline``. The store is the cache: a task that finds
everything there returns ``Cached``, and no array passes through Prefect.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture
from prefect.states import Completed
from prefect.tasks import Task

from flows.parameters import (
    FIRST,
    in_parameters,
    prefect_type,
    put_switches,
    with_help,
    with_settings,
)
from flows.signals import taken_back
from sclip_core.config import UserError, resolve_several
from sclip_core.progress import LineReporter
from sclip_core.store.files import DiskError

if TYPE_CHECKING:
    from sclip_core.pipeline.executing import AnyStage
    from sclip_core.pipeline.pipeline import Finished
    from sclip_core.pipeline.run import Run
    from sclip_core.pipeline.work import Report, Work

# The runs that a command in this process has opened already, for its call of the flow.
prepared: ContextVar[list[Run] | None] = ContextVar("prepared", default=None)


def may_pass(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether a fault is worth another try: the disk, the network, the GPU's memory."""
    error = state.result(raise_on_failure=False)
    if isinstance(error, DiskError):
        return error.may_pass
    return isinstance(error, OSError) or type(error).__name__ == "OutOfMemoryError"


@task(
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=2,
    retry_delay_seconds=[2, 20],
    retry_condition_fn=may_pass,
)
def run_stage(work: Work) -> Report | State[Report]:
    """Compute what is missing of a stage, or of one shard of it."""
    from sclip_core.pipeline.executing import carry_out

    report = carry_out(work)
    if report.state == "cached":
        return Completed(name="Cached", data=report, message=f"reused {report.outcome.path}")
    return report


@flow(name="sclip-benchmark", persist_result=False)
@with_help
@with_settings(prefect_type, first=FIRST)
def sclip_benchmark(
    config: str | None = None, preset: str | None = None, pamr: bool | None = None, **given: Any
) -> Any:
    """Segment a dataset with words and score it; gives a ``Finished``, or a list of them.

    Images of one's own without ``labels`` are not scored; ``save_vis`` is then where the label
    maps go. Settings that are given win over those of ``preset``, and these over ``config``. Of
    some there may be several values: a run for each combination, which share what they can.
    """
    ready = prepared.get()
    if ready:
        with taken_back():  # a worker's process is Prefect's to stop, that of a command is its own
            return execute_runs(ready)
    try:
        return execute_runs(opened_runs(config, preset, pamr, given))
    except UserError as error:  # whoever reads it filled in a form
        raise UserError(in_parameters(str(error))) from error


def execute_runs(runs: list[Run]) -> Any:
    """Execute the stages of runs as tasks, and show the outcome."""
    from sclip_core.pipeline.executing import followed, halt, pieces, take
    from sclip_core.pipeline.pipeline import run_pipelines

    made: dict[AnyStage, list[PrefectFuture[Any]]] = {}

    def as_tasks(stage: AnyStage) -> None:
        """Execute a stage as one task, or as one a shard."""
        named = run_stage.with_options(name=stage.name)
        try:  # around the first as well: a signal may come between two
            works = pieces(stage)
            read = [future for each in stage.reads for future in made.get(each, ())]
            made[stage] = [  # done by now is what they read: it makes the edges of the graph
                named.submit(work, return_state=False, wait_for=read) for work in works
            ]
            with followed(stage):
                for work, future in zip(works, made[stage], strict=True):
                    take(work, future.result())
        except BaseException:
            # A signal (of Prefect a TerminationSignal) reaches this thread alone, and Prefect
            # waits for the others. A shard that failed ends the run as well.
            halt(stage.run)
            raise

    finished = run_pipelines(runs, as_tasks)
    for each in finished:
        _show(log_scores, each)
        _show(publish, each)
    if len(finished) > 1 and finished[0].settings.scored:
        _show(publish_together, finished)
    return finished if len(finished) > 1 else finished[0]


def opened_runs(
    config: str | None, preset: str | None, pamr: bool | None, given: dict[str, Any]
) -> list[Run]:
    """The runs that a deployment's parameters ask for, told of in the log of the flow run."""
    from sclip_core.pipeline.run import Run
    from sclip_core.segmentation.backends import warm_up

    told = LineReporter(get_run_logger().info)
    given = put_switches({"pamr_steps": pamr}, given, lambda name, value: f"{name}={value}")
    several = resolve_several(config, preset, told.note, **given)
    if pamr and not any(settings.pamr_steps for settings in several):
        several = resolve_several(config, preset, **{**given, "pamr_steps": 10})
    runs = Run.several(several, told)
    if runs[0].models.device.type == "cpu":
        warm_up()  # while weights and features are made
    return runs


def _show(publish: Callable[[Any], None], what: Any) -> None:
    """Show it in Prefect; what goes wrong there takes nothing from a run that is done."""
    try:
        publish(what)
    except Exception as error:
        get_run_logger().warning("not shown: %s: %s", type(error).__name__, error)


def log_scores(finished: Finished) -> None:
    """Say the scores in the log of the flow run, which is read first."""
    from sclip_core.pipeline.frozen import compare_after
    from sclip_core.report.headline import headline

    run = f", run {finished.run_id}" if finished.run_id else ""
    get_run_logger().info("%s%s", headline(finished), run)
    for line in compare_after(finished):
        get_run_logger().info("%s", line)


def publish(finished: Finished) -> None:
    """Show the run in Prefect: a summary with a small picture, and a table of its classes."""
    from sclip_core.report.headline import headline
    from sclip_core.report.summary import plain, saved_panel, score_lines, small_panel

    name = _key_part(finished)
    lines = [f"# {plain(headline(finished))}", ""]
    artifacts, shown = finished.settings.artifacts, None
    if finished.run_id:
        _publish_classes(finished, name)
        lines += score_lines(finished.run_id, artifacts)
        lines += [f"- run `{finished.run_id}`: `{finished.path}`", ""]
        shown = small_panel(finished.run_id, artifacts)
    elif finished.picture:
        shown = saved_panel(finished.picture)
    if shown:
        lines += [f"![{plain(shown[0])}]({shown[1]})", ""]
    lines += [
        "| stage | state | cached | computed | seconds |",
        "|---|---|---|---|---|",
        *(
            f"| {o.stage} | {o.state} | {o.cached} | {o.computed} | {o.seconds:.1f} |"
            for o in finished.outcomes.values()
        ),
        "",
        *([f"- saved in `{finished.pictures}`"] if finished.pictures else []),
        *(f"- left out: {plain(line)}" for line in finished.left_out),
    ]
    create_markdown_artifact(key=f"sclip-summary-{name}", markdown="\n".join(lines))


def publish_together(finished: list[Finished]) -> None:
    """Show runs of one command in Prefect side by side: what differs, and their scores."""
    from sclip_core.report.summary import score_intervals
    from sclip_core.results.settings import differing_settings, setting

    rows = [each.row for each in finished]
    names = differing_settings(rows)
    create_table_artifact(
        key=f"sclip-runs-{_key_part(finished[0])}",
        table=[
            {
                **{name: setting(row, name) for name in names},
                **score_intervals(row["run_id"], finished[0].settings.artifacts),
                "run": row["run_id"],
            }
            for row in rows
        ],
        description="In percent, with 95 % intervals",
    )


def _key_part(finished: Finished) -> str:
    """The dataset's name as keys of artifacts may have it."""
    dataset = finished.settings.dataset.lower()
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in dataset)


def _publish_classes(finished: Finished, name: str) -> None:
    """The table of per-class IoU."""
    worst_first = sorted(finished.classes, key=lambda row: (row["iou"] is None, row["iou"]))
    columns = ("class_id", "class_name", "iou", "acc", "label")
    create_table_artifact(
        key=f"sclip-class-iou-{name}",
        table=[{column: row[column] for column in columns} for row in worst_first],
        description=f"IoU and accuracy in percent, worst first; run {finished.run_id}",
    )
