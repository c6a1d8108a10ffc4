"""``sclip results | compare | report | query``: what was measured, listed and compared."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from flows.cli.options import place
from flows.cli.output import Format, Output, chosen_format, write
from sclip_core.config import UserError, printable
from sclip_core.config.places import ObjectPath, local_folder

Artifacts = Annotated[
    Path | ObjectPath,
    Parameter(help="Folder of all artifacts and results, or s3://bucket/prefix.", converter=place),
]
Draws = Annotated[
    int, Parameter(help="Number of bootstrap samples.", validator=Number(gte=100, lte=100_000))
]
Scores = Annotated[
    str | None,
    Parameter(help="Numbers to show, such as miou,fwiou,mdice,miou_i,biou. [miou,macc,aacc]"),
]
Groups = Annotated[
    str | None,
    Parameter(help="mIoU of groups of classes too: a benchmark's name or a CSV class,group."),
]
DEFAULT_ARTIFACTS: Path | ObjectPath = Path("artifacts")


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Name each file of results that is left out once, on standard error."""
    from sclip_core.results.files import ResultsWarning

    shown: set[str] = set()
    usual = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if not issubclass(category, ResultsWarning):
            usual(message, category, *where, **more)
        elif str(message) not in shown:
            shown.add(str(message))
            print(f"sclip: {printable(str(message))}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always", ResultsWarning)
        warnings.showwarning = show
        yield


def results(
    *,
    dataset: Annotated[str | None, Parameter(help="Only runs on this dataset.")] = None,
    last: Annotated[
        int | None,
        Parameter(name=("--last", "-n"), help="Only the newest N.", validator=Number(gte=1)),
    ] = None,
    against: Annotated[
        Literal["published"] | None,
        Parameter(help="published: figures of the literature, and why they may not compare."),
    ] = None,
    scores: Scores = None,
    groups: Groups = None,
    artifacts: Artifacts = DEFAULT_ARTIFACTS,
) -> int:
    """List the runs, newest first; the settings in which they differ have columns."""
    from flows.cli.console import console
    from flows.cli.listing import against_lines, fitting_table, ladders, score_columns
    from sclip_core.results.files import read_runs

    with warnings_as_lines():
        runs = read_runs(artifacts)
    if not runs:
        raise UserError(f"no runs under {artifacts}/results: `sclip run` makes them")
    if dataset is not None:
        names = sorted({run["dataset"] for run in runs})
        wanted = dataset.lower().replace("-", "_")
        runs = [r for r in runs if wanted in (r["dataset"], r["dataset"].lower().replace("-", "_"))]
        if not runs:
            raise UserError(f"no runs on {dataset}: there are runs on {', '.join(names)}")
    runs = runs[:last]
    terminal = console()
    width = terminal.width if terminal.is_terminal else sys.maxsize
    shown = score_columns(runs, scores, groups, artifacts) if scores or groups else None
    table = fitting_table(runs, against is not None, width, shown)
    out = console(table)
    out.print(table)
    if against:
        for line in against_lines(runs):
            out.print(line, soft_wrap=True)
        for ladder in ladders(runs):
            out.print(ladder)
    return 0


def compare(
    base: Annotated[str, Parameter(help="The run that the others are compared with.")],
    *others: Annotated[str, Parameter(help="Ids or how they begin, latest, latest~1.")],
    classes: Annotated[
        int, Parameter(help="Number of classes to show; 0: all.", validator=Number(gte=0))
    ] = 15,
    resamples: Draws = 2000,
    seed: Annotated[int, Parameter(help="Seed of the bootstrap.", validator=Number(gte=0))] = 0,
    scores: Scores = None,
    groups: Groups = None,
    format: Format = None,
    output: Output = None,
    artifacts: Artifacts = DEFAULT_ARTIFACTS,
) -> int:
    """Tell whether runs differ: paired bootstrap over their images, 95 % intervals."""
    from flows.cli.comparing import comparison
    from flows.cli.console import console
    from sclip_core.results.comparison import SCORES, compare_paired, paired_runs
    from sclip_core.results.measured import drawn_measures, measures_of

    chosen = chosen_format(format, output, artifacts)
    with warnings_as_lines():
        pairs = paired_runs(base, *others, artifacts=artifacts)
    measures = measures_of(scores or SCORES, groups, pairs.class_names)
    drawn = drawn_measures(pairs, measures, artifacts, resamples, seed)
    table = compare_paired(pairs, resamples, seed, drawn)
    if chosen != "table":
        write(table, chosen, output)
        return 0
    out = console()
    for part in comparison(pairs, table, classes, artifacts, out):
        out.print(part, soft_wrap=isinstance(part, str))
    return 0


def report(
    *runs: Annotated[str, Parameter(help="Ids or how they begin, latest, latest~1. [latest]")],
    output: Annotated[
        Path | None,
        Parameter(name=("--output", "-o"), help="Folder for index.html. [ARTIFACTS/report]"),
    ] = None,
    data_root: Annotated[
        Path | None, Parameter(help="Folder of the benchmark, if it has moved.")
    ] = None,
    artifacts: Artifacts = DEFAULT_ARTIFACTS,
) -> int:
    """Write one page about runs: scores, classes, confusions, pictures, time, settings."""
    from sclip_core.report import write_report

    with warnings_as_lines():
        page, notes = write_report(
            runs or ["latest"], output or local_folder(artifacts) / "report", artifacts, data_root
        )
    for note in notes:
        print(f"sclip: {printable(note)}", file=sys.stderr)
    print(printable(str(page)))
    return 0


def query(
    sql: Annotated[
        str | None,
        Parameter(help="SQL over runs, class_iou, image_areas, confusion. [lists their columns]"),
    ] = None,
    *,
    format: Format = None,
    output: Output = None,
    artifacts: Artifacts = DEFAULT_ARTIFACTS,
) -> int:
    """Query the results in SQL (DuckDB)."""
    from flows.cli.console import console
    from flows.cli.tables import rows_table
    from sclip_core.results.sql import described_tables
    from sclip_core.results.sql import query as answered

    chosen = chosen_format(format, output, artifacts)
    with warnings_as_lines():
        answer: Any = described_tables(artifacts) if sql is None else answered(sql, artifacts)
    if chosen == "table":
        console().print(rows_table(answer))
        if sql is None:
            print('sclip: pass one SELECT statement: sclip query "from runs"', file=sys.stderr)
    else:
        write(answer, chosen, output)
    return 0
