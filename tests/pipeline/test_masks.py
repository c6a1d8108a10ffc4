"""Masks as stages: what is computed again, from what, and that labels are those of the library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from sclip_core import SCLIP, UserError, propose_masks, read_image
from sclip_core.config import resolve, resolve_several
from sclip_core.masks import Proposals
from sclip_core.masks.sam import loading
from sclip_core.masks.sam.encoder import SamEncoder
from sclip_core.masks.sam.generator import MaskGenerator
from sclip_core.pipeline.inputs import Inputs
from sclip_core.pipeline.models import Models
from sclip_core.pipeline.pipeline import Finished, Pipeline, run_pipelines
from sclip_core.pipeline.run import Run

from ..conftest import TINY
from ..masks.sam.models import WIDTH, build, make
from .conftest import areas, computed, run

SUPERPIXELS = {"proposals": "felzenszwalb"}
DEMO = {"model": "sclip-demo", "pretrained": "scenes"}
WINDOWS = {"short_side": 192, "slide_crop": 48, "slide_stride": 24}
WINDOWS |= {"prob_thd": 0.0, "area_thd": 0.0}
SAM = {
    "proposals": "sam",
    "points_per_side": 4,
    "pred_iou_thresh": 0.5,
    "stability_score_thresh": 0.1,
    "box_nms_thresh": 1.0,
}


@pytest.fixture
def sam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings of a small SAM, whose checkpoint stands in for that of vit_b."""
    known = loading.CHECKPOINTS["vit_b"]._replace(width=WIDTH)
    monkeypatch.setitem(loading.CHECKPOINTS, "vit_b", known)
    monkeypatch.setattr(loading, "library", lambda: {"vit_b": build})
    path = tmp_path / "sam.pth"
    torch.save(make(seed=0).state_dict(), path)
    return {**SAM, "sam_checkpoint": path}


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Images that went through SAM's encoder, pass by pass."""
    seen: list[int] = []
    encode = SamEncoder.__call__

    def counted(self: SamEncoder, pixels: torch.Tensor) -> torch.Tensor:
        seen.append(len(pixels))
        return encode(self, pixels)

    monkeypatch.setattr(SamEncoder, "__call__", counted)
    return seen


def pipeline(artifacts: Path, data: Path, **settings: Any) -> Pipeline:
    given = {"dataset": "voc21", "data_root": data, "artifacts": artifacts, **TINY, **settings}
    return Pipeline.of(Run(resolve(**given)))


def masks_of(stages: Pipeline) -> dict[str, Proposals]:
    return {digest: stages.proposals.read(row) for digest, row in stages.proposals.rows().items()}


def alike(one: Proposals, other: Proposals) -> bool:
    same = one.counts == other.counts and (one.boxes == other.boxes).all()
    return bool(same and np.allclose(one.predicted_iou, other.predicted_iou, equal_nan=True))


def rerun(artifacts: Path, voc: Path, **settings: Any) -> set[str]:
    return set(computed(run(artifacts, voc, **settings)))


def test_each_setting_computes_what_reads_it(artifacts, voc):
    scored = {"hybrid", "metrics", "results"}
    assert rerun(artifacts, voc, **SUPERPIXELS) == {"proposals"} | scored
    assert rerun(artifacts, voc, **SUPERPIXELS) == set()
    assert rerun(artifacts, voc, **SUPERPIXELS, hybrid_rule="pool") == scored
    assert rerun(artifacts, voc, **SUPERPIXELS, hybrid_rule="crop") == {"crop_features"} | scored
    assert rerun(artifacts, voc, **SUPERPIXELS, pamr_steps=2) == {"refine"} | scored
    more = {"felzenszwalb_scale": 300}
    assert rerun(artifacts, voc, **SUPERPIXELS, **more) == {"proposals"} | scored
    assert rerun(artifacts, voc, **SUPERPIXELS, slic_segments=7) == set()
    assert rerun(artifacts, voc, proposals="slic") == {"proposals"} | scored
    assert rerun(artifacts, voc) == set()


def test_words_have_no_say_in_masks_and_crops(artifacts, voc):
    run(artifacts, voc, **SUPERPIXELS, mode="baseline")
    other = rerun(artifacts, voc, **SUPERPIXELS, mode="baseline", dataset="voc20")
    assert other == {"text_bank", "hybrid", "metrics", "results"}


