"""The literature's figures, and when a run may be put beside them."""

from __future__ import annotations

import pytest

from sclip_core import results
from sclip_core.config import tables
from sclip_core.config.protocol import benchmark_protocol
from sclip_core.encoder.attention import Attention
from sclip_core.results.published import OPENAI, beside

PUBLIC_CODE = {  # as its README has them
    "voc21": 59.63,
    "context60": 31.74,
    "coco_object": 33.52,
    "voc20": 81.54,
    "cityscapes": 32.34,
    "context59": 34.46,
    "ade20k": 16.45,
    "coco_stuff": 22.77,
}


def run(dataset: str = "voc21", **others: object) -> dict[str, object]:
    """A row of ``runs`` as a run of the whole benchmark by its protocol would leave it."""
    protocol = {
        "short_side": 336,
        "slide_crop": 224,
        "slide_stride": 112,
        "logit_scale": 40.0,
        "prob_thd": 0.0,
        "area_thd": 0.0,
        "reduce_zero_label": False,
        **(benchmark_protocol(dataset) if dataset in PUBLIC_CODE else {}),
    }
    row: dict[str, object] = {
        "run_id": f"{dataset}-1",
        "dataset": dataset,
        "mode": "dense",
        "model": "ViT-B-16-quickgelu",
        "pretrained": "openai",
        "weights_sha256": "1" * 64,
        "attention": "csa",
        "dtype": "fp32",
        "ground_truth": None,
        "classes": None,
        "templates": "openai",
        "pamr_steps": 0,
        "pamr_dilations": "8,16",
        "num_images": (tables()["benchmarks"].get(dataset) or {}).get("num_images"),
        "num_failed": 0,
        "miou": 50.0,
    }
    return {**row, **protocol, **others}


def test_every_row_has_a_source_and_a_benchmark():
    rows = results.published().to_pylist()
    assert len(rows) > 200
    for row in rows:
        assert row["dataset"] in PUBLIC_CODE
        assert 0 < row["miou"] < 100
        assert len(row["source"]) > 5
        assert "[" not in row["source"]
        assert (row["attention"] is None) == (row["pamr_steps"] is None)
        if row["attention"] is not None:
            Attention.parse(row["attention"])
    assert len({(row["method"], row["dataset"]) for row in rows}) == len(rows)


@pytest.mark.parametrize("dataset", PUBLIC_CODE)
def test_a_run_by_the_protocol_is_beside_the_public_code(dataset):
    found = beside(run(dataset))
    assert found == ("SCLIP (public code)", PUBLIC_CODE[dataset], ())


@pytest.mark.parametrize(
    ("others", "method"),
    [
        ({"attention": "vanilla"}, "CLIP"),
        ({"attention": "naclip"}, "NACLIP"),
        ({"pamr_steps": 10}, "SCLIP + PAMR"),
        ({"attention": "naclip", "pamr_steps": 10}, "NACLIP + PAMR"),
        ({"attention": "kk"}, None),
        ({"attention": "csa:vanilla"}, None),
        ({"logit_scale": 40.0, "dataset": "voc20"}, "SCLIP (public code)"),
        ({"pretrained": "ViT-B-16.pt", "weights_sha256": OPENAI}, "SCLIP (public code)"),
        ({"dtype": "fp16"}, "SCLIP (public code)"),
    ],
)
def test_the_row_of_its_method(others, method):
    found = beside(run(others.pop("dataset", "voc21"), **others))
    assert found.method == method
    assert found.caveats == ()


@pytest.mark.parametrize(
    ("others", "caveat"),
    [
        ({"num_images": 50}, "50 of 1,449 images"),
        ({"num_images": 1500}, "1,500 images"),
        ({"num_failed": 2}, "2 images left out"),
        ({"model": "sclip-demo", "pretrained": "scenes"}, "a toy CLIP"),
        ({"model": "ViT-L-14"}, "ViT-L-14 openai, not OpenAI's ViT-B/16"),
        ({"pretrained": "laion2b_s34b_b88k"}, "ViT-B-16-quickgelu laion2b_s34b_b88k, not OpenAI's"),
        ({"pretrained": "random.safetensors"}, r"unknown file \(random.safetensors\).* random"),
        ({"short_side": 448}, r"short_side 448 \(theirs: 336\)"),
        ({"slide_crop": 0}, "slide_crop 0"),
        ({"logit_scale": 40.0}, r"logit_scale 40 \(theirs: 65\)"),
        ({"prob_thd": 0.3}, r"prob_thd 0.3 \(theirs: 0.1\)"),
        ({"pamr_steps": 5}, r"pamr_steps 5 \(theirs: 10\)"),
        ({"pamr_steps": 10, "pamr_dilations": "1,2"}, r"pamr_dilations 1,2 \(theirs: 8,16\)"),
        ({"classes": "mine.txt"}, "words of your own"),
        ({"ignore_label": "255,11"}, "label values 255,11 are not evaluated"),
        ({"templates": "simple"}, "templates simple"),
        ({"dtype": "bf16"}, "bf16"),
        ({"mode": "hybrid"}, r"masks \(hybrid\)"),
        ({"mode": "baseline", "attention": None, "pamr_steps": None}, r"masks \(baseline\)"),
    ],
)
def test_what_is_not_comparable_is_said(others, caveat):
    import re

    found = beside(run("voc21", **others)).caveats
    assert len(found) == 1, found
    assert re.search(caveat, found[0])


def test_other_label_maps_and_a_dataset_that_nobody_publishes():
    assert beside(run("coco_object", ground_truth="instances")).caveats == (
        "label maps made from instances",
    )
    found = beside(run("scenes"))
    assert found.miou is None
    assert found.caveats == ("no published figures for scenes",)


def test_the_scale_counts_only_where_a_threshold_asks_for_it():
    assert beside(run("voc20", logit_scale=99.0)).caveats == ()


@pytest.mark.parametrize("mode", ["hybrid", "baseline"])
def test_masks_are_no_method_of_the_literature(mode):
    attention = None if mode == "baseline" else "csa"
    found = beside(run("voc21", mode=mode, attention=attention))
    assert (found.method, found.miou) == (None, None)
