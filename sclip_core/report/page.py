"""The report as one self-contained HTML file, which loads nothing from the network."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sclip_core import __version__
from sclip_core.config import UserError, printable
from sclip_core.config.optional import optional
from sclip_core.config.places import Place
from sclip_core.report import plots
from sclip_core.report.confusion import Confused
from sclip_core.report.content import Content, gather
from sclip_core.report.pictures import (
    BUDGET,
    Choice,
    Painter,
    choose,
    pairs_abreast,
)
from sclip_core.results.past_run import LabelMaps, Source
from sclip_core.results.ranking import image_scores
from sclip_core.store.files import writable_folder, write_whole

PAGE = "index.html"
GENERATOR = "sclip report"  # marks every page; other files are not replaced
MOST_BYTES = 4_900_000  # of a page: below 5 MB with some reserve for legends and captions
LONGEST = 40  # characters of a name in a plot
LONGEST_NARROW = 14  # and in one for a phone
STACKED_BELOW = {1: 640, 2: 840, 3: 1140}  # pixels, by runs: where their columns no longer fit
MOST_RUNS = 12  # that a page can show side by side


def write_report(
    names: Sequence[str],
    folder: Path,
    artifacts: Place = Path("artifacts"),
    data_root: Path | None = None,
) -> tuple[Path, list[str]]:
    """Write a page about one run or several over the same classes.

    Args:
        names: the runs, as ``find_run`` takes them; the others are compared with the first.
        folder: gets ``index.html``, of less than 5 MB.
        artifacts: the folder of all artifacts.
        data_root: where the benchmark lies now; None: where it lay during the run.

    Returns:
        The page, and a line for each thing that it does not show, with the reason.

    Raises:
        UserError: no such run, runs that cannot be shown together, a folder that cannot be written
            to, or a library is not installed.
    """
    template = _template()
    if len(names) > MOST_RUNS:
        raise UserError(f"{len(names)} runs: a page shows up to {MOST_RUNS} side by side")
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise UserError(f"{folder} is a file: pass a folder for the page, -o DIR")
    optional("matplotlib.figure", "report")
    _check_place(folder / PAGE)
    content = gather(names, artifacts)
    writable_folder(folder, "-o")
    scores = image_scores(content.pairs.sparse)
    render = partial(
        template.render,
        content=content,
        plots=_plots(content, scores),
        colours=_colours(content),
        style=_part("page.css"),
        stacked=_part("stacked.css"),
        stacked_below=STACKED_BELOW.get(len(content.runs), 100_000),
        pairs_abreast=pairs_abreast,
        script=_part("page.js"),
        version=__version__,
        generator=GENERATOR,
        written=datetime.now(UTC),
    )
    rest = len(render(choices=[], notes=content.notes).encode())
    choices, notes = _pictures(
        content, scores, artifacts, data_root, min(BUDGET, MOST_BYTES - rest)
    )
    text = render(choices=choices, notes=[*content.notes, *notes])
    page = folder / PAGE
    write_whole(page, partial(Path.write_text, data=text, encoding="utf-8"))
    return page, notes


def _check_place(page: Path) -> None:
    """Refuse to replace a file that is not a report.

    Raises:
        UserError: there is one.
    """
    if not os.path.lexists(page):
        return
    try:
        ours = f'content="{GENERATOR}"' in page.read_text("utf-8", errors="replace")[:4000]
    except OSError:
        ours = False
    if not ours:
        raise UserError(f"{page} is not a page of `sclip report`: pass another folder, -o DIR")


def _template() -> Any:
    jinja2 = optional("jinja2", "report")
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_plain,
    )
    environment.filters["number"] = number
    return environment.from_string(_part("page.html.j2"))


def _colours(content: Content) -> list[tuple[str, str]]:
    """The colour of each run, and that of text on it."""
    colours = [plots.colour(k) for k in range(len(content.runs))]
    return [(colour, plots.ink_on(colour)) for colour in colours]


def _short(name: str, longest: int = LONGEST) -> str:
    """A class's name, cut for a plot."""
    name = printable(name)
    return name if len(name) <= longest else f"{name[: longest - 3]}..."


def _plain(value: Any) -> Any:
    """Escape non-printable characters in text, but not in Jinja's own markup."""
    return printable(value) if type(value) is str else value


def _part(name: str) -> str:
    return resources.files("sclip_core.report").joinpath(name).read_text("utf-8")


def number(value: float | None, digits: int = 2, sign: bool = False) -> str:
    """A number with the given number of decimals; a dash where it is undefined.

    >>> number(1.005), number(2, 1, True), number(None), number(float("nan"))
    ('1.00', '+2.0', '–', '–')
    """
    if value is None or value != value:
        return "–"
    return f"{value:{'+' if sign else ''}.{digits}f}"


def _plots(content: Content, scores: NDArray[np.float64]) -> dict[str, Any]:
    """The plots, by name."""
    letters = [run.letter for run in content.runs]
    by_score = {name: [run.scores[name] for run in content.runs] for name in content.runs[0].scores}
    seconds = {
        stage.name: [
            (seconds or 0.0) if state == "computed" else 0.0
            for seconds, state in zip(stage.seconds, stage.states, strict=True)
        ]
        for stage in content.stages
    }
    spent = {name: values for name, values in seconds.items() if any(values)}
    return {
        "intervals": _both(plots.intervals, by_score, letters),
        "histogram": _both(plots.histogram, scores, letters),
        "seconds": _both(plots.stage_seconds, spent, letters) if spent else "",
        "confusion": [_matrices(each) for each in content.confused],
    }


def _both(draw: Callable[..., str], *data: Any) -> str:
    """A plot for a wide page and for a phone, of which the page shows one."""
    return draw(*data) + draw(*data, narrow=True)


def _matrices(confused: Confused) -> str:
    """The matrix of a run, for a wide page and for a phone."""
    names = [_short(name) for name in confused.matrix.names]
    short = [_short(name, LONGEST_NARROW) for name in confused.narrow.names]
    broad = plots.confusion_matrix(confused.matrix.shares, names)
    return broad + plots.confusion_matrix(confused.narrow.shares, short, narrow=True)


def _pictures(
    content: Content,
    scores: NDArray[np.float64],
    artifacts: Place,
    data_root: Path | None,
    budget: int,
) -> tuple[list[Choice], list[str]]:
    """Panels of some images within a budget of bytes, and why others have none."""
    pairs = content.pairs
    choices = choose(pairs.ids, scores)
    try:
        source = Source(artifacts, content.runs[0].row, data_root)
        maps = [(run.letter, LabelMaps(artifacts, run.row, data_root)) for run in content.runs]
    except UserError as error:
        return [], [f"no pictures: {error} (paths are those that the run was given)"]
    shown_ids = {image_id for choice in choices for image_id in choice.image_ids}
    places = {i: pairs.ids.index(i).as_py() for i in shown_ids}
    by_image = {i: scores[:, place].tolist() for i, place in places.items()}
    truths = {i: pairs.sparse[0].dense(p, p + 1).label[0] for i, p in places.items()}
    painter = Painter(source, maps, pairs.class_names, by_image, truths)
    skipped = painter.draw(choices, budget)
    shown = [choice for choice in choices if choice.panels or choice.above]
    return shown, [f"not shown: {line}" for line in skipped]
