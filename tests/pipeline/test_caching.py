"""What runs again after a change, by the states that a run reports."""

from __future__ import annotations

import os
import shutil

import cv2
import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from sclip_core.config import resolve
from sclip_core.pipeline import models
from sclip_core.pipeline.pipeline import run_pipeline
from sclip_core.pipeline.run import Run
from sclip_core.pipeline.stages import encoding
from sclip_core.progress import LineReporter

from ..conftest import GOLDEN, TINY
from .conftest import areas, computed, run, write_voc

BELOW_REFINE = {"refine": 4, "metrics": 4, "results": 1}
ALL_BUT_WORDS = {"dense_features": 4, **BELOW_REFINE}


def test_first_run_computes_everything(finished_once):
    _, finished = finished_once
    assert computed(finished) == {"text_bank": 56, **ALL_BUT_WORDS}


def test_nothing_changed(artifacts, voc, finished_once):
    again = run(artifacts, voc)
    assert computed(again) == {}
    assert {o.state for o in again.outcomes.values()} == {"cached"}
    assert sum(o.seconds for o in again.outcomes.values()) < 2
    assert again.row == finished_once[1].row


@pytest.mark.parametrize(
    "change",
    [
        {"pamr_steps": 2},
        {"logit_scale": 50},
        {"prob_thd": 0.3},
        {"area_thd": 0.02},
    ],
)
def test_refinement_settings(artifacts, voc, change):
    assert computed(run(artifacts, voc, **change)) == BELOW_REFINE


def test_dilations(artifacts, voc):
    run(artifacts, voc, pamr_steps=2)
    assert computed(run(artifacts, voc, pamr_steps=2, pamr_dilations=(1, 2))) == BELOW_REFINE


def test_dilations_without_steps_change_nothing(artifacts, voc):
    assert computed(run(artifacts, voc, pamr_dilations=(1, 2))) == {}


def test_a_class_word(artifacts, voc, tmp_path):
    from sclip_core.datasets.vocabulary import BUILT_IN

    words = (BUILT_IN / "voc21.txt").read_text().replace("aeroplane", "airplane")
    (tmp_path / "words.txt").write_text(words)
    again = run(artifacts, voc, classes=tmp_path / "words.txt")
    assert computed(again) == {"text_bank": 56, **BELOW_REFINE}


def test_voc20_after_voc21_encodes_no_image(artifacts, voc):
    again = run(artifacts, voc, dataset="voc20")
    assert computed(again) == {"text_bank": 30, **BELOW_REFINE}


def test_more_samples_add_rows(tmp_path, voc):
    root = tmp_path / "artifacts"
    assert computed(run(root, voc, num_samples=2))["dense_features"] == 2
    more = run(root, voc, num_samples=4)
    assert computed(more) == {"dense_features": 2, "refine": 2, "metrics": 2, "results": 1}
    assert more.row["num_images"] == 4
    for ledger in root.glob("*/*/ledger.jsonl"):
        ids = [line.count('"id"') for line in ledger.read_text().splitlines()]
        assert sum(ids) == (56 if "text_bank" in str(ledger) else 4)


@pytest.mark.parametrize(
    "change",
    [
        {"attention": "vanilla"},
        {"attention": "csa:reduced"},
        {"short_side": 224},
        {"slide_crop": 192},
        {"slide_crop": 0},
        {"slide_stride": 96},
        {"dtype": "bf16"},
    ],
)
def test_what_the_encoder_sees(artifacts, voc, change):
    assert computed(run(artifacts, voc, **change)) == ALL_BUT_WORDS


def test_other_weights(artifacts, voc, tmp_path):
    state = load_file(GOLDEN / "tiny_clip.safetensors")
    state["visual.proj"] = state["visual.proj"] * 1.5
    save_file(state, tmp_path / "other.safetensors")
    again = run(artifacts, voc, pretrained=str(tmp_path / "other.safetensors"))
    assert computed(again) == {"text_bank": 56, **ALL_BUT_WORDS}


