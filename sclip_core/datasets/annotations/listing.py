"""Which of the user's images annotations are of, and what is to be said of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sclip_core.config import UserError
from sclip_core.config.errors import few, shown
from sclip_core.datasets.annotations.opening import Annotations
from sclip_core.datasets.annotations.pairing import paired


class Listed(NamedTuple):
    """The images for which a map is to be drawn."""

    known_as: dict[str, str]  # image id: its id in the annotations
    left_out: dict[str, str]  # image id: why there is no annotation of it
    notes: tuple[str, ...]


def listed(
    annotations: Annotations,
    labels: Path,
    images: Mapping[str, Path],
    limit: int | None,
    every: bool,
) -> Listed:
    """All images, or those with annotations, as the format demands.

    Args:
        annotations: as they were opened.
        labels: where they are.
        images: the files by image id.
        limit: only the first so many have to be annotated.
        every: whether all of these must be.

    Raises:
        UserError: there are no annotations; or most images lack some, or one if ``every``, in a
            format in which that does not mean that they have no objects.
    """
    source = f"{labels} ({annotations.format})"
    if not annotations.used:
        raise UserError(
            f"{source} holds no annotation, so that nothing could be scored: is it the right one?"
        )
    known = annotations.ids()
    known_as, notes = paired(known, images, source, annotations.foreign)
    wanted = list(images)[:limit]
    unlisted = [i for i in wanted if i not in known_as]
    found = f"{len(unlisted):,} images are not in {source}"
    left_out = {}
    absent = sorted(set(known) - set(known_as.values()))
    if annotations.unlisted_is_empty:
        known_as = {i: known_as.get(i, i) for i in images}
        if unlisted:
            notes += (f"{found}, and taken for images without objects: {few(unlisted)}",)
    elif unlisted and (every or 2 * len(unlisted) > len(wanted)):
        raise _refused(found, unlisted, known)
    else:
        left_out = {i: f"{images[i]} is not in {source}" for i in unlisted}
    if absent:
        notes += (f"{source} has {len(absent):,} images that --images lacks: {few(absent)}",)
    return Listed(known_as, left_out, notes)


def _refused(found: str, unlisted: Sequence[str], known: Sequence[str]) -> UserError:
    other = next((i for i in known if i.endswith(f"/{unlisted[0]}")), None)
    alike = f" (it lists {shown(other)}: subfolders must be the same)" if other else ""
    advice = "annotate them, or leave them out of --images"
    return UserError(f"{found}: {few(unlisted)}{alike}; {advice}")
