"""A run in a few lines of Markdown with one small picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sclip_core.config import UserError
from sclip_core.config.places import Place
from sclip_core.drawing.panels import panel
from sclip_core.evaluation.bootstrap import bootstrap
from sclip_core.report.pictures import data_uri
from sclip_core.results.comparison import SCORES, sure
from sclip_core.results.files import read_run
from sclip_core.results.past_run import LabelMaps, Source
from sclip_core.results.published import beside
from sclip_core.results.ranking import image_scores
from sclip_core.results.tables import paired

WIDTH = 900  # pixels of the picture
HARDEST = 5  # classes that are named


def score_lines(run_id: str, artifacts: Place) -> list[str]:
    """Lines of Markdown: scores with their intervals, the hardest classes, published figures.

    Args:
        run_id: of a run that is listed.
        artifacts: the folder of all artifacts.
    """
    lines = ["| score | percent and 95 % interval |", "|---|---|"]
    scored = score_intervals(run_id, artifacts)
    lines += [f"| {name} | {text} |" for name, text in scored.items()]
    classes = [row for row in read_run(artifacts, run_id, "class_iou") if row["iou"] is not None]
    worst = sorted(classes, key=lambda row: row["iou"])[:HARDEST]
    named = ", ".join(f"{plain(row['class_name'])} {row['iou']:.1f}" for row in worst)
    lines += ["", f"- hardest classes, IoU: {named}"]
    remarks = beside(read_run(artifacts, run_id)[0]).remarks()
    return lines + [f"- {remark}" for remark in remarks]


def score_intervals(run_id: str, artifacts: Place) -> dict[str, str]:
    """Each score by name, as ``78.86 [76.80, 80.64]``; of few images without the interval.

    Args:
        run_id: of a run that is listed.
        artifacts: the folder of all artifacts.
    """
    pairs = paired([run_id], artifacts)
    drawn = bootstrap(pairs.sparse)
    found = {name: sure(drawn.of(score), len(pairs)) for score, name in SCORES.items()}
    return {
        name: f"{value:.2f}" + ("" if np.isnan(low) else f" [{low:.2f}, {high:.2f}]")
        for name, (value, low, high) in found.items()
    }


def small_panel(run_id: str, artifacts: Place) -> tuple[str, str] | None:
    """The id of the image with the median mIoU, and a panel of it as a data URI.

    Args:
        run_id: of a run that is listed.
        artifacts: the folder of all artifacts.

    Returns:
        None where it cannot be shown: it was moved since, or no image has an evaluated pixel.
    """
    try:
        run: Mapping[str, Any] = read_run(artifacts, run_id)[0]
        pairs = paired([run_id], artifacts)
        scores = image_scores(pairs.sparse)[0]
        known = np.flatnonzero(~np.isnan(scores))
        middle = known[np.argsort(scores[known], kind="stable")[len(known) // 2]]
        image_id = pairs.ids[int(middle)].as_py()
        source, maps = Source(artifacts, run), LabelMaps(artifacts, run)
        prediction = maps.read(source.digest(image_id))
        truth = source.truth(image_id)
        picture = panel(source.image(image_id), truth, prediction, list(pairs.class_names))
    except (UserError, OSError, KeyError, IndexError, ValueError):
        return None
    return image_id, inlined(picture)


def saved_panel(path: Path) -> tuple[str, str]:
    """The id of the image in a picture that a run saved, and the picture as a data URI."""
    with Image.open(path) as picture:
        return path.stem, inlined(picture)


def inlined(picture: Image.Image) -> str:
    """A picture as a data URI, no wider than `WIDTH`."""
    if picture.width > WIDTH:
        size = WIDTH, max(1, round(picture.height * WIDTH / picture.width))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    return data_uri(picture.convert("RGB"))


def plain(text: str) -> str:
    r"""Text escaped so that Markdown shows it as it is, also within a table.

    >>> print(plain("a|b *c* <d>"))
    a\|b \*c\* \<d\>
    """
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>()#+!|~" else c for c in text)