def test_baseline_has_no_dense_stage(tmp_path, voc):
    finished = run(tmp_path, voc, **SUPERPIXELS, mode="baseline")
    named = ["text_bank", "proposals", "crop_features", "hybrid", "metrics", "results"]
    assert list(finished.outcomes) == named
    assert not (tmp_path / "dense_features").exists()


def test_baseline_takes_four_templates(tmp_path, voc):
    assert pipeline(tmp_path, voc, mode="baseline").text_bank.run.settings.template_set == "simple"
    keys = {
        pipeline(tmp_path, voc, mode=mode, templates=given).text_bank.key
        for mode, given in (("baseline", None), ("hybrid", "simple"), ("dense", "simple"))
    }
    assert len(keys) == 1
    assert pipeline(tmp_path, voc).text_bank.key not in keys


@pytest.mark.parametrize("rule", ["vote", "pool", "crop"])
def test_labels_are_those_of_the_library(tmp_path, voc, rule):
    tower = TINY if rule == "crop" else DEMO  # to which these pictures are not all of one class
    settings = {**SUPERPIXELS, "hybrid_rule": rule, "num_samples": 2, **tower, **WINDOWS}
    run(tmp_path, voc, **settings)
    stages = pipeline(tmp_path, voc, **settings)
    model = SCLIP.load(**tower, device="cpu")
    differ = 0.0
    for digest, sample in stages.hybrid.run.inputs.images.items():
        image = read_image(sample.image)
        masks = propose_masks(image, "felzenszwalb")
        alone = model.segment(image, "voc21", masks=masks, rule=rule, **WINDOWS).labels
        stored = stages.hybrid.read(stages.hybrid.rows()[digest])
        assert len(np.unique(stored)) > 1
        differ += (alone != stored).mean() / 2
    assert differ < 0.01  # the stored features are fp16


@pytest.mark.parametrize(
    ("mode", "rule"),
    [("hybrid", "vote"), ("hybrid", "pool"), ("hybrid", "crop"), ("baseline", "vote")],
)
def test_scale_is_for_prob_thd_alone(tmp_path, voc, mode, rule):
    """The reason why scales without prob_thd are one run, in every mode, area_thd or not."""
    maps = {}
    for threshold in (0, 0.5):
        for scale in (0.5, 200):
            given = {**SUPERPIXELS, "mode": mode, "hybrid_rule": rule, "num_samples": 2}
            given |= {"logit_scale": scale, "prob_thd": threshold, "area_thd": 0.1}
            run(tmp_path, voc, **given)
            stage = pipeline(tmp_path, voc, **given).hybrid
            labels = [stage.read(row).tobytes() for row in stage.rows().values()]
            maps[threshold, scale] = labels
    assert maps[0, 0.5] == maps[0, 200]
    assert maps[0.5, 0.5] != maps[0.5, 200]


def test_masks_are_queried_as_parquet(tmp_path, voc):
    run(tmp_path, voc, **SUPERPIXELS)
    stages = pipeline(tmp_path, voc, **SUPERPIXELS)
    table = pq.read_table(tmp_path / "proposals" / stages.proposals.key / "parts").to_pylist()
    by_image = masks_of(stages)
    assert len(table) == sum(len(masks) for masks in by_image.values())
    first = next(row for row in table if row["image"] == next(iter(by_image)))
    masks = by_image[first["image"]]
    assert first["counts"] == masks.counts[0].decode()
    assert first["area"] == masks.masks()[0].sum()
    assert (first["image_height"], first["image_width"]) == masks.size


def test_modes_in_one_table(artifacts, voc):
    given = {"dataset": "voc21", "data_root": voc, "artifacts": artifacts, **TINY, **SUPERPIXELS}
    several = resolve_several(
        **given, mode="dense,hybrid,baseline", hybrid_rule="vote,crop", attention="csa,vanilla"
    )
    points = [(s.mode, s.rule, s.attention if s.mode != "baseline" else "") for s in several]
    assert points == [
        ("dense", None, "csa"),
        ("dense", None, "vanilla"),
        ("hybrid", "vote", "csa"),
        ("hybrid", "vote", "vanilla"),
        ("hybrid", "crop", "csa"),
        ("hybrid", "crop", "vanilla"),
        ("baseline", "crop", ""),
    ]
    together = run_pipelines(Run.several(several))
    assert len({each.run_id for each in together}) == 7
    for settings, each in zip(several, together, strict=True):
        alone = run(
            artifacts,
            voc,
            **SUPERPIXELS,
            mode=settings.mode,
            hybrid_rule=settings.hybrid_rule,
            attention=settings.attention,
        )
        assert alone.run_id == each.run_id
        assert computed(alone) == {}
        assert each.row["mode"] == settings.mode
        assert each.row["hybrid_rule"] == settings.rule
        assert (each.row["proposals"] is None) == (settings.mode == "dense")


