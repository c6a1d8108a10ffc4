"""``sclip cite``: BibTeX of the methods, networks and data that runs used."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flows.cli.results import DEFAULT_ARTIFACTS, Artifacts, warnings_as_lines
from flows.cli.targets import check_target
from sclip_core.config import printable


def cite(
    *runs: Annotated[str, Parameter(help="Ids or how they begin, latest, latest~1. [latest]")],
    output: Annotated[
        Path | None, Parameter(name=("--output", "-o"), help="File to write: .bib. [prints it]")
    ] = None,
    artifacts: Artifacts = DEFAULT_ARTIFACTS,
) -> int:
    """Print BibTeX of the methods, networks and data that runs used."""
    from sclip_core.results.citing import cite as cited
    from sclip_core.store.files import write_whole

    if output is not None:
        check_target(output, (".bib",), what="BibTeX")
    with warnings_as_lines():
        text = cited(*runs, artifacts=artifacts)
    if output is None:
        print(text, end="")
    else:
        write_whole(output, partial(Path.write_text, data=text, encoding="utf-8"))
        print(printable(str(output)))
    return 0