def test_other_architecture(artifacts, voc, tmp_path):
    text = (
        (GOLDEN / "tiny_clip.json").read_text().replace('"quick_gelu": true', '"quick_gelu": false')
    )
    (tmp_path / "gelu.json").write_text(text)
    again = run(artifacts, voc, model=str(tmp_path / "gelu.json"))
    assert computed(again) == {"text_bank": 56, **ALL_BUT_WORDS}


def test_copies_of_the_model_elsewhere_change_nothing(artifacts, voc, tmp_path):
    for name in ("tiny_clip.json", "tiny_clip.safetensors"):
        shutil.copy(GOLDEN / name, tmp_path / f"renamed_{name}")
    again = run(
        artifacts,
        voc,
        model=str(tmp_path / "renamed_tiny_clip.json"),
        pretrained=str(tmp_path / "renamed_tiny_clip.safetensors"),
    )
    assert computed(again) == {}


@pytest.mark.parametrize(
    "change", [{"batch_size": 3}, {"device": "cpu"}, {"workers": 0}, {"shards": 2}]
)
def test_how_it_is_computed(artifacts, voc, change):
    assert computed(run(artifacts, voc, **change)) == {}


def test_artifacts_moved(artifacts, voc, tmp_path):
    moved = tmp_path / "elsewhere" / "store"
    moved.parent.mkdir()
    shutil.move(artifacts, moved)
    assert computed(run(moved, voc)) == {}


def test_dataset_on_another_disk(artifacts, voc, tmp_path):
    assert computed(run(artifacts, shutil.copytree(voc, tmp_path / "copy"))) == {}


def test_ground_truth_changed(artifacts, voc, tmp_path):
    copy = shutil.copytree(voc, tmp_path / "copy")
    path = copy / "SegmentationClass" / "2026_000001.png"
    label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    label[10:60, 10:60] = 7
    cv2.imwrite(str(path), label)
    again = run(artifacts, copy)
    assert computed(again) == {"metrics": 1, "results": 1}


def test_image_changed(artifacts, voc, tmp_path):
    copy = shutil.copytree(voc, tmp_path / "copy")
    path = copy / "JPEGImages" / "2026_000001.jpg"
    cv2.imwrite(str(path), 255 - cv2.imread(str(path)))
    again = run(artifacts, copy)
    assert computed(again) == {"dense_features": 1, "refine": 1, "metrics": 1, "results": 1}


@pytest.mark.parametrize(
    ("stage", "again"),
    [
        ("text_bank", {"text_bank": 56, **BELOW_REFINE}),
        ("dense_features", ALL_BUT_WORDS),
        ("refine", BELOW_REFINE),
        ("metrics", {"metrics": 4, "results": 1}),
        ("results", {"results": 1}),
    ],
)
def test_force(artifacts, voc, stage, again):
    before = areas(artifacts)
    assert computed(run(artifacts, voc, force=(stage,))) == again
    assert areas(artifacts) == before


def test_two_names_for_one_image(tmp_path):
    data = write_voc(tmp_path / "VOC2012", 2)
    for folder, ending in (("JPEGImages", "jpg"), ("SegmentationClass", "png")):
        shutil.copy(data / folder / f"2026_000000.{ending}", data / folder / f"twin.{ending}")
    (data / "ImageSets/Segmentation/val.txt").write_text("2026_000000\n2026_000001\ntwin\n")
    finished = run(tmp_path / "artifacts", data)
    assert computed(finished) == {
        "text_bank": 56, "dense_features": 2, "refine": 2, "metrics": 2, "results": 1
    }  # fmt: skip
    assert finished.row["num_images"] == 3
    by_image = [row["image_id"] for row in areas(tmp_path / "artifacts")]
    assert by_image.count("twin") == by_image.count("2026_000000") > 0


def test_sharded_run_gives_the_same(tmp_path, voc, finished_once):
    from sclip_core.config import resolve
    from sclip_core.pipeline.pipeline import run_pipeline
    from sclip_core.pipeline.run import Run

    from ..conftest import TINY

    root = tmp_path / "artifacts"
    settings = resolve(dataset="voc21", data_root=voc, artifacts=root, shards=3, **TINY)

    def in_shards(stage):
        for shard in range(3 if stage.shardable else 1):
            stage.execute(shard, 3 if stage.shardable else 1)

    finished = run_pipeline(Run(settings), in_shards)
    assert computed(finished) == {"text_bank": 56, **ALL_BUT_WORDS}
    assert areas(root) == areas(finished_once[0])


