"""What follows from the roles of settings and the rows of stages, written down a second time."""

from __future__ import annotations

import pytest

from sclip_core.config import CHEAP, OF_MASKS, ROLES, SEVERAL, STAGES, Settings, unread
from sclip_core.config.masks import MaskSettings

HOW = {
    "boundary",
    "object_sizes",
    *(
        "device",
        "batch_size",
        "workers",
        "shards",
        "runner",
        "address",
        "allow_changes",
        "frozen",
        "artifacts",
        "strict",
        "force",
    ),
    *("keep_trunk", "save_vis", "plugins"),
}
ALL = ("text_bank", "trunk", "proxy_features", "dense_features", "refine", "sam_embeddings",
       "proposals", "crop_features", "hybrid", "metrics", "boundary", "object_sizes",
       "results")  # fmt: skip
FIRST_MASKS = ("text_bank", "proxy_features", "proposals", *ALL[3:5])
DENSE = ("text_bank", "dense_features", "refine", "metrics", "results")
SAM = {"mode": "hybrid", "proposals": "sam"}


def test_settings_that_may_have_several_values_in_their_order():
    cheap = ("pamr_steps", "pamr_dilations", "logit_scale", "prob_thd", "area_thd")
    assert ("method", "mode", "hybrid_rule", "parameters", "attention", *cheap) == SEVERAL
    assert ("hybrid_rule", *cheap) == CHEAP


def test_settings_that_only_masks_read():
    own = {"hybrid_rule", "masks", "sam_checkpoint", "keep_embeddings", "points_per_batch"}
    assert set(OF_MASKS) == {*MaskSettings.model_fields, *own}


def test_settings_that_are_no_columns():
    resolved = {"mode", "dataset", "model", "pretrained", "attention", "dtype"}
    resolved |= {"proxy_model", "proxy_weights", "sam_encoder"}
    of_masks = {"keep_embeddings", "points_per_batch"}
    assert {n for n, role in ROLES.items() if not role.recorded} == HOW | resolved | of_masks
    assert {n for n, role in ROLES.items() if role.part == "how"} == HOW


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({}, {"hybrid_rule", "pamr_dilations", "logit_scale"}),
        ({"pamr_steps": 1, "prob_thd": 0.1}, {"hybrid_rule"}),
        ({"mode": "hybrid", "pamr_steps": 1, "prob_thd": 0.1}, set()),
        (
            {"mode": "baseline", "pamr_steps": 1, "prob_thd": 0.1},
            {"method", "hybrid_rule", "parameters", "attention", "pamr_steps", "pamr_dilations"},
        ),
    ],
)
def test_settings_that_change_no_label(given, names):
    assert unread(Settings(**given)) == names


@pytest.mark.parametrize(
    ("given", "stages"),
    [
        ({}, DENSE),
        ({"images": "a"}, DENSE[:3]),  # not scored
        ({"images": "a", "labels": "b", "keep_trunk": True}, ("text_bank", "trunk", *DENSE[1:])),
        ({**SAM, "keep_trunk": True, "keep_embeddings": True, "hybrid_rule": "crop",
          "boundary": True, "object_sizes": True},
         (*ALL[:2], *ALL[3:])),
        ({"method": "sc-clip"}, DENSE),
        ({"method": "proxyclip"}, ("text_bank", "proxy_features", *DENSE[1:])),
        ({"method": "corrclip"}, (*FIRST_MASKS, *DENSE[3:])),
        ({"method": "corrclip", "keep_trunk": True, **SAM, "keep_embeddings": True},
         ("text_bank", "trunk", "proxy_features", "sam_embeddings", "proposals", "dense_features",
          "refine", "hybrid", *DENSE[3:])),
        ({**SAM, "keep_embeddings": True, "proposals": "slic"},
         (*DENSE[:3], "proposals", "hybrid", *DENSE[3:])),
        ({"mode": "baseline", "keep_trunk": True},
         ("text_bank", "proposals", "crop_features", "hybrid", "metrics", "results")),
        ({"keep_embeddings": True}, DENSE),
    ],
)  # fmt: skip
def test_the_stages_of_a_run(given, stages):
    assert Settings(**given).stages == stages
    assert STAGES == ALL
