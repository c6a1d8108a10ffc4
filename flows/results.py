"""``sclip results | query``: what was measured, listed and asked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from sclip_core.config import UserError


def query(
    sql: Annotated[str, Parameter(help="SQL over the tables runs, class_iou and image_areas.")],
    *,
    artifacts: Path = Path("artifacts"),
) -> int:
    """Ask the results a question in SQL (DuckDB)."""
    from flows.console import console, rows_table
    from sclip_core.store.query import query_results

    console().print(rows_table(query_results(artifacts, sql)))
    return 0


def results(*, artifacts: Path = Path("artifacts")) -> int:
    """List the runs, newest first."""
    from flows.console import console, described_mode
    from sclip_core.store.results import read_runs

    runs = read_runs(artifacts)
    if not runs:
        raise UserError(f"no runs under {artifacts}/results: `sclip run` makes them")
    table = Table()
    scored = ("images", "mIoU", "mAcc", "aAcc")
    for column in ("run", "when", "mode", "model", "attention", "PAMR", *scored):
        table.add_column(column, no_wrap=column == "run")
    for row in runs:
        scores = (_number(row[name]) for name in ("miou", "macc", "aacc"))
        steps = f"{row['pamr_steps']} ({row['pamr_dilations']})" if row["pamr_steps"] else "-"
        table.add_row(
            row["run_id"],
            f"{row['created_at']:%Y-%m-%d %H:%M}",
            described_mode(row),
            f"{row['model']} {row['pretrained']}",
            row["attention"] or "-",
            steps,
            str(row["num_images"]),
            *scores,
        )
    console().print(table)
    return 0


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.2f}"