def nothing_found(image: np.ndarray) -> Proposals:
    return Proposals.of_masks(np.zeros((0, image.shape[1], image.shape[0]), np.bool_))


def left_half(image: np.ndarray) -> Proposals:
    mask = np.zeros((1, image.shape[1], image.shape[0]), np.bool_)
    mask[:, : image.shape[1] // 2] = True
    return Proposals.of_masks(mask)


@pytest.mark.parametrize("rule", ["vote", "pool", "crop"])
def test_without_masks_dense_labels_stay(artifacts, voc, monkeypatch, rule):
    monkeypatch.setattr(Models, "proposer", lambda self, shard=0: nothing_found)
    finished = run(artifacts, voc, **SUPERPIXELS, hybrid_rule=rule)
    dense = run(artifacts, voc)
    assert finished.row["num_images"] == 4
    scores = [(each.row["miou"], each.row["aacc"]) for each in (finished, dense)]
    assert scores[0] == scores[1]


def test_baseline_outside_of_masks(tmp_path, voc, monkeypatch):
    """Background where the words have one; else no label, which is wrong and of no class."""
    monkeypatch.setattr(Models, "proposer", lambda self, shard=0: left_half)
    for dataset in ("voc21", "voc20"):
        settings = {**SUPERPIXELS, "mode": "baseline", "dataset": dataset, "num_samples": 1}
        run(tmp_path / dataset, voc, **settings)
        stages = pipeline(tmp_path / dataset, voc, **settings)
        (row,) = stages.hybrid.rows().values()
        labels = stages.hybrid.read(row)
        outside = {"voc21": 0, "voc20": 255}[dataset]
        half = labels.shape[1] // 2
        assert (labels[:, half:] == outside).all()
        assert len(np.unique(labels[:, :half])) == 1
        truth = cv2.imread(str(stages.metrics.run.inputs.samples[0].label), cv2.IMREAD_UNCHANGED)
        evaluated = (truth != 255) & (truth != 0 if dataset == "voc20" else True)
        found = areas(tmp_path / dataset)
        assert sum(row["label"] for row in found) == evaluated.sum()
        said = evaluated if dataset == "voc21" else evaluated[:, :half]
        assert sum(row["prediction"] for row in found) == said.sum()


def test_pictures_have_outlines_and_no_label_is_hatched(tmp_path, voc, monkeypatch):
    monkeypatch.setattr(Models, "proposer", lambda self, shard=0: left_half)
    settings = {**SUPERPIXELS, "dataset": "voc20", "num_samples": 1}
    run(tmp_path, voc, **settings, mode="baseline", save_vis=tmp_path / "masks")
    run(tmp_path, voc, **settings, mode="dense", save_vis=tmp_path / "dense")
    pictures = [
        cv2.imread(str(next((tmp_path / name).rglob("*.png")))) for name in ("masks", "dense")
    ]
    yellow = [(np.abs(p.astype(int) - (10, 214, 255)).max(axis=2) < 3).sum() for p in pictures]
    assert yellow[0] > 100 > yellow[1]


def test_sam_and_other_thresholds(tmp_path, voc, sam, encoded):
    artifacts = tmp_path / "artifacts"
    run(artifacts, voc, **sam)
    assert sum(encoded) == 4
    masks = masks_of(pipeline(artifacts, voc, **sam))
    assert min(len(found) for found in masks.values()) > 1
    generator = pipeline(artifacts, voc, **sam).proposals.run.models.proposer()
    for digest, sample in pipeline(artifacts, voc, **sam).hybrid.run.inputs.images.items():
        assert alike(masks[digest], generator(read_image(sample.image)))
    encoded.clear()
    run(artifacts, voc, **{**sam, "pred_iou_thresh": 0.4})
    assert sum(encoded) == 4


def test_kept_embeddings_save_the_encoder(tmp_path, voc, sam, encoded):
    kept, plain = tmp_path / "kept", tmp_path / "plain"
    settings = {**sam, "crop_n_layers": 1}
    first = run(kept, voc, **settings, keep_embeddings=True)
    assert computed(first)["sam_embeddings"] == 4
    assert sum(encoded) == 4 * 5
    encoded.clear()
    other = {**settings, "pred_iou_thresh": 0.4, "points_per_side": 3}
    assert rerun(kept, voc, **other) == {"proposals", "hybrid", "metrics", "results"}
    assert encoded == []
    run(plain, voc, **other)
    of_kept, of_plain = (
        masks_of(pipeline(kept, voc, **other)),
        masks_of(pipeline(plain, voc, **other)),
    )
    assert all(alike(of_kept[digest], of_plain[digest]) for digest in of_plain)


def test_damaged_embeddings_are_no_harm(tmp_path, voc, sam, encoded):
    run(tmp_path, voc, **sam, keep_embeddings=True)
    for chunk in (tmp_path / "sam_embeddings").rglob("c/*"):
        if chunk.is_file():
            chunk.write_bytes(b"\0" * chunk.stat().st_size)
    encoded.clear()
    finished = run(tmp_path, voc, **{**sam, "pred_iou_thresh": 0.4})
    assert (finished.row["num_images"], sum(encoded)) == (4, 4)


def test_forced_masks_are_made_anew(tmp_path, voc, sam, encoded):
    run(tmp_path, voc, **sam)
    encoded.clear()
    again = run(tmp_path, voc, **sam, force=("proposals",))
    assert set(computed(again)) == {"proposals", "hybrid", "metrics", "results"}
    assert sum(encoded) == 4


def test_shards_share_an_artifact(tmp_path, voc):
    run(tmp_path / "whole", voc, **SUPERPIXELS)
    stages = pipeline(tmp_path / "parts", voc, **SUPERPIXELS)
    for shard in range(3):
        own = [d for d in stages.proposals.wanted() if int(d[:15], 16) % 3 == shard]
        assert stages.proposals.execute(shard, 3).computed == len(own)
    whole, parts = masks_of(pipeline(tmp_path / "whole", voc, **SUPERPIXELS)), masks_of(stages)
    assert whole.keys() == parts.keys()
    assert all(alike(whole[digest], parts[digest]) for digest in whole)


def test_points_per_batch_has_no_say(tmp_path, voc, sam):
    one = pipeline(tmp_path, voc, **sam, points_per_batch=3).proposals
    assert one.run.models.proposer().points_at_once == 3
    assert one.key == pipeline(tmp_path, voc, **sam).proposals.key


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sam_checkpoint": "no/such.pth"}, "no/such.pth does not exist"),
        ({"sam_model": "vit_l"}, "is SAM's vit_b, not vit_l: pass --sam-model vit_b"),
    ],
)
def test_wrong_weights_are_found_before_anything_is_computed(tmp_path, voc, sam, settings, said):
    artifacts = tmp_path / "artifacts"
    with pytest.raises(UserError, match=said):
        run(artifacts, voc, **{**sam, **settings})
    assert not list(artifacts.glob("*/*/ledger.jsonl"))


