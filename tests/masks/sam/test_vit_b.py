"""SAM ViT-B at its real size against segment_anything, with random weights."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from segment_anything import SamAutomaticMaskGenerator, SamPredictor, sam_model_registry
from segment_anything.modeling import Sam

from sclip_core.config.masks import MaskSettings
from sclip_core.masks.sam.generator import MaskGenerator
from sclip_core.masks.sam.loading import load_sam

from .conftest import picture
from .models import vary
from .test_generator import assert_same

pytestmark = pytest.mark.slow

SETTINGS = {
    "points_per_side": 4,
    "pred_iou_thresh": 0.5,
    "stability_score_thresh": 0.05,
    "box_nms_thresh": 0.95,
}


@pytest.fixture(scope="module", autouse=True)
def path() -> None:
    """In place of the one with the compiled and the portable path; as many threads as there are."""


@pytest.fixture(scope="module")
def sam() -> Sam:
    """segment_anything's own, with random weights."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = sam_model_registry["vit_b"]().eval().requires_grad_(False)
        for name, weight in model.image_encoder.named_parameters():
            if "rel_pos" in name or "pos_embed" in name:
                weight.normal_(std=0.05)
        vary(model, level=1.0)
    return model


@pytest.fixture(scope="module")
def ours(sam, tmp_path_factory) -> MaskGenerator:
    """The same weights, from a file."""
    file = tmp_path_factory.mktemp("sam") / "vit_b.pth"
    torch.save(sam.state_dict(), file)
    loaded = load_sam("vit_b", file, torch.device("cpu"), torch.float32)
    file.unlink()
    return MaskGenerator(loaded, MaskSettings(**SETTINGS))


@pytest.fixture(scope="module")
def image(request: pytest.FixtureRequest) -> np.ndarray:
    """A photograph, RGB, where there are any; else a drawing."""
    try:
        folder: Path = request.getfixturevalue("photographs")
    except pytest.skip.Exception:
        return picture(0, (375, 500))
    first = min(folder.rglob("*.jpg"))
    return np.ascontiguousarray(cv2.imread(str(first))[..., ::-1])


def test_masks(sam, ours, image):
    theirs = SamAutomaticMaskGenerator(sam, **SETTINGS, output_mode="coco_rle").generate(image)
    assert 5 < len(theirs) < 3 * 4 * 4
    assert_same(ours(image), theirs)


def test_embedding(sam, ours, image):
    predictor = SamPredictor(sam)
    predictor.set_image(image)
    expected = predictor.get_image_embedding()[0]
    assert expected.shape == (256, 64, 64)
    embedding = ours.embed(image, ours.crops(image.shape[:2])[0])
    torch.testing.assert_close(embedding, expected, atol=1e-4, rtol=0)
