"""The literature's figures, and when a run may be put beside them."""

from __future__ import annotations

import pytest

from sclip_core import results
from sclip_core.config import tables
from sclip_core.config.methods import method_table
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


REPORTED = """
sc-clip      64.6 36.8 37.7 84.3 41.0 40.1 20.1 26.6
pearl        64.1 35.1 37.3 86.9 37.6 38.6 19.4 26.3
resclip      61.1 33.5 35.0 86.0 35.9 36.8 18.0 24.7
proxyclip    61.3 35.3 37.5 80.3 38.1 39.1 20.2 26.5
trident      67.1 38.6 41.1 84.5 42.9 42.2 21.9 28.3
corrclip     72.2 41.6 40.7 88.7 44.6 47.1 23.7 30.7
ov-stitcher  75.7 43.9 42.6 89.8 48.1 48.8 24.7 31.8
"""  # as METHODS has them: voc21, context60, coco_object, voc20, cityscapes, context59, ...
IN_ORDER = ("voc21", "context60", "coco_object", "voc20", "cityscapes", "context59", "ade20k",
            "coco_stuff")  # fmt: skip


def by_method(dataset: str, method: str, **others: object) -> dict[str, object]:
    """A row of ``runs`` of a method by its protocol for a benchmark."""
    protocol = benchmark_protocol(dataset, method)
    protocol["after"] = ",".join(protocol.get("after", [])) or None
    second = method_table()[method].get("second")
    own = {"attention": None, "proxy_model": second, "proposals": "sam", "sam_model": "vit_h"}
    return {**run(dataset, **{**own, **protocol}), **others}


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
        assert row["key"] is None or (row["attention"] is None and row["key"] in method_table())
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


@pytest.mark.parametrize("line", REPORTED.strip().splitlines())
def test_a_run_by_a_method_is_beside_its_figure(line):
    method, *figures = line.split()
    for dataset, figure in zip(IN_ORDER, map(float, figures), strict=True):
        found = beside(by_method(dataset, method))
        assert found.miou == figure
        of_settings = [caveat for caveat in found.caveats if "theirs: SAM 2" not in caveat]
        assert not any("(theirs:" in caveat for caveat in of_settings), found.caveats
    assert beside(by_method("context60", "sc-clip")).caveats == ()


@pytest.mark.parametrize(
    ("method", "caveats"),
    [
        ("sc-clip", ()),
        ("itaclip", ("without ITACLIP's auxiliary texts and its longer vocabularies",)),
        ("proxyclip", ("published with one word for each class but the background",)),
        ("trident", ("without SAM's refinement of the labels", "published with one word")),
        ("corrclip", (r"masks by SAM vit_h \(theirs: SAM 2\)", "published with one word")),
        ("ov-stitcher", ("theirs: SAM 2", "without its sentences for classes", "one word")),
        ("gem", ("not of GEM's own code",)),
    ],
)
def test_what_a_method_lacks_here_is_said(method, caveats):
    import re

    found = beside(by_method("voc21", method, templates="photo" if method == "gem" else "openai"))
    assert len(found.caveats) == len(caveats), found.caveats
    assert all(map(re.search, caveats, found.caveats))


@pytest.mark.parametrize(
    ("method", "others", "caveat"),
    [
        ("sc-clip", {"short_side": 448}, "short_side 448 (theirs: 336)"),
        ("sc-clip", {"parameters": "beta=0.5"}, "parameters beta=0.5 (theirs: none)"),
        ("sc-clip", {"pamr_steps": 10}, "pamr_steps 10 (theirs: 0)"),
        ("pearl", {"refiner": None}, "refiner pamr (theirs: tlp)"),
        ("resclip", {"parameters": None},
         "parameters none (theirs: l_r=0.3 tau_s=2.2 temp_thd=0.5)"),
        ("itaclip", {"after": None}, "after none (theirs: closing)"),
        ("proxyclip", {"proxy_model": "dinov2_vitb14"},
         "second network dinov2_vitb14 (theirs: dino_vitb8)"),
        ("proxyclip", {"proxy_weights": "a.pth"},
         "the second network's weights of an unknown file (a.pth)"),
    ],
)  # fmt: skip
def test_other_settings_than_the_methods_are_said(method, others, caveat):
    usual = beside(by_method("voc21", method)).caveats
    found = beside(by_method("voc21", method, **others)).caveats
    assert sorted({*found} - {*usual}) == [caveat]


def test_a_method_without_a_figure_of_this_benchmark():
    found = beside(by_method("voc21", "gla-clip"))
    assert (found.method, found.miou, found.caveats) == (None, None, ())


def test_runs_stand_among_the_published_figures():
    """Those by a method and those by an attention, which has none."""
    from flows.cli.listing import ladders

    named = [run(method=None, run_id="one", miou=50.0), by_method("voc21", "sc-clip")]
    named[1] |= {"run_id": "two", "miou": 99.0}
    (table,) = ladders(named)
    cells = list(table.columns[1].cells)
    assert cells[0] == "> two"
    assert "> one" in cells[1:-1]


@pytest.mark.parametrize(
    ("others", "caveat"),
    [
        ({"split": "train"}, "split train"),
        ({"images_list": "some.txt"}, "images of some.txt"),
    ],
)
def test_other_images_are_said(others, caveat):
    assert caveat in beside(run(**others)).caveats
    assert beside(run(split="val", images_list=None)).caveats == beside(run()).caveats
