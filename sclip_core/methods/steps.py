"""Steps after the decision, which change a label map: by name, several in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import unknown
from sclip_core.encoder.code import code_digest
from sclip_core.methods.declared import OwnPart
from sclip_core.methods.own_labels import checked_labels
from sclip_core.methods.vote import vote
from sclip_core.segmentation.after import closing
from sclip_core.segmentation.decision import Labels


@dataclass(frozen=True)
class Step:
    """A step after the decision."""

    name: str
    function: Callable[..., Labels]
    reads_masks: bool = False
    """Whether it takes the id map (H, W) of the masks as its second argument."""
    own: OwnPart | None = None
    """Of a user's own: the function with its parameters."""

    def identity(self) -> str | list[Any]:
        """What decides its result, for a key: its name, of a user's own also code, parameters."""
        if self == BUILT_IN.get(self.name):
            return self.name
        given = self.own.changed() if self.own else {}
        return [self.name, code_digest(self.function), *([given] if given else [])]

    def __call__(
        self,
        labels: Labels,
        regions: NDArray[np.integer[Any]] | None,
        num_classes: int | None = None,
    ) -> Labels:
        """The labels after the step; a new map.

        Raises:
            UserError: a user's function raised something, or returned what are no labels.
        """
        if self.own is None:
            return self.function(labels, regions) if self.reads_masks else self.function(labels)
        copies = [labels.copy(), *([np.array(regions)] if self.reads_masks else [])]
        found = self.own.call(*copies)
        return checked_labels(self.own.what, found, labels.shape, labels.dtype, num_classes)


STEPS: dict[str, Step] = {
    "vote": Step("vote", vote, reads_masks=True),
    "closing": Step("closing", closing),
}
BUILT_IN = dict(STEPS)


def steps_of(names: Iterable[str]) -> tuple[Step, ...]:
    """The steps with these names, in order.

    Raises:
        UserError: one is unknown.
    """
    found = []
    for name in names:
        if name not in STEPS:
            raise unknown("step after the decision:", name, STEPS)
        found.append(STEPS[name])
    return tuple(found)
