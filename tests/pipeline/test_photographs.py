"""Real photographs with ground truth, in the three layouts that are at hand.

The weights are random: what is tested is the way from files to Parquet, not a score.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.classification import MulticlassJaccardIndex

from sclip_core.config import resolve
from sclip_core.pipeline.pipeline import Pipeline, run_pipeline
from sclip_core.pipeline.run import Run

from ..conftest import TINY

LAYOUTS = {
    "voc21": {"dataset": "voc21", "data_root": "VOCdevkit"},
    "voc20": {"dataset": "voc20", "data_root": "VOCdevkit/VOC2012"},
    "coco_object": {"dataset": "coco-object", "data_root": "coco_object", "num_samples": 5},
    "camvid": {
        "dataset": "camvid",
        "images": "camvid/images",
        "labels": "camvid/labels",
        "classes": "camvid/classes.txt",
        "ignore_label": (255, 11),
        "num_samples": 5,
    },
}
PATHS = ("data_root", "images", "labels", "classes")


def settings(photographs, layout, artifacts, **others):
    given = {
        name: photographs / value if name in PATHS else value
        for name, value in LAYOUTS[layout].items()
    }
    return resolve(**{**given, **TINY, "artifacts": artifacts, **others})


def truth(run: Run, sample) -> np.ndarray:
    """Ground truth with 255 where it is not evaluated, in the most obvious way."""
    raw = np.array(Image.open(sample.label)).astype(int)
    if run.settings.reduce_zero_label:
        return np.where((raw == 0) | (raw == 255), 255, raw - 1)
    return np.where(np.isin(raw, run.settings.ignore_label), 255, raw)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_scores(photographs, tmp_path, layout):
    run = Run(settings(photographs, layout, tmp_path))
    finished = run_pipeline(run)
    assert not finished.failures
    assert finished.row["num_images"] == (7 if "voc" in layout else 5)
    labels = Pipeline.of(run).refine
    rows = labels.rows()
    num_classes = run.inputs.dataset.vocabulary.num_classes
    metric = MulticlassJaccardIndex(num_classes, average="none", ignore_index=255)
    for digest, sample in run.inputs.images.items():
        prediction = torch.from_numpy(labels.read(rows[digest]).astype(int))
        metric.update(prediction[None], torch.from_numpy(truth(run, sample))[None])
    expected = 100 * metric.compute().numpy()
    defined = [row["iou"] is not None for row in finished.classes]
    ours = np.array([row["iou"] for row in finished.classes], float)
    np.testing.assert_allclose(ours[defined], expected[defined], atol=1e-3)
    assert finished.row["miou"] == pytest.approx(float(expected[defined].mean()), abs=1e-3)


def test_voc20_and_voc21_share_features(photographs, tmp_path):
    run_pipeline(Run(settings(photographs, "voc21", tmp_path, num_samples=2)))
    again = run_pipeline(Run(settings(photographs, "voc20", tmp_path, num_samples=2)))
    assert again.outcomes["dense_features"].state == "cached"


def test_panels(photographs, tmp_path):
    run_pipeline(
        Run(settings(photographs, "camvid", tmp_path / "a", num_samples=2, save_vis=tmp_path / "v"))
    )
    pictures = [Image.open(path) for path in sorted((tmp_path / "v").iterdir())]
    assert len(pictures) == 2
    assert all(picture.width > 3 * 480 for picture in pictures)


@pytest.mark.slow
def test_real_size(photographs, tmp_path):
    """ViT-B/16 of random weights, as large as the real one."""
    import open_clip
    from safetensors.torch import save_file

    torch.manual_seed(0)
    state = open_clip.create_model("ViT-B-16-quickgelu").state_dict()
    save_file(dict(state), tmp_path / "random.safetensors")
    given = {"model": "ViT-B-16-quickgelu", "pretrained": str(tmp_path / "random.safetensors")}
    few = settings(photographs, "camvid", tmp_path / "a", num_samples=2, **given)
    finished = run_pipeline(Run(few))
    assert finished.outcomes["dense_features"].computed == 2
    again = run_pipeline(Run(few.replace(pamr_steps=2)))
    assert again.outcomes["dense_features"].state == "cached"
    assert again.outcomes["refine"].computed == 2
