"""What refines the logits of an image in PAMR's place: by name, with declared parameters."""

from __future__ import annotations

from typing import Any, ClassVar
from typing import Protocol as Interface

from torch import Tensor

from sclip_core.config import unknown
from sclip_core.segmentation.decision import Labels
from sclip_core.segmentation.tlp import TLP

PAMR = "pamr"  # built into the kernels that stitch and decide


class Refining(Interface):
    """A refiner; its class is a ``Checked`` model whose fields are its parameters.

    A user's has the attribute ``whole`` and, in the place of ``propagate``, ``refine`` of logits
    (Q, H, W) and the image.
    """

    name: ClassVar[str]
    model_fields: ClassVar[dict[str, Any]]

    def propagate(
        self, cosines: Tensor, rows: Tensor, columns: Tensor, image: Tensor, words: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Refine; arguments and result as of ``TLP.propagate``."""


class Deciding(Interface):
    """A decision of a user's own, in the place of the best class and the thresholds."""

    def labels(self, logits: Tensor, query_class: Tensor, num_classes: int) -> Labels:
        """Labels (H, W) of logits (Q, H, W)."""


REFINERS: dict[str, Any] = {"tlp": TLP}


def find_refiner(name: str) -> Any:
    """The class of a refiner; None: PAMR.

    Raises:
        UserError: there is none of that name.
    """
    if name == PAMR:
        return None
    if name not in REFINERS:
        raise unknown("refiner", name, [PAMR, *REFINERS])
    return REFINERS[name]


def refiner_identity(refiner: Any) -> dict[str, Any]:
    """What decides a refiner's result, for a key; nothing for PAMR, whose settings are there."""
    if refiner is None:
        return {}
    given = refiner.changed()
    own = {"refiner_code": refiner.code()} if is_whole(refiner) else {}
    return {"refiner": refiner.name, **own, **({"refiner_parameters": given} if given else {})}


def is_whole(refiner: Any) -> bool:
    """Whether a refiner takes the logits of all pixels, as a user's does."""
    return bool(getattr(refiner, "whole", False))
