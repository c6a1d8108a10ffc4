"""``sclip panels``: a figure for a paper, images beside their ground truth and runs."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from flows.cli.output import STORED
from flows.cli.results import DEFAULT_ARTIFACTS, Artifacts, warnings_as_lines
from flows.cli.targets import check_target
from sclip_core.config import UserError, printable
from sclip_core.config.errors import shown
from sclip_core.config.places import local_folder

INCHES = {"in": 1.0, "": 1.0, "mm": 1 / 25.4, "cm": 1 / 2.54, "pt": 1 / 72.27}
LENGTH = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(in|mm|cm|pt|)")
NAMED = {"column": 3.25, "page": 6.9}  # of CVPR's template, inches
WIDTHS = 0.5, 100.0  # inches

Width = Annotated[
    str, Parameter(help="3.25in, 170mm, 17cm, 237pt; column (3.25in) or page (6.9in), as CVPR's.")
]
Dpi = Annotated[
    int,
    Parameter(help="Pixels of an inch of the pictures.", validator=Number(gte=30, lte=1200)),
]
FontSize = Annotated[float, Parameter(help="Points.", validator=Number(gte=1, lte=72))]
Font = Annotated[str, Parameter(help="A font that matplotlib finds, such as 'Times New Roman'.")]
Images = Annotated[
    list[str],
    Parameter(
        help="Ids of images; worst:3, best:3, random:3, changed:3 are chosen.",
        consume_multiple=True,
        negative=(),
    ),
]
Figure = Annotated[
    Path, Parameter(name=("--output", "-o"), help="File to write: .pdf, .svg or .png.")
]
Columns = Annotated[
    str, Parameter(help="In their order: image,truth,RUN,errors:RUN. [image,truth,RUN...]")
]
Captions = Annotated[
    str, Parameter(help="Of the runs, or of all columns: a,b,c. [what sets the runs apart]")
]
Colours = Annotated[
    str, Parameter(help="default, voc, ade20k, cityscapes, or a FILE of 'name:r,g,b'.")
]
Alpha = Annotated[
    float,
    Parameter(help="Opacity of the colours; 1: flat colours.", validator=Number(gte=0, lte=1)),
]
Errors = Annotated[bool, Parameter(help="Beside each run the pixels that are wrong.", negative=())]
Legend = Annotated[
    int, Parameter(help="Classes in the legend at most; 0: no legend.", validator=Number(gte=0))
]
Seed = Annotated[int, Parameter(help="Of random:N.", validator=Number(gte=0))]
DataRoot = Annotated[Path | None, Parameter(help="Folder of the benchmark, if it has moved.")]


def panels(
    *runs: Annotated[str, Parameter(help="Ids or how they begin, latest, latest~1. [latest]")],
    images: Images,
    output: Figure,
    columns: Columns = "",
    captions: Captions = "",
    palette: Colours = "default",
    alpha: Alpha = 0.6,
    errors: Errors = False,
    legend: Legend = 24,
    width: Width = "page",
    dpi: Dpi = 300,
    font: Font = "DejaVu Sans",
    font_size: FontSize = 8,
    seed: Seed = 0,
    data_root: DataRoot = None,
    artifacts: Artifacts = DEFAULT_ARTIFACTS,
) -> int:
    """Draw a figure for a paper: image, ground truth and runs side by side, a row an image."""
    from sclip_core.drawing.figure import FORMATS, Look
    from sclip_core.report.figure import Style, write_panels

    stored = [local_folder(artifacts) / name for name in STORED]
    colours = [Path(palette)] if os.path.isfile(palette) else []
    check_target(output, FORMATS, [*stored, *colours], "a figure")
    style = Style(
        columns=_listed(columns),
        captions=_listed(captions),
        palette=palette,
        alpha=alpha,
        errors=errors,
        legend=legend,
        look=Look(inches(width), dpi, font_size, font),
    )
    with warnings_as_lines():
        found = write_panels(
            runs or ["latest"], _flat(images), output, style, seed, artifacts, data_root
        )
    print(printable(f"sclip: images {', '.join(found)}"), file=sys.stderr)
    print(printable(str(output)))
    return 0


def inches(text: str) -> float:
    """A width in inches, as typed.

    Raises:
        UserError: it is none, or no figure can be so wide.

    >>> inches("6.9in"), round(inches("174mm"), 2), inches("column")
    (6.9, 6.85, 3.25)
    """
    found = LENGTH.fullmatch(text.strip().lower())
    if text not in NAMED and found is None:
        raise UserError(
            f"--width {shown(text)}: expected 6.9in, 170mm, 17cm, 237pt, column or page"
        )
    wide = float(found[1]) * INCHES[found[2]] if found else NAMED[text]
    if not WIDTHS[0] <= wide <= WIDTHS[1]:
        raise UserError(f"--width {text}: expected {WIDTHS[0]:g} to {WIDTHS[1]:g} inches")
    return wide


def _listed(text: str) -> list[str]:
    """The parts between commas."""
    return [part.strip() for part in text.split(",")] if text.strip() else []


def _flat(images: Iterable[str]) -> list[str]:
    """Ids as given; those of ``worst:3,best:3`` apart, which no id looks like."""
    from sclip_core.report.figure import CHOICE

    found: list[str] = []
    for text in images:
        parts = _listed(text)
        choices = len(parts) > 1 and all(CHOICE.fullmatch(part) for part in parts)
        found += parts if choices else [text]
    return found
