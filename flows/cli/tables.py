"""Tables that several commands print: a run, runs side by side, a plan, the answer of a query."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from rich.table import Table

from flows.cli.console import TITLE, right, score, whole
from flows.cli.output import plain, values_of
from sclip_core.config import SEVERAL, STAGE_SPECS, Settings, printable, unread
from sclip_core.config.counts import number_of
from sclip_core.evaluation.measures import MEASURES
from sclip_core.progress import Status, duration
from sclip_core.report.headline import UNSCORED, headline, unscored_row
from sclip_core.report.summary import score_intervals
from sclip_core.results.measured import STAGE_OF, scores
from sclip_core.results.settings import method_name

if TYPE_CHECKING:
    from sclip_core.pipeline.pipeline import Finished

MOST_ROWS = 200  # of an answer that are printed
EXPLAINED = ["explain_key", "explain_value"]  # columns of a plan that DuckDB draws in lines


def summary_table(finished: Finished) -> Table:
    """Scores of a run, if there is ground truth, and what each stage did."""
    numbers = (right("cached"), right("computed"), right("time"))
    table = Table("stage", "state", *numbers, "key", title=headline(finished), **TITLE)
    for o in finished.outcomes.values():
        counts = (str(o.cached), str(o.computed))
        first, *others = o.key.split(",")
        key = f"{first} and {len(others)} more" if others else first
        table.add_row(o.stage, o.state, *counts, duration(o.seconds), key)
    return table


def comparison_table(finished: list[Finished]) -> Table:
    """Runs side by side: what differs, scores, and the seconds of the stages that take long.

    Settings that differ because each method has its own have no column.
    """
    scored = finished[0].settings.scored
    rows = [_row(each) for each in finished]
    title = f"{printable(rows[0]['dataset'])}, {number_of(rows[0]['num_images'], 'image')}"
    if any(row.get("method") for row in rows):
        rows = [{**row, "method": method_name(row)} for row in rows]
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    within = [_differing([r for r in rows if r["dataset"] == name]) for name in datasets]
    names = [n for n in dict.fromkeys(n for some in within for n in some)]
    if len(datasets) > 1:
        title = f"{len(datasets)} datasets, each by its own protocol"
        names = ["dataset", "num_images", *names]
    heads = ("mIoU", "[95 %]", "mAcc", "aAcc") if scored else ()
    numbers = map(right, (*heads, "encode", "refine"))
    last = whole("run" if scored else "folder")
    table = Table(*names, *numbers, last, title=title if scored else title + UNSCORED, **TITLE)
    for row, each in zip(rows, finished, strict=True):
        seconds = (computed_seconds(row, cost) for cost in ("encode", "refine"))
        table.add_row(
            *(_cell(row.get(name)) for name in names),
            *(_scores(row, each) if scored else ()),
            *("cached" if taken is None else duration(taken) for taken in seconds),
            row["run_id"] if scored else row["folder"],
        )
    return table


def _differing(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The settings of runs that have a column."""
    by_method = any(row.get("method") for row in rows)
    label = "method" if by_method else "attention"
    groups: dict[Any, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["method"] if by_method else None, []).append(row)

    def differs(name: str) -> bool:
        within = [rows] if name == label else groups.values()
        return any(len({row.get(name) for row in some} - {None}) > 1 for some in within)

    names = [name for name in SEVERAL if name == label or name not in ("method", "attention")]
    return [name for name in names if differs(name)] or [label]


def _scores(row: Mapping[str, Any], finished: Finished) -> tuple[str, str, str, str]:
    """mIoU, its interval, mAcc and aAcc; of few images without the interval."""
    found = score_intervals(row["run_id"], finished.settings.artifacts)["mIoU"]
    _, _, interval = found.partition(" ")
    return score(row["miou"]), interval or "-", score(row["macc"]), score(row["aacc"])


def detail_lines(run_id: str | None, settings: Settings) -> list[str]:
    """Boundary IoU and accuracy by size of object, where they were asked for, with intervals."""
    asked = [table for table, name in STAGE_OF.items() if name in settings.stages]
    names = [name for name, each in MEASURES.items() if each.kind in asked]
    if not names or run_id is None:
        return []
    found = scores(run_id, names, artifacts=settings.artifacts).to_pylist()
    values = [
        f"{row['name']} {score(row['value'] if row['value'] is not None else float('nan'))}"
        + ("" if row["low"] is None else f" [{row['low']:.2f}, {row['high']:.2f}]")
        for row in found
    ]
    return [f"{run_id}: {', '.join(values)}"]


def computed_seconds(row: Mapping[str, Any], cost: str) -> float | None:
    """The seconds of a run's stages of one cost, ``encode`` or ``refine``; None: all were cached.

    Args:
        row: of the table ``runs``, or of ``stage_columns``.
        cost: see ``StageSpec``; the text bank, which takes a moment, is not counted.
    """
    stages = [n for n, spec in STAGE_SPECS.items() if spec.cost == cost and n != "text_bank"]
    seconds = [row[f"seconds_{n}"] for n in stages if row.get(f"state_{n}") == "computed"]
    return sum(seconds) if seconds else None


def stage_columns(finished: Finished) -> dict[str, Any]:
    """What the stages of a run did, in the columns of the table ``runs``."""
    outcomes = finished.outcomes.items()
    states = {f"state_{name}": outcome.state for name, outcome in outcomes}
    return states | {f"seconds_{name}": outcome.seconds for name, outcome in outcomes}


def plan_table(statuses: Sequence[Status]) -> Table:
    """Every stage with its state and why."""
    table = Table("stage", "state", right("done"), right("total"), whole("key"), "why")
    for s in statuses:
        table.add_row(s.stage, s.state, str(s.done), str(s.total), s.key, printable(s.reason))
    return table


def rows_table(rows: pa.Table) -> Table:
    """The answer of a query; numbers stand right."""
    table = Table()
    for field in rows.schema:
        kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
        is_number = any(is_one(field.type) for is_one in kinds)
        table.add_column(printable(field.name), justify="right" if is_number else "left")
    # column by column: two of them may have one name
    shown = [values_of(column) for column in rows.slice(0, MOST_ROWS).columns]
    cell = str if rows.column_names == EXPLAINED else _cell
    for row in zip(*shown, strict=True):
        table.add_row(*(cell(value) for value in row))
    more = rows.num_rows - MOST_ROWS
    if more > 0:
        table.caption = f"and {more:,} row{'s' if more > 1 else ''} more: add a limit"
    return table


def saved_lines(finished: list[Finished]) -> Iterator[str]:
    """Where the pictures are, and the label maps of images without ground truth."""
    from sclip_core.pipeline.saving import LABEL_MAPS

    settings = finished[0].settings
    folder = settings.save_vis
    if folder is None:
        return
    if not settings.scored and len(finished) > 1:
        folder /= "FOLDER"
    yield printable(f"pictures: {folder}")
    if not settings.scored:
        yield printable(f"label maps: {folder / LABEL_MAPS}")


def _row(finished: Finished) -> dict[str, Any]:
    """The row of a run; None where the value of a setting changes nothing."""
    row = finished.row or {**unscored_row(finished), **stage_columns(finished)}
    return {**row, **dict.fromkeys(unread(finished.settings) - {"hybrid_rule"})}


def _cell(value: Any) -> str:
    """A value in one line."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bytes | tuple | list | dict):
        value = plain(value)
    if isinstance(value, list | dict):
        value = json.dumps(value, ensure_ascii=False)
    return printable(str(value))
