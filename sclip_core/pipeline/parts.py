"""One part of a run, for jobs that know nothing of each other: an array of SLURM's, workers."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sclip_core.config import UserError
from sclip_core.pipeline.pipeline import Pipeline, first_stages, mark_in_use
from sclip_core.pipeline.run import Run
from sclip_core.pipeline.stage import Stage
from sclip_core.pipeline.work import at_hand


def part_of(text: str) -> tuple[int, int]:
    """The number of a part, from 0, and how many there are: ``"0/8"``.

    Raises:
        UserError: it is not of this form, or there is no such part.
    """
    found = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
    if not found or not int(found[2]):
        raise UserError(f"--shard {text}: expected the number of a part and how many: 0/8")
    part, parts = int(found[1]), int(found[2])
    if part >= parts:
        raise UserError(
            f"--shard {text}: parts are numbered from 0, the last of {parts} is "
            f"{parts - 1}/{parts} (an array of SLURM's: --array=0-{parts - 1})"
        )
    return part, parts


def run_part(runs: Sequence[Run], part: int, parts: int) -> dict[str, str]:
    """Execute all that is of the images of one part; nothing is summed up.

    Which part an image belongs to follows from its content alone: the same on every machine.

    Args:
        runs: ``Run.several``.
        part: from 0.
        parts: how many there are.

    Returns:
        The images of the part that cannot be used, and why.

    Raises:
        UserError: what only shows on the way, such as weights that do not fit.
    """
    for run in runs:
        run.check()
    lease = runs[0].lease  # which all of them share
    try:
        pipelines = Pipeline.of_several(runs)
        mark_in_use(pipelines)
        with at_hand(pipelines):
            stages = [*first_stages(pipelines), *(s for each in pipelines for s in each)]
            for stage in dict.fromkeys(stages):
                if isinstance(stage, Stage):
                    of_images = stage.unit == "images"
                    stage.execute(part if of_images else 0, parts if of_images else 1)
                    stage.run.journal.tell()
    finally:
        lease.close()
    return {i: why for run in runs for i, why in run.journal.failures.items()}
