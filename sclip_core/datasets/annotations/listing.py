"""Which of the user's images annotations are of, and what is to be said of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sclip_core.config import UserError
from sclip_core.config.counts import number_of
from sclip_core.config.errors import few, shown
from sclip_core.datasets.annotations.opening import Annotations
from sclip_core.datasets.annotations.pairing import paired


class Listed(NamedTuple):
    """The images for which a map is to be drawn."""

    known_as: dict[str, str]  # image id: its id in the annotations
    wanted: Sequence[str]  # the ids of those that are of use
    notes: tuple[str, ...]


def listed(
    annotations: Annotations,
    labels: Path,
    images: Mapping[str, Path],
    wanted: Sequence[str],
    all_listed: bool,
) -> Listed:
    """All images, or those with annotations, as the format or the user says.

    Args:
        annotations: as they were opened.
        labels: where they are.
        images: the files by image id.
        wanted: those that have to be annotated.
        all_listed: whether an image that the annotations do not list is a mistake, in a format in
            which that does not mean that it has no objects.

    Raises:
        UserError: there are no annotations; or images lack some, which is a mistake.
    """
    source = f"{labels} ({annotations.format})"
    if not annotations.used:
        raise UserError(
            f"{source} holds no annotation, so that nothing could be scored: is it the right one?"
        )
    known = annotations.ids()
    known_as, notes = paired(known, images, source, annotations.foreign, annotations.also_named)
    unlisted = [i for i in wanted if i not in known_as]
    found = f"{number_of(len(unlisted), 'image', 'are')} not in {source}"
    absent = sorted(set(known) - set(known_as.values()))
    empty = annotations.unlisted_is_empty
    if unlisted and not empty and all_listed:
        raise _refused(found, unlisted, known)
    if unlisted and empty:
        notes += (f"{found}, and taken for images without objects: {few(unlisted)}",)
    if absent:
        notes += (
            f"{source} has {number_of(len(absent), 'image')} that --images lacks: {few(absent)}",
        )
    return Listed(
        {i: known_as.get(i, i) for i in images if empty or i in known_as},
        wanted,
        annotations.notes + notes,
    )


def _refused(found: str, unlisted: Sequence[str], known: Sequence[str]) -> UserError:
    other = next((i for i in known if i.endswith(f"/{unlisted[0]}")), None)
    alike = f" (it lists {shown(other)}: subfolders must be the same)" if other else ""
    advice = "annotate them, or pass --missing-labels skip or empty"
    return UserError(f"{found}: {few(unlisted)}{alike}; {advice}")
