"""Images without ground truth: segmented, saved and kept like any others, but not scored."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sclip_core import SCLIP, UserError, read_image
from sclip_core.config import resolve, resolve_several
from sclip_core.pipeline.pipeline import Finished, Pipeline, run_pipeline, run_pipelines
from sclip_core.pipeline.run import Run

from ..conftest import TINY
from ..pictures import scene
from .conftest import computed

WORDS = ["sky", "grass, lawn", "road"]
DENSE = ["text_bank", "dense_features", "refine"]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """``images/`` with two pictures, one in a subfolder, and ``classes.txt``."""
    for number, name in enumerate(("a", "sub/b")):
        target = tmp_path / "images" / f"{name}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target), scene(number)[0][150:214, 100:180])
    (tmp_path / "classes.txt").write_text("\n".join(WORDS))
    return tmp_path


def settings(own: Path, **others: Any) -> dict[str, Any]:
    """What a run over the images is given; label maps are not."""
    paths = {"images": own / "images", "classes": own / "classes.txt"}
    places = {"artifacts": own / "artifacts", "save_vis": own / "out"}
    return {**paths, **places, **TINY, "prob_thd": 0, **others}


def run(own: Path, **others: Any) -> Finished:
    return run_pipeline(Run(resolve(**settings(own, **others))))


def read_map(path: Path) -> NDArray[Any]:
    return np.array(Image.open(path))


def files_below(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_label_maps_are_those_of_the_library(own, tiny: SCLIP):
    run(own)
    for name in ("a", "sub/b"):
        saved = read_map(own / f"out/labels/{name}.png")
        expected = tiny.segment(
            read_image(own / f"images/{name}.png"), classes=[w.split(", ") for w in WORDS]
        )
        assert saved.dtype == np.uint8
        assert len(np.unique(saved)) > 1
        assert (saved == expected.labels).mean() > 0.999  # features are kept in fp16


def test_nothing_is_scored(own):
    finished = run(own)
    assert list(finished.outcomes) == DENSE
    assert (finished.run_id, finished.path, finished.row, finished.classes) == (None, None, {}, [])
    assert (finished.num_images, finished.pictures) == (2, own / "out")
    assert not (own / "artifacts/results").exists()
    assert not (own / "artifacts/metrics").exists()
    saved = ["a.png", "labels/a.png", "labels/sub/b.png", "sub/b.png"]
    assert files_below(own / "out") == saved


def test_pictures_have_no_column_for_the_truth(own):
    """A third of the way from two pictures side by side to three."""
    run(own)
    shutil.copytree(own / "out/labels", own / "labels")
    run(own, labels=own / "labels", save_vis=own / "scored")
    wide, narrow = (Image.open(own / place / "a.png").width for place in ("scored", "out"))
    assert narrow < 0.8 * wide


def test_again_is_cached_and_labels_that_come_later_reuse_all(own):
    assert set(computed(run(own))) == set(DENSE)
    assert computed(run(own)) == {}
    shutil.copytree(own / "out/labels", own / "labels")
    later = run(own, labels=own / "labels", save_vis=None)
    assert computed(later) == {"metrics": 2, "results": 1}
    assert later.row["aacc"] == 100.0  # value k of a saved map is class k
    assert computed(run(own)) == {}


@pytest.mark.parametrize("rule", ["vote", "crop"])
def test_masks(own, rule):
    finished = run(own, proposals="felzenszwalb", hybrid_rule=rule)
    assert list(finished.outcomes)[-1] == "hybrid"
    saved = np.array(Image.open(own / "out/a.png").convert("RGB"), int)
    plain = run(own, save_vis=own / "dense")
    assert plain.outcomes["refine"].state == "cached"
    dense = np.array(Image.open(own / "dense/a.png").convert("RGB"), int)
    yellow = [((p == (255, 214, 10)).all(axis=2)).sum() for p in (saved, dense)]
    assert yellow[0] > 20 > yellow[1]  # outlines, on the image of masks alone


def test_the_baseline_marks_pixels_without_a_label(own):
    """Pixels that no mask covers are 255; small superpixels are dropped, so there are such."""
    some = {"proposals": "felzenszwalb", "min_mask_region_area": 400}
    stages = Pipeline.of(Run(resolve(**settings(own, **some, mode="baseline"))))
    run_pipelines([stages.run])
    for sample, digest in zip(
        stages.run.inputs.samples, stages.run.inputs.image_digests, strict=True
    ):
        masks = stages.proposals.read(stages.proposals.rows()[digest])
        covered = masks.masks().any(axis=0)
        saved = read_map(own / f"out/labels/{sample.image_id}.png")
        assert ((saved == 255) == ~covered).all()
        assert saved[covered].max(initial=0) < len(WORDS)


@pytest.mark.parametrize(("classes", "dtype"), [(256, np.uint8), (257, np.uint16)])
@pytest.mark.parametrize("masks", [{}, {"proposals": "felzenszwalb"}])
@pytest.mark.slow
def test_values_of_many_classes(own, classes, dtype, masks):
    (own / "classes.txt").write_text("\n".join(f"thing {n}" for n in range(classes)))
    stages = Pipeline.of(Run(resolve(**settings(own, **masks))))
    run_pipelines([stages.run])
    saved = read_map(own / "out/labels/a.png")
    assert saved.dtype == dtype
    row = stages.labels.rows()[stages.run.inputs.image_digests[0]]
    assert (saved == stages.labels.read(row)).all()


def test_several_lie_apart(own):
    given = settings(own, attention="csa,vanilla", pamr_steps="0,2")
    finished = run_pipelines(Run.several(resolve_several(**given)))
    folders = sorted(path.name for path in (own / "out").iterdir())
    assert folders == sorted(each.pictures.name for each in finished)
    assert len(folders) == 4
    maps = [read_map(own / "out" / folder / "labels/a.png") for folder in folders]
    assert any((maps[0] != other).any() for other in maps[1:])
    again = run_pipelines(Run.several(resolve_several(**given)))
    assert [each.pictures for each in again] == [each.pictures for each in finished]


def test_copies_get_a_picture_each(own):
    shutil.copy(own / "images/a.png", own / "images/copy.png")
    finished = run(own)
    assert computed(finished)["refine"] == 2
    assert finished.num_images == 3
    assert (read_map(own / "out/labels/copy.png") == read_map(own / "out/labels/a.png")).all()


def test_a_bad_image_is_left_out_and_named(own):
    (own / "images/None.png").write_bytes(b"no image")
    (own / "images/z.png").symlink_to("nowhere")
    finished = run(own)
    assert set(finished.failures) == {"None", "z"}
    assert all(str(own / "images") in said for said in finished.failures.values())
    assert finished.num_images == 2
    assert "None.png" not in files_below(own / "out")


def test_no_image_that_can_be_used(own):
    for path in (own / "images").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"none of 2 images could be used: .*is empty"):
        run(own)


@pytest.mark.parametrize("stage", ["metrics", "results"])
def test_stages_of_scores_cannot_be_forced(own, stage):
    with pytest.raises(UserError, match=rf"--force {stage} without --labels: .* has text_bank,"):
        run(own, force=(stage,))


def test_nowhere_to_save(own):
    with pytest.raises(UserError, match=r"nowhere to save: pass --save-vis DIR \(or --labels DIR"):
        run(own, save_vis=None)
    assert not (own / "artifacts").exists()


@pytest.mark.parametrize("place", ["images", "images/out", "link/out"])
def test_images_are_not_written_over(own, place):
    (own / "link").symlink_to(own / "images")
    before = files_below(own / "images")
    with pytest.raises(UserError, match="lie in each other"):
        run(own, save_vis=own / place)
    assert files_below(own / "images") == before


def test_images_in_a_folder_called_labels(own):
    os.rename(own / "images", own / "labels")
    with pytest.raises(UserError, match="lie in each other"):
        run(own, images=own / "labels", save_vis=own)
    assert computed(run(own, images=own / "labels"))["refine"] == 2


def test_a_picture_and_a_label_map_of_one_name(own):
    (own / "images/labels").mkdir()
    shutil.copy(own / "images/a.png", own / "images/labels/a.png")
    with pytest.raises(UserError, match=r"picture of labels/a and the label map of a would both"):
        run(own)


def test_there_is_no_ground_truth_to_ask_for(own):
    opened = Run(resolve(**settings(own))).inputs
    assert all(sample.label is None for sample in opened.samples)
    assert opened.label_digests == []
    with pytest.raises(UserError, match="no ground truth: pass --labels DIR"):
        opened.ground_truth(opened.samples[0])
