"""A run in one line: its scores, or that it has none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sclip_core.config import SEVERAL, printable, value_text
from sclip_core.results.comparison import SCORES
from sclip_core.results.settings import described_mode, ingredients

if TYPE_CHECKING:
    from sclip_core.pipeline.pipeline import Finished

UNSCORED = ", no ground truth: nothing scored"


def headline(finished: Finished) -> str:
    """Scores in one line, or that there are none."""
    result = finished.row or unscored_row(finished)
    mode = "" if result["mode"] == "dense" else f", {described_mode(result)}"
    named = result.get("method")
    method = f", {printable(named)} ({ingredients(result)})" if named else ""
    what = f"{printable(result['dataset'])}, {result['num_images']} images{method}{mode}"
    if not finished.row:
        return what + UNSCORED
    numbers = "   ".join(
        f"{name} {'undefined' if result[key] != result[key] else format(result[key], '.2f')}"
        for key, name in SCORES.items()
    )
    return f"{what}: {numbers}"


def unscored_row(finished: Finished) -> dict[str, Any]:
    """What is shown of a run that has no row in the results; None: its mode does not read it."""
    settings = finished.settings
    dense = settings.mode != "baseline"
    return {
        **settings.model_dump(include={"dataset", "proposals", "sam_model", *SEVERAL}),
        "hybrid_rule": settings.rule,
        "method": settings.method if dense else None,
        "attention": settings.attention if dense and not settings.method else None,
        "pamr_steps": settings.pamr_steps if dense else None,
        "pamr_dilations": value_text(settings.pamr_dilations) if dense else None,
        "num_images": finished.num_images,
        "folder": finished.pictures.name if finished.pictures else None,
    }
