"""The settings of mask proposals and of the labels that fill them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, PositiveInt, field_validator, model_validator

from sclip_core.config.errors import UserError
from sclip_core.config.plugins import names_of, one_of
from sclip_core.config.protocol import Checked
from sclip_core.config.roles import MASKS

Source = Literal["sam", "felzenszwalb", "slic", "files"]
OF_CROPS = ("crop_overlap_ratio", "crop_n_points_downscale_factor")
Share = Annotated[float, Field(ge=0, le=1), MASKS]


class MaskSettings(Checked):
    """Where masks come from. SAM's are those of its automatic generator, with its names."""

    proposals: Annotated[str, MASKS] = "sam"
    """Source of masks: sam; felzenszwalb or slic, superpixels without weights; files: --masks."""
    sam_model: Annotated[Literal["vit_b", "vit_l", "vit_h"], MASKS] = "vit_b"
    """Size of SAM."""
    points_per_side: Annotated[PositiveInt, Field(le=256), MASKS] = 32
    """SAM: prompts along a side of the image; 8 needs 16 times fewer than 32."""
    pred_iou_thresh: Share = 0.88
    """SAM: masks must promise a better IoU than this."""
    stability_score_thresh: Share = 0.95
    """SAM: IoU of a mask cut off higher and lower must be this."""
    stability_score_offset: Annotated[float, Field(ge=0), MASKS] = 1.0
    """SAM: how much higher and lower."""
    box_nms_thresh: Share = 0.7
    """SAM: boxes that overlap more are one mask."""
    crop_n_layers: Annotated[int, Field(ge=0, le=4), MASKS] = 0
    """SAM: layers of crops that are segmented too; layer i has 4^i of them."""
    crop_nms_thresh: Share = 0.7
    """SAM: as box_nms_thresh, between crops."""
    crop_overlap_ratio: Annotated[float, Field(ge=0, lt=1), MASKS] = 512 / 1500
    """SAM: overlap of crops, of the image's short side."""
    crop_n_points_downscale_factor: Annotated[PositiveInt, Field(le=256), MASKS] = 1
    """SAM: points per side, divided by this for every layer."""
    min_mask_region_area: Annotated[int, Field(ge=0, le=2**31 - 1), MASKS] = 0
    """SAM: pixels; smaller islands go, smaller holes are filled."""
    felzenszwalb_scale: Annotated[float, Field(gt=0), MASKS] = 100.0
    """felzenszwalb: larger gives larger segments."""
    felzenszwalb_sigma: Annotated[float, Field(ge=0, le=100), MASKS] = 0.8
    """felzenszwalb: smoothing before, in pixels."""
    felzenszwalb_min_size: Annotated[PositiveInt, Field(le=2**31 - 1), MASKS] = 100
    """felzenszwalb: pixels of the smallest segment."""
    slic_segments: Annotated[PositiveInt, Field(le=100_000), MASKS] = 200
    """slic: about so many segments."""
    slic_compactness: Annotated[float, Field(ge=1e-6, le=1e6), MASKS] = 10.0
    """slic: larger gives squarer segments."""

    @field_validator("proposals")
    @classmethod
    def _is_a_source(cls, name: str) -> str:
        return one_of(name, [*get_args(Source), *names_of("source of masks")])

    @model_validator(mode="after")
    def _points_in_every_layer(self) -> Self:
        shrunk = self.crop_n_points_downscale_factor**self.crop_n_layers
        if self.points_per_side < shrunk:
            raise ValueError(
                f"points_per_side={self.points_per_side} leaves no point in the last of "
                f"crop_n_layers={self.crop_n_layers}: take at least {shrunk}"
            )
        return self

    def relevant(self) -> dict[str, Any]:
        """The settings that the chosen source reads, by name.

        A source other than SAM reads those whose names begin with its own; a user's reads none.
        """
        values = self.model_dump(include=set(MaskSettings.model_fields), exclude={"proposals"})
        if self.proposals not in get_args(Source):
            return {}
        of_source = {name: name.split("_")[0] for name in values}
        if self.proposals != "sam":
            return {name: v for name, v in values.items() if of_source[name] == self.proposals}
        unread = {name for name, source in of_source.items() if source in get_args(Source)}
        unread.discard("sam_model")
        if not self.crop_n_layers:
            unread.update(OF_CROPS)
            if not self.min_mask_region_area:  # masks whose regions were cleaned pass it too
                unread.add("crop_nms_thresh")
        return {name: value for name, value in values.items() if name not in unread}


def choose_source(chosen: dict[str, Any], asked: Mapping[str, Any]) -> None:
    """Let a folder of masks be the source of masks, and a source that is asked for replace it.

    Args:
        chosen: settings by name, of a file and of what is asked for; changed in place.
        asked: what is asked for, which wins over a file's.

    Raises:
        UserError: a folder and another source, or no folder for the source that reads one.
    """
    folder, source = chosen.get("masks"), chosen.get("proposals")
    if "masks" in asked and "proposals" not in asked:
        source = None  # the file's
    elif "proposals" in asked and "masks" not in asked and source != "files":
        folder = None
    if folder is not None and source not in (None, "files"):
        raise UserError(f"--masks {folder} and --proposals {source} conflict: use only one")
    if folder is None and source == "files":
        raise UserError("--proposals files needs the folder of your id maps: add --masks DIR")
    if folder is None:
        chosen.pop("masks", None)
    else:
        chosen["proposals"] = "files"
