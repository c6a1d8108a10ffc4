"""``sclip segment``: a photograph and words to a picture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from flows.options import Config, Pamr, Preset, Slide, UseSam, only_one, settings_of
from flows.parameters import flag, with_settings
from flows.pictures import check_target, save
from sclip_core.config import OF_MASKS, Protocol, Settings, UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sclip_core import Proposals

MODEL_SETTINGS = ("model", "pretrained", "device", "dtype", "attention")

SEGMENT_SETTINGS = (
    *MODEL_SETTINGS,
    *(name for name in Protocol.model_fields if name != "vocabulary"),
    *sorted(set(OF_MASKS) - {"keep_embeddings", "points_per_batch"}),
)


@with_settings(flag, SEGMENT_SETTINGS)
def segment(
    image: Path,
    *,
    classes: Annotated[
        str, Parameter(help="'cat, kitten; grass': classes by ';', synonyms by ', '; or a file.")
    ],
    output: Annotated[
        Path | None,
        Parameter(
            name=("--output", "-o"), help="Picture to write: PNG, JPEG or WebP. [IMAGE.sclip.png]"
        ),
    ] = None,
    labels_out: Annotated[
        Path | None, Parameter(help="Label map to write: PNG, pixel value k is class k.")
    ] = None,
    preset: Preset = None,
    config: Config = None,
    pamr: Pamr = None,
    slide: Slide = None,
    use_sam: UseSam = False,
    **given: Any,
) -> int:
    """Segment one photograph with your own words."""
    from sclip_core import SCLIP, Vocabulary, read_image
    from sclip_core.evaluation import overlay

    pixels = read_image(image)
    target = output or image.with_suffix(".sclip.png")
    check_target(target, taken=[image])
    if labels_out is not None:
        check_target(labels_out, exact=True, taken=[image, target])
    is_file = os.path.isfile(classes)
    vocabulary = (
        Vocabulary.from_file(classes) if is_file else Vocabulary.from_classes(classes.split(";"))
    )
    given = {"images": image.parent, **given}
    settings = only_one(settings_of(preset, config, pamr, slide, use_sam, given))
    masks = _proposed(pixels, settings)  # before CLIP is loaded: weights may be missing
    model = SCLIP.load(**{name: getattr(settings, name) for name in MODEL_SETTINGS})
    segmentation = model.segment(
        pixels, settings, vocabulary, masks=masks, rule=settings.hybrid_rule
    )
    names = list(segmentation.class_names)
    save(overlay(pixels, segmentation.labels, names), target)
    print(target)
    if labels_out:
        from PIL.Image import fromarray

        save(fromarray(segmentation.labels), labels_out)
        print(labels_out)
    return 0


def _proposed(pixels: NDArray[np.uint8], settings: Settings) -> Proposals | None:
    """The masks that are to be filled in a photograph (H, W, 3); None: there are to be none.

    Raises:
        UserError: it is to be segmented as the baseline does, or the source cannot be opened.
    """
    from sclip_core import propose_masks

    if settings.mode == "baseline":
        raise UserError(
            "the baseline labels no pixel outside of masks, so it is for runs alone: "
            "leave it out, and --hybrid-rule crop classifies the masks of one image in its way"
        )
    if settings.mode == "dense":
        return None
    return propose_masks(
        pixels,
        settings.proposals,
        settings.sam_checkpoint,
        settings.device,
        settings.dtype,
        **settings.relevant(),
    )
