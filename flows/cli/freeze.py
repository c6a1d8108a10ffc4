"""``sclip freeze``: what decided a run's result, as a file that another machine can run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flows.cli.options import place
from flows.cli.results import DEFAULT_ARTIFACTS, Artifacts
from flows.cli.targets import check_target
from sclip_core.config import printable
from sclip_core.config.places import ObjectPath

Moved = Annotated[
    Path | ObjectPath | None, Parameter(help="Where it lies, if it has moved.", converter=place)
]


def freeze(
    run: Annotated[str, Parameter(help="An id or how it begins, latest, latest~1.")] = "latest",
    *,
    output: Annotated[
        Path, Parameter(name=("--output", "-o"), help="The file to write: .yaml or .yml.")
    ] = Path("run.yaml"),
    data_root: Annotated[
        Path | None, Parameter(help="Folder of the benchmark, if it has moved.")
    ] = None,
    images: Moved = None,
    labels: Moved = None,
    classes: Annotated[str | None, Parameter(help="The file of words, if it has moved.")] = None,
    artifacts: Artifacts = DEFAULT_ARTIFACTS,
) -> int:
    """Write down all that decided a run's result: settings, words, digests, keys, versions.

    `sclip run --config FILE` runs it again, anywhere, and says whether it is the same.
    """
    from flows.cli.results import warnings_as_lines
    from sclip_core.pipeline.freezing import freeze as frozen
    from sclip_core.pipeline.freezing import refuse_other

    check_target(output, (".yaml", ".yml"), what="the frozen run")
    refuse_other(output)
    moved = {"data_root": data_root, "images": images, "labels": labels, "classes": classes}
    with warnings_as_lines():
        found = frozen(run, artifacts, **moved)
    for path in found.write(output):
        print(printable(str(path)))
    return 0
