"""The stages of the pipeline, a row each: what a command or a table has to know of one.

A new stage is a file in ``sclip_core/pipeline/stages``, a row here, and its place in
``sclip_core/pipeline/pipeline.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sclip_core.config.methods import reads_masks, reads_second, steps_read_masks

if TYPE_CHECKING:
    from sclip_core.config.settings import Settings

OF_FEATURES = ("method", "parameters", "attention")
READ_BY_REFINE = (
    *OF_FEATURES,
    "pamr_steps",
    "pamr_dilations",
    "logit_scale",
    "prob_thd",
    "area_thd",
)


@dataclass(frozen=True)
class StageSpec:
    """What is known of a stage before any run is opened."""

    name: str
    cost: Literal["encode", "refine", "cheap"]
    """``encode``: a network sees words or images; ``refine``: pixels are labelled; else little."""
    reads: tuple[str, ...] = ()
    """Of the settings that may have several values, those on which its rows depend."""
    applies: Callable[[Settings], bool] = lambda settings: True
    """Whether a run has the stage."""
    lacking: str = ""
    """Why a run has it not, where it is asked for by ``--force``."""


def _has_dense_labels(settings: Settings) -> bool:
    return settings.mode != "baseline"


def _fills_masks(settings: Settings) -> bool:
    return settings.mode != "dense"


def _has_masks(settings: Settings) -> bool:
    return _fills_masks(settings) or (_has_dense_labels(settings) and _reads_masks(settings))


def _reads_masks(settings: Settings) -> bool:
    """Whether dense labels depend on masks."""
    return reads_masks(settings.method) or steps_read_masks(settings.after)


def _keeps_embeddings(settings: Settings) -> bool:
    return _has_masks(settings) and settings.proposals == "sam" and settings.keep_embeddings


READ_BY_HYBRID = ("mode", "hybrid_rule", *READ_BY_REFINE)
STAGE_SPECS = {
    spec.name: spec
    for spec in (
        StageSpec("text_bank", "encode", ("mode",)),
        StageSpec(
            "trunk",
            "encode",
            applies=lambda settings: _has_dense_labels(settings) and settings.keep_trunk,
            lacking="without --keep-trunk",
        ),
        StageSpec(
            "proxy_features",
            "encode",
            ("method",),
            lambda settings: _has_dense_labels(settings) and reads_second(settings.method),
            "without a method that has a second network",
        ),
        StageSpec("dense_features", "encode", OF_FEATURES, _has_dense_labels, "in the baseline"),
        StageSpec("refine", "refine", READ_BY_REFINE, _has_dense_labels, "in the baseline"),
        StageSpec(
            "sam_embeddings",
            "encode",
            applies=_keeps_embeddings,
            lacking="without --use-sam --keep-embeddings",
        ),
        StageSpec("proposals", "encode", applies=_has_masks, lacking="without --use-sam"),
        StageSpec(
            "crop_features",
            "encode",
            applies=lambda settings: settings.rule == "crop",
            lacking="without --hybrid-rule crop",
        ),
        StageSpec("hybrid", "refine", READ_BY_HYBRID, _fills_masks, "without --use-sam"),
        StageSpec(
            "metrics", "cheap", READ_BY_HYBRID, lambda settings: settings.scored, "without --labels"
        ),
        StageSpec(
            "boundary",
            "cheap",
            READ_BY_HYBRID,
            lambda settings: settings.scored and settings.boundary,
            "without --boundary",
        ),
        StageSpec(
            "object_sizes",
            "cheap",
            READ_BY_HYBRID,
            lambda settings: settings.scored and settings.object_sizes,
            "without --object-sizes",
        ),
        StageSpec(
            "results", "cheap", READ_BY_HYBRID, lambda settings: settings.scored, "without --labels"
        ),
    )
}
STAGES = tuple(STAGE_SPECS)  # in the order in which they are executed


def stages_of(settings: Settings) -> tuple[str, ...]:
    """The stages of a run, in order: masks come first where the features depend on them."""
    names = [name for name, spec in STAGE_SPECS.items() if spec.applies(settings)]
    if "dense_features" in names and _reads_masks(settings):
        masks = [name for name in ("sam_embeddings", "proposals") if name in names]
        names = [name for name in names if name not in masks]
        place = names.index("dense_features")
        names[place:place] = masks
    return tuple(names)