def test_no_model_is_loaded_for_pamr_alone(artifacts, voc, monkeypatch):
    import sclip_core.pipeline.models as module

    monkeypatch.setattr(module, "CLIP", None)
    assert computed(run(artifacts, voc, pamr_steps=1)) == BELOW_REFINE


def test_labels_equal_the_single_image_api(artifacts, voc, tiny):
    """The stages run what ``SCLIP.segment`` runs; only the features are rounded to fp16."""
    from sclip_core import read_image
    from sclip_core.config import resolve
    from sclip_core.pipeline.pipeline import Pipeline
    from sclip_core.pipeline.run import Run

    from ..conftest import TINY

    settings = resolve(dataset="voc21", data_root=voc, artifacts=artifacts, **TINY)
    labels = Pipeline.of(Run(settings)).refine
    rows = labels.rows()
    for digest, sample in labels.run.inputs.images.items():
        single = tiny.segment(read_image(sample.image), protocol="voc21").labels
        assert np.mean(single == labels.read(rows[digest])) > 0.999
    assert os.path.isdir(labels.artifact.path)


def test_an_edited_policy_is_computed_again(artifacts, voc, tmp_path, monkeypatch):
    """Its code is in the key: as it was before, its old features are found again."""
    import sclip_core.encoder.attention as module

    monkeypatch.setattr(module, "POLICIES", dict(module.POLICIES))
    source = "def mine(q, k, v, grid):\n    k *= {}\n    return v + k\n"

    def ran(factor: int):
        scope = {"__name__": "own_attention"}
        exec(source.format(factor), scope)
        module.policy("mine")(scope["mine"])
        return run(artifacts, voc, attention="mine")

    first = ran(1)
    assert computed(first) == ALL_BUT_WORDS
    assert computed(ran(1)) == {}
    other = ran(3)
    assert computed(other) == ALL_BUT_WORDS
    assert other.row["run_id"] != first.row["run_id"]
    assert ran(1).row == first.row


def test_a_policy_that_writes_spoils_no_other(artifacts, voc, tmp_path, monkeypatch, finished_once):
    """In one pass, before the built-in one: whose figures and run id are those of its own run."""
    import sclip_core.encoder.attention as module
    from sclip_core.config import resolve_several
    from sclip_core.pipeline.pipeline import run_pipelines
    from sclip_core.pipeline.run import Run

    from ..conftest import TINY

    monkeypatch.setattr(module, "POLICIES", dict(module.POLICIES))

    @module.policy("spoils")
    def spoils(q, k, v, grid):
        k *= 3
        return v.mul_(2).add_(q.zero_())

    given = {"dataset": "voc21", "data_root": voc, "artifacts": tmp_path / "new", **TINY}
    _, csa = run_pipelines(Run.several(resolve_several(**given, attention="spoils,csa")))
    row = finished_once[1].row
    assert (csa.row["run_id"], csa.row["miou"]) == (row["run_id"], row["miou"])
    mine = [row for row in areas(tmp_path / "new") if row["run_id"] == csa.row["run_id"]]
    assert mine == areas(artifacts)


@pytest.mark.parametrize(
    ("many", "dtype", "times"), [(1, "auto", 1), (1, "fp32", 0), (9, "auto", 0)]
)
def test_a_run_of_many_images_says_what_bf16_would_save(
    voc, tmp_path, monkeypatch, many, dtype, times
):
    monkeypatch.setattr(encoding, "MANY", many)
    monkeypatch.setattr(models, "advice", lambda asked, _: "take it" if asked == "auto" else None)
    said = []
    given = {"dataset": "voc21", "data_root": voc, "artifacts": tmp_path, **TINY, "dtype": dtype}
    settings = resolve(**given, shards=2)
    run_pipeline(Run(settings, LineReporter(said.append)))
    assert [line for line in said if "take it" in line] == ["note: take it"] * times