def test_torn_weights_are_found_before_anything_is_computed(tmp_path, voc, sam):
    whole = sam["sam_checkpoint"].read_bytes()
    sam["sam_checkpoint"].write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="torn"):
        run(tmp_path / "artifacts", voc, **sam)
    assert not list((tmp_path / "artifacts").glob("*/*/ledger.jsonl"))


def test_a_stage_that_the_run_lacks_cannot_be_forced(tmp_path, voc):
    with pytest.raises(
        UserError, match="--force proposals without --use-sam: the run has no such stage"
    ):
        run(tmp_path, voc, force=("proposals",))


def test_an_image_that_cannot_be_read_is_left_out(tmp_path, voc, monkeypatch):
    broken = Inputs.image

    def image(self: Inputs, digest: str) -> Any:
        if digest == next(iter(self.images)):
            raise UserErrorOfImage("cannot be decoded")
        return broken(self, digest)

    from sclip_core import ImageError as UserErrorOfImage

    monkeypatch.setattr(Inputs, "image", image)
    finished: Finished = run(tmp_path, voc, **SUPERPIXELS)
    assert (finished.row["num_images"], finished.row["num_failed"]) == (3, 1)


def test_generator_is_what_is_opened(tmp_path, voc, sam):
    assert isinstance(pipeline(tmp_path, voc, **sam).proposals.run.models.proposer(), MaskGenerator)


