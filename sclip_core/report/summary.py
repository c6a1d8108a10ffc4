"""A run in a few lines of Markdown with one small picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sclip_core.config import UserError
from sclip_core.drawing.panels import panel
from sclip_core.evaluation.bootstrap import bootstrap
from sclip_core.report.pictures import data_uri, image_scores
from sclip_core.results.comparison import FEWEST, SCORES
from sclip_core.results.files import read_run
from sclip_core.results.past_run import LabelMaps, Source
from sclip_core.results.published import beside
from sclip_core.results.tables import paired

WIDTH = 900  # pixels of the picture
HARDEST = 5  # classes that are named


def score_lines(run_id: str, artifacts: Path) -> list[str]:
    """Markdown: scores with their intervals, the hardest classes, what was published.

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
    found = beside(read_run(artifacts, run_id)[0])
    lines += ["", f"- hardest classes, IoU: {named}"]
    if found.miou is not None:
        lines.append(f"- published for {found.method}: {found.miou:.2f}")
    lines += [f"- not comparable with what was published: {'; '.join(found.caveats)}"] * bool(
        found.caveats
    )
    return lines


def score_intervals(run_id: str, artifacts: Path) -> dict[str, str]:
    """By the name of each score ``78.86 [76.80, 80.64]``; without the interval of too few images.

    Args:
        run_id: of a run that is listed.
        artifacts: the folder of all artifacts.
    """
    pairs = paired([run_id], artifacts)
    drawn = bootstrap(pairs.areas)
    found = {name: drawn.of(score) for score, name in SCORES.items()}
    sure = len(pairs.images) >= FEWEST
    return {
        name: f"{each.value:.2f}" + (f" [{each.low:.2f}, {each.high:.2f}]" if sure else "")
        for name, each in found.items()
    }


def small_panel(run_id: str, artifacts: Path) -> tuple[str, str] | None:
    """The image whose mIoU is the median: its name, and image, truth and prediction as a data URI.

    Args:
        run_id: of a run that is listed.
        artifacts: the folder of all artifacts.

    Returns:
        None where it cannot be shown: it was moved meanwhile, or has no evaluated pixel.
    """
    try:
        run: Mapping[str, Any] = read_run(artifacts, run_id)[0]
        pairs = paired([run_id], artifacts)
        scores = image_scores(pairs.areas)[0]
        known = np.flatnonzero(~np.isnan(scores))
        middle = known[np.argsort(scores[known], kind="stable")[len(known) // 2]]
        image_id = pairs.images[int(middle)]
        source, maps = Source(artifacts, run), LabelMaps(artifacts, run)
        said = maps.read(source.digest(image_id))
        truth = source.truth(image_id)
        picture = panel(source.image(image_id), truth, said, list(pairs.class_names))
    except (UserError, OSError, KeyError, IndexError, ValueError):
        return None
    return image_id, inlined(picture)


def saved_panel(path: Path) -> tuple[str, str]:
    """A picture that a run without ground truth saved, likewise."""
    with Image.open(path) as picture:
        return path.stem, inlined(picture)


def inlined(picture: Image.Image) -> str:
    """A picture as a data URI, no wider than `WIDTH`."""
    if picture.width > WIDTH:
        size = WIDTH, max(1, round(picture.height * WIDTH / picture.width))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    return data_uri(picture.convert("RGB"))


def plain(text: str) -> str:
    r"""Text that Markdown shows as it is, also within a table.

    >>> print(plain("a|b *c* <d>"))
    a\|b \*c\* \<d\>
    """
    return "".join(f"\\{sign}" if sign in "\\`*_{}[]<>()#+!|~" else sign for sign in text)
