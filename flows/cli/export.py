"""``sclip export``: the label maps of a stored run in the formats of other tools."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from flows.cli.results import DEFAULT_ARTIFACTS, Artifacts, warnings_as_lines
from sclip_core.config import printable

Name = Literal[
    "coco",
    "polygons",
    "geojson",
    "png",
    "hugging-face",
    "label-studio",
    "geotiff",
    "fiftyone",
]
Values = Literal["dataset", "classes", "label-ids"]
FEW = 20  # images for which no bar is drawn


def export(
    run: Annotated[str, Parameter(help="An id or how it begins, latest, latest~1.")],
    *,
    format: Annotated[Name, Parameter(help="What is written.")],
    output: Annotated[
        Path, Parameter(name=("--output", "-o"), help="File or folder that is not there yet.")
    ],
    images: Annotated[
        list[str] | None,
        Parameter(help="Ids of some images. [all]", consume_multiple=True, negative=()),
    ] = None,
    components: Annotated[
        bool,
        Parameter(help="An annotation for each connected part of a class.", negative=()),
    ] = False,
    simplify: Annotated[
        float,
        Parameter(
            help="Pixels by which polygons may leave the pixel edges; 0: exact.",
            validator=Number(gte=0),
        ),
    ] = 0.0,
    values: Annotated[
        Values,
        Parameter(help="Of PNGs: the dataset's own, 0 to C-1, or Cityscapes' ids for its server."),
    ] = "dataset",
    with_images: Annotated[
        bool, Parameter(help="Put the images into the folder, too.", negative=())
    ] = False,
    image_url: Annotated[
        str, Parameter(help="Put before the path of an image: where Label Studio finds it.")
    ] = "/data/local-files/?d=",
    data_root: Annotated[
        Path | None, Parameter(help="Folder of the benchmark, if it has moved.")
    ] = None,
    artifacts: Artifacts = DEFAULT_ARTIFACTS,
) -> int:
    """Write the label maps of a run for other tools."""
    from sclip_core.exports.formats import Options, check_export
    from sclip_core.exports.formats import export as write
    from sclip_core.exports.stored import StoredRun

    options = Options(components, simplify, values, with_images, image_url)
    check_export(format, output, options)
    with warnings_as_lines():
        stored = StoredRun.open(run, artifacts, data_root, images or ())
    with _bar(len(stored)) as each:
        write(stored, format, output, options, each)
    print(printable(str(output)))
    return 0


@contextmanager
def _bar(total: int) -> Iterator[Callable[[Any], object]]:
    """What is called after each image; of many it moves a bar, where there is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if total < FEW or not console.is_terminal:
        yield lambda image: None
        return
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("images", total=total)
        yield lambda image: progress.advance(task)
