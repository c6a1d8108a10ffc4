"""Parts of a pipeline of a user's own: refiners, decisions, steps, hybrid rules, mask sources.

Each decorates a function whose keyword-only arguments are parameters for ``--parameters``. What it
is given it may overwrite. What it returns is checked, and its code is in the keys of the stages
that it decides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sclip_core.config import UserError
from sclip_core.config.methods import STEPS_WITH_MASKS
from sclip_core.config.plugins import BUILT_IN, check_name, claim
from sclip_core.masks.fill import RULES, Evidence
from sclip_core.masks.id_maps import as_id_map, proposals_of
from sclip_core.masks.proposals import Proposals, coco
from sclip_core.masks.sources import SOURCES, MaskSource, Proposer
from sclip_core.methods.declared import OwnPart
from sclip_core.methods.own_labels import checked_labels, kind_of
from sclip_core.methods.steps import STEPS, Step
from sclip_core.segmentation.decision import Labels
from sclip_core.segmentation.refiners import REFINERS
from sclip_core.tensors import is_finite

Written = TypeVar("Written", bound=Callable[..., Any])
DECISIONS: dict[str, type[OwnDecision]] = {}


class OwnRefiner(OwnPart):
    """A refiner of logits: ``(logits (Q, H, W), image (3, H, W), *, ...)`` to such logits."""

    kind: ClassVar[str] = "refiner"
    whole: ClassVar[bool] = True

    def refine(self, logits: Tensor, image: Tensor) -> Tensor:
        """Refine logits.

        Args:
            logits: (Q, H, W) float32, before ``logit_scale``.
            image: (3, H, W) float32, normalised, at the original size.

        Returns:
            Another (Q, H, W) float32.

        Raises:
            UserError: the function raised something, or returned another shape or NaN.
        """
        found = self.call(logits.clone(), image.clone())
        expected = tuple(logits.shape)
        if not isinstance(found, Tensor) or tuple(found.shape) != expected:
            raise UserError(f"{self.what} returned {kind_of(found)}: expected (Q, H, W) {expected}")
        if not found.is_floating_point():
            raise UserError(f"{self.what} returned {kind_of(found)}: expected float32")
        if not is_finite(found):
            raise UserError(
                f"{self.what} returned numbers that are not finite: look for a division by 0 or "
                "an overflow in it"
            )
        return found.to(logits)


class OwnDecision(OwnPart):
    """A decision: ``(logits (Q, H, W), query_class (Q,), num_classes, *, ...)`` to labels."""

    kind: ClassVar[str] = "decision"

    def labels(self, logits: Tensor, query_class: Tensor, num_classes: int) -> Labels:
        """Labels (H, W) of pixels.

        Raises:
            UserError: the function raised something, or returned what are no labels.
        """
        found = self.call(logits.clone(), query_class.clone(), num_classes)
        dtype = np.dtype(np.uint8 if num_classes <= 256 else np.uint16)
        return checked_labels(self.what, found, tuple(logits.shape[1:]), dtype, num_classes)


class OwnStep(OwnPart):
    """A step after the decision: ``(labels (H, W), *, ...)``, or ``(labels, regions, *, ...)``."""

    kind: ClassVar[str] = "step"


class OwnRule(OwnPart):
    """A rule that labels masks: ``(evidence, *, ...)`` to labels (H, W)."""

    kind: ClassVar[str] = "rule"

    def __call__(self, evidence: Evidence) -> Labels:
        """Fill masks.

        Raises:
            UserError: the function raised something, or returned what are no labels.
        """
        base = evidence.base
        own = Evidence(
            evidence.proposals,
            base.copy(),
            evidence.query_class.clone(),
            evidence.num_classes,
            evidence.protocol,
            evidence.scores,
        )
        found = self.call(own)
        none = np.iinfo(base.dtype).max if (base >= evidence.num_classes).any() else None
        return checked_labels(self.what, found, base.shape, base.dtype, evidence.num_classes, none)


class OwnMasks(OwnPart):
    """A source of masks: ``(image (H, W, 3) uint8 RGB)`` to masks (M, H, W), or an id map."""

    kind: ClassVar[str] = "source"

    def propose(self, image: NDArray[np.uint8]) -> Proposals:
        """The masks of an image.

        Raises:
            UserError: the function raised something, or returned what are no masks of the image.
        """
        found = self.call(image.copy())
        array = found.numpy(force=True) if isinstance(found, Tensor) else np.asarray(found)
        size = (image.shape[0], image.shape[1])
        if array.ndim == 2 and array.dtype.kind in "iu" and array.shape == size:
            return proposals_of(as_id_map(array, size))
        if array.ndim == 3 and array.dtype == np.bool_ and array.shape[1:] == size:
            return Proposals.of_masks(np.ascontiguousarray(array.transpose(0, 2, 1)))
        raise UserError(
            f"source of masks '{self.name}' returned {kind_of(found)}: expected masks (M, H, W) "
            f"bool or an id map (H, W) of integers, of an image of {size}"
        )


class OwnSource(MaskSource):
    """Makes a user's function a source of masks."""

    masks: ClassVar[OwnMasks]

    def identity(self, dtype: str) -> dict[str, Any]:
        """Its name, and the digest of its code."""
        return self.masks.identity()

    def check(self) -> None:
        """See that pycocotools is installed, by which masks are stored."""
        coco()

    def open(self, device: torch.device, dtype: torch.dtype) -> Proposer:
        """The function."""
        self.check()
        return self.masks.propose


