"""Keys that a version before this one gave: a change of one makes artifacts of users useless.

``keys.json`` was written by the code as it was before the stages were moved to this package.
"""

from __future__ import annotations

import json
import zipfile
from itertools import chain
from pathlib import Path

import pytest

from sclip_core.config import resolve_several
from sclip_core.pipeline.pipeline import Pipeline
from sclip_core.pipeline.run import Run

from ..conftest import TINY
from .test_first_version import STORE

KEYS = json.loads(Path(__file__).with_name("keys.json").read_text("utf-8"))
OWN = {"images": "own/images", "labels": "own/labels", "classes": "own/classes.txt"}
SLIC = {"proposals": "slic"}
SAM = {"proposals": "sam", "sam_checkpoint": "sam.pth"}
CASES = {
    "plain": {},
    "several": {"attention": "csa,vanilla,naclip:reduced", "pamr_steps": "0,10"},
    "whole": {"slide_crop": 0, "short_side": 448, "dtype": "bf16"},
    "pamr": {"pamr_steps": 3, "pamr_dilations": [1, 2], "prob_thd": 0.1, "logit_scale": 50},
    "area": {
        "area_thd": 0.01,
        "num_samples": 2,
        "reduce_zero_label": True,
        "ignore_label": "0,255",
    },
    "trunk": {"keep_trunk": True, "templates": "simple"},
    "slic": {**SLIC, "hybrid_rule": "vote,pool,crop", "slic_segments": 50},
    "felzenszwalb": {"proposals": "felzenszwalb", "felzenszwalb_scale": 50},
    "baseline": {**SLIC, "mode": "baseline"},
    "sam": {**SAM, "keep_embeddings": True, "points_per_side": 8},
    "sam crops": {**SAM, "crop_n_layers": 1, "crop_overlap_ratio": 0.3, "sam_model": "vit_h"},
    "sam regions": {**SAM, "min_mask_region_area": 100, "mode": "baseline", "dtype": "fp16"},
    "unscored": {"labels": None, "save_vis": "pictures"},
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with images, label maps, a vocabulary and what stands for weights of SAM."""
    with zipfile.ZipFile(STORE) as archive:
        archive.extractall(tmp_path, [n for n in archive.namelist() if n.startswith("own/")])
    (tmp_path / "sam.pth").write_bytes(b"weights")
    monkeypatch.chdir(tmp_path)


def keys_of(case: str) -> list[dict[str, str]]:
    """The keys of the stages of a case's runs, by the name of the stage."""
    given = {**OWN, **TINY, "device": "cpu", "dataset": "own", **CASES[case]}
    pipelines = map(Pipeline.of, Run.several(resolve_several(**given)))
    return [{stage.name: stage.key for stage in pipeline} for pipeline in pipelines]


@pytest.mark.parametrize("case", CASES)
def test_every_stage_keeps_its_key(here, case):
    for now, before in zip(keys_of(case), KEYS[case], strict=True):
        assert {stage: now.get(stage) for stage in before} == before  # others may have come


def test_the_cases_have_every_stage():
    found = set(chain.from_iterable(chain.from_iterable(KEYS.values())))
    assert found == {
        *("text_bank", "trunk", "dense_features", "refine", "sam_embeddings", "proposals"),
        *("crop_features", "hybrid", "metrics", "results"),
    }
