"""``sclip table``: methods × datasets of scored runs, for a paper."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from flows.cli.results import DEFAULT_ARTIFACTS, Artifacts, Draws, warnings_as_lines
from flows.cli.targets import check_target
from sclip_core.config import UserError, printable
from sclip_core.config.places import local_folder
from sclip_core.store.files import write_whole

ENDINGS = {".md": "markdown", ".tex": "latex", ".csv": "csv", ".typ": "typst"}

Runs = Annotated[
    str, Parameter(help="Ids or how they begin, latest, latest~1; all: every run. [all]")
]
PaperFormat = Annotated[
    Literal["markdown", "latex", "csv", "typst"] | None,
    Parameter(help="Output format. [by the ending of --output, else markdown]"),
]
PaperOutput = Annotated[
    Path | None,
    Parameter(name=("--output", "-o"), help="File to write: .md, .tex, .csv or .typ."),
]
Score = Annotated[str, Parameter(help="miou, macc, aacc, fwiou, ... (docs/metrics.md).")]
PlusMinus = Annotated[
    Literal["half", "se"] | None,
    Parameter(help="With ±: half the width of the 95 % interval, or the standard error."),
]
Reference = Annotated[
    str | None,
    Parameter(help="Run or method that the other rows are compared with: † where they differ."),
]
Rows = Annotated[
    str | None,
    Parameter(help="Settings that make rows beside the method: a,b. [in which runs differ]"),
]


def table(
    *runs: Runs,
    format: PaperFormat = None,
    output: PaperOutput = None,
    score: Score = "miou",
    digits: Annotated[
        int, Parameter(help="Behind the point.", validator=Number(gte=0, lte=12))
    ] = 2,
    intervals: Annotated[bool, Parameter(help="With 95 % intervals.", negative=())] = False,
    plus_minus: PlusMinus = None,
    reference: Reference = None,
    rows: Rows = None,
    resamples: Draws = 2000,
    seed: Annotated[int, Parameter(help="Seed of the bootstrap.", validator=Number(gte=0))] = 0,
    artifacts: Artifacts = DEFAULT_ARTIFACTS,
) -> int:
    """Write methods × datasets for a paper: best bold, second underlined, what differs marked."""
    from sclip_core.results.matrices.build import matrix
    from sclip_core.results.matrices.formats import WRITERS

    chosen = _chosen(format, output, [local_folder(artifacts) / "results"])
    if intervals and plus_minus:
        raise UserError(f"--intervals and --plus-minus {plus_minus} conflict: use only one")
    with warnings_as_lines():
        found = matrix(
            *runs,
            score=score,
            spread="interval" if intervals else plus_minus or "none",
            reference=reference,
            rows=None
            if rows is None
            else [name.strip() for name in rows.split(",") if name.strip()],
            digits=digits,
            artifacts=artifacts,
            resamples=resamples,
            seed=seed,
        )
    content = WRITERS[chosen](found).encode()
    if output is not None:
        write_whole(output, partial(Path.write_bytes, data=content))
        print(printable(str(output)))
    else:  # UTF-8 whatever the terminal's encoding: another program reads it
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    return 0


def _chosen(format: str | None, output: Path | None, taken: list[Path]) -> str:
    """The format that was asked for; checks where it is written to."""
    if output is None:
        return format or "markdown"
    by_name = ENDINGS.get(output.suffix.lower())
    if by_name is None or format not in (None, by_name):
        wanted = [ending for ending, name in ENDINGS.items() if format in (None, name)]
        raise UserError(
            f"{output}: {format or 'a table'} is written as {', '.join(wanted)}; change the ending"
        )
    check_target(output, tuple(ENDINGS), taken, "a table")
    return by_name