def test_every_setting_that_changes_masks_is_in_the_key(tmp_path, voc, sam):
    """Mended masks go through NMS once more, by the larger of two thresholds."""
    mended = {**sam, "min_mask_region_area": 30}
    keys = {pipeline(tmp_path, voc, **mended, crop_nms_thresh=t).proposals.key for t in (0.5, 1.0)}
    assert len(keys) == 2
    keys = {pipeline(tmp_path, voc, **sam, crop_nms_thresh=t).proposals.key for t in (0.5, 1.0)}
    assert len(keys) == 1


@pytest.mark.parametrize("kept", [False, True])
def test_embeddings_that_are_not_finite_leave_the_image_out(tmp_path, voc, sam, kept):
    state = torch.load(sam["sam_checkpoint"])
    state["image_encoder.patch_embed.proj.bias"][0] = 3e38  # finite, and its square is not
    torch.save(state, sam["sam_checkpoint"])
    with pytest.raises(UserError, match="not finite"):
        run(tmp_path / "artifacts", voc, **sam, keep_embeddings=kept)
    assert not masks_of(pipeline(tmp_path / "artifacts", voc, **sam))


@pytest.mark.parametrize("kept", [False, True])
def test_an_image_too_thin_for_sam_has_no_masks(tmp_path, sam, kept):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    cv2.imwrite(str(tmp_path / "images/a.png"), np.full((1, 900, 3), 128, np.uint8))
    cv2.imwrite(str(tmp_path / "labels/a.png"), np.zeros((1, 900), np.uint8))
    (tmp_path / "classes.txt").write_text("wall\nfloor\n")
    own = {"images": tmp_path / "images", "labels": tmp_path / "labels"}
    given = {**own, "classes": tmp_path / "classes.txt", "artifacts": tmp_path / "artifacts"}
    settings = resolve(**given, **TINY, **sam, keep_embeddings=kept, mode="baseline")
    (finished,) = run_pipelines([Run(settings)])
    assert (finished.row["num_images"], finished.row["aacc"]) == (1, 0.0)


def test_a_stage_of_one_mode_can_be_forced_for_several(artifacts, voc):
    given = {"dataset": "voc21", "data_root": voc, "artifacts": artifacts, **TINY, **SUPERPIXELS}
    several = resolve_several(**given, mode="dense,hybrid", force="proposals")
    dense, hybrid = run_pipelines(Run.several(several))
    assert "refine" not in computed(dense)
    assert computed(hybrid)["proposals"] == 4


def test_what_was_left_out_is_not_scored_by_an_older_row(tmp_path, voc, monkeypatch):
    run(tmp_path, voc, **SUPERPIXELS)
    for part in (tmp_path / "proposals").rglob("*.parquet"):
        part.write_bytes(part.read_bytes()[:40])
    with monkeypatch.context() as patched:  # they cannot be made again either
        patched.setattr("sclip_core.pipeline.mending.Mending.possible", lambda *_: False)
        with pytest.raises(UserError, match=r"missing or damaged.*--force proposals"):
            run(tmp_path, voc, **SUPERPIXELS, force=("hybrid",))
    mended = run(tmp_path, voc, **SUPERPIXELS, force=("proposals",))
    assert mended.row["num_images"] == 4


def test_the_row_of_a_run_has_what_it_read(artifacts, voc, sam):
    row = run(artifacts, voc, **sam, mode="baseline").row
    assert len(row["sam_sha256"]) == 64
    assert row["points_per_side"] == 4
    assert row["templates"] == "simple"
    unread = ("attention", "pamr_steps", "slide_crop", "slic_segments", "crop_overlap_ratio")
    assert [row[name] for name in unread] == [None] * len(unread)
    dense = run(artifacts, voc).row
    assert (dense["sam_sha256"], dense["proposals"], dense["mode"]) == (None, None, "dense")


@pytest.mark.parametrize("name", ["hybrid_rule", "points_per_side", "keep_embeddings"])
def test_settings_of_masks_without_masks(name):
    with pytest.raises(UserError, match="is for masks, and none are asked for: add --use-sam"):
        resolve(dataset="voc21", **{name: {"hybrid_rule": "pool"}.get(name, 1)})


def test_misfit_weights_are_found_before_anything_is_computed(tmp_path, voc, sam):
    state = torch.load(sam["sam_checkpoint"])
    del state["image_encoder.blocks.1.norm1.weight"]
    torch.save(state, sam["sam_checkpoint"])
    with pytest.raises(UserError, match="does not fit SAM's vit_b: Missing key"):
        run(tmp_path / "artifacts", voc, **sam)
    assert not list((tmp_path / "artifacts").glob("*/*/ledger.jsonl"))
