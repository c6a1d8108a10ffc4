"""What thresholds mean for a vocabulary: they give pixels to class 0, the background."""

from __future__ import annotations

from collections.abc import Iterable

from sclip_core.config import Protocol
from sclip_core.datasets.vocabulary import Vocabulary


def threshold_notes(protocols: Iterable[Protocol], vocabulary: Vocabulary) -> list[str]:
    """A line for each threshold that takes class 0 for a background that the vocabulary lacks.

    Args:
        protocols: of the runs of a command.
        vocabulary: their classes.
    """
    several = [protocol for protocol in protocols if protocol.decision == "argmax"]
    if vocabulary.background is not None:
        return []
    name = vocabulary.class_names[0]
    does = {
        "prob_thd": f"less probable pixels become '{name}'",
        "area_thd": f"small classes are dropped, though never '{name}'",
    }
    notes = []
    for setting, what in does.items():
        values = dict.fromkeys(getattr(protocol, setting) for protocol in several)
        shown = ", ".join(f"{value:g}" for value in values if value)
        if shown:
            words = ", ".join(vocabulary.words[0][:2]) + (
                ", ..." if vocabulary.words[0][2:] else ""
            )
            notes.append(
                f"{setting} {shown}: {what}, which is class 0 and no background: leave "
                f"--{setting.replace('_', '-')} out, or make class 0 the background by the line "
                f"'background: {words}'"
            )
    return notes