def refiner(name: str) -> Callable[[Written], Written]:
    """Register what refines logits in PAMR's place, for ``--refiner NAME``.

    It decorates a function of logits (Q, H, W) float32, before ``logit_scale``, and the normalised
    image (3, H, W), that returns logits of the same shape.

    Raises:
        UserError: the name is invalid or taken, or it is no such function.
    """
    check_name("refiner", name)

    def register(written: Written) -> Written:
        """Add it to the registry and return it unchanged."""
        made = OwnRefiner.made_of(name, written, "logits, image")
        claim("refiner", name, written, lambda: REFINERS, made, BUILT_IN["refiner"])
        return written

    return register


def decision(name: str) -> Callable[[Written], Written]:
    """Register what labels pixels in the place of the best class, for ``--decision NAME``.

    It decorates a function of logits (Q, H, W), before ``logit_scale``, of the class of each word
    (Q,) int64, and of the number of classes, that returns labels (H, W). ``prob_thd`` and
    ``area_thd`` are then of no account.

    Raises:
        UserError: the name is invalid or taken, or it is no such function.
    """
    check_name("decision", name)

    def register(written: Written) -> Written:
        """Add it to the registry and return it unchanged."""
        made = OwnDecision.made_of(name, written, "logits, query_class, num_classes")
        claim("decision", name, written, lambda: DECISIONS, made, BUILT_IN["decision"])
        return written

    return register


def step(name: str, reads_masks: bool = False) -> Callable[[Written], Written]:
    """Register a step after the decision, for ``--after NAME``.

    It decorates a function of labels (H, W), unsigned integers, that returns such labels.

    Args:
        name: of the step.
        reads_masks: whether it is also given the id map (H, W) of the masks, whose lowest id is
            what no mask covers.

    Raises:
        UserError: the name is invalid or taken, or it is no such function.
    """
    check_name("step", name)

    def register(written: Written) -> Written:
        """Add it to the registry and return it unchanged."""
        made = OwnStep.made_of(name, written, "labels, regions" if reads_masks else "labels")
        value = Step(name, written, reads_masks, made())
        undo = lambda: STEPS_WITH_MASKS.discard(name)  # noqa: E731
        claim("step", name, written, lambda: STEPS, value, BUILT_IN["after"], undo)
        if reads_masks:
            STEPS_WITH_MASKS.add(name)
        return written

    return register


def rule(name: str) -> Callable[[Written], Written]:
    """Register what labels masks, for ``--hybrid-rule NAME``.

    It decorates a function of ``sclip_core.masks.Evidence`` that returns labels (H, W).
    ``evidence.scores()`` is the mean of each word's logits over each mask, (M, Q).

    Raises:
        UserError: the name is invalid or taken, or it is no such function.
    """
    check_name("rule", name)

    def register(written: Written) -> Written:
        """Add it to the registry and return it unchanged."""
        made = OwnRule.made_of(name, written, "evidence")
        claim("rule", name, written, lambda: RULES, made(), BUILT_IN["hybrid_rule"])
        return written

    return register


def proposer(name: str) -> Callable[[Written], Written]:
    """Register a source of masks, for ``--proposals NAME`` and ``propose_masks(image, NAME)``.

    It decorates a function of an image (H, W, 3) uint8 RGB that returns masks (M, H, W) bool, which
    may overlap, or an id map (H, W) of integers whose lowest id is no mask.

    Raises:
        UserError: the name is invalid or taken, or it is no such function.
    """
    check_name("source of masks", name)

    def register(written: Written) -> Written:
        """Add it to the registry and return it unchanged."""
        made = OwnMasks.made_of(name, written, "image")
        source = type("OwnSource", (OwnSource,), {"masks": made()})
        claim("source of masks", name, written, lambda: SOURCES, source, BUILT_IN["proposals"])
        return written

    return register
