"""Masks of whole images against segment_anything's SamAutomaticMaskGenerator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco
from segment_anything import SamAutomaticMaskGenerator, SamPredictor

from sclip_core.config import ImageError, UserError
from sclip_core.config.masks import MaskSettings
from sclip_core.masks.sam import generator as sam_generator
from sclip_core.masks.sam.generator import MaskGenerator

from .conftest import picture
from .models import make

ALL = {
    "points_per_side": 4,
    "pred_iou_thresh": 0.0,
    "stability_score_thresh": 0.0,
    "box_nms_thresh": 1.0,
    "crop_nms_thresh": 1.0,
}
FILTERS = {
    "predicted IoU": {"pred_iou_thresh": 0.72},
    "stability": {"stability_score_thresh": 0.3},
    "stability, cut off nearer": {"stability_score_thresh": 0.6, "stability_score_offset": 0.5},
    "duplicates": {"box_nms_thresh": 0.7},
    "all of them": {
        "points_per_side": 6,
        "pred_iou_thresh": 0.6,
        "stability_score_thresh": 0.2,
        "box_nms_thresh": 0.8,
    },
}
ONE_LAYER = {"crop_n_layers": 1, "crop_n_points_downscale_factor": 2}
TWO_LAYERS = {"crop_n_layers": 2, "crop_n_points_downscale_factor": 2}
CROPS = {
    "one layer": ONE_LAYER,
    "as many points in crops": {"crop_n_layers": 1},
    "more overlap": {**ONE_LAYER, "crop_overlap_ratio": 0.6},
    "no overlap": {**ONE_LAYER, "crop_overlap_ratio": 0.0},
    "duplicates between crops": {**ONE_LAYER, "crop_nms_thresh": 0.5},
    "two layers, duplicates": {**TWO_LAYERS, "box_nms_thresh": 0.8, "crop_nms_thresh": 0.6},
    "two layers, all filters": {
        **TWO_LAYERS,
        "points_per_side": 6,
        "pred_iou_thresh": 0.6,
        "stability_score_thresh": 0.2,
        "stability_score_offset": 0.2,
        "box_nms_thresh": 0.9,
        "crop_nms_thresh": 0.8,
    },
}
SMALL_REGIONS = {
    "few": {"min_mask_region_area": 20},
    "many": {"min_mask_region_area": 500},
    "larger than masks": {"min_mask_region_area": 10**6},
    "duplicates afterwards": {"min_mask_region_area": 500, "box_nms_thresh": 0.9},
    "in crops": {"min_mask_region_area": 100, **ONE_LAYER, "crop_nms_thresh": 0.8},
}


def reference(sam, image: np.ndarray, **settings: Any) -> list[dict[str, Any]]:
    """What segment_anything makes of an image."""
    return SamAutomaticMaskGenerator(sam, **{**ALL, **settings}, output_mode="coco_rle").generate(
        image
    )


def generator(sam, **settings: Any) -> MaskGenerator:
    return MaskGenerator(sam, MaskSettings(**{**ALL, **settings}))


def assert_same(ours, theirs: list[dict[str, Any]]) -> None:
    """As many masks, in the same order, each with the same pixels and numbers.

    Logits that are zero but for rounding may fall on either side. Stability, a ratio of numbers of
    pixels, moves with each one.
    """
    assert len(ours) == len(theirs)
    for number, expected in enumerate(theirs):
        rle = {"size": list(ours.size), "counts": ours.counts[number]}
        assert expected["segmentation"]["size"] == rle["size"]
        if rle["counts"].decode() != expected["segmentation"]["counts"]:
            assert coco.iou([rle], [expected["segmentation"]], [0])[0, 0] >= 0.999
        area = ours.areas[number]
        assert area == coco.area(rle)
        assert ours.boxes[number].tolist() == expected["bbox"]
        assert ours.crop_boxes[number].tolist() == expected["crop_box"]
        assert ours.points[number].tolist() == expected["point_coords"][0]
        assert ours.predicted_iou[number] == pytest.approx(expected["predicted_iou"], abs=1e-5)
        pixels = 2 / area if area else 0
        stability = pytest.approx(expected["stability_score"], abs=1e-5 + pixels, nan_ok=True)
        assert ours.stability_score[number] == stability


class TestSettings:
    """One filter after the other."""

    @pytest.mark.parametrize("points", [1, 4, 6])
    def test_no_filter(self, sam, points):
        image = picture(0)
        theirs = reference(sam, image, points_per_side=points)
        assert len(theirs) == 3 * points**2
        assert_same(generator(sam, points_per_side=points)(image), theirs)

    @pytest.mark.parametrize("seed", [0, 5])
    @pytest.mark.parametrize("settings", FILTERS.values(), ids=FILTERS)
    def test_filters(self, seed, settings):
        sam, image = make(seed), picture(seed)
        theirs = reference(sam, image, **settings)
        assert 1 < len(theirs) < 3 * settings.get("points_per_side", 4) ** 2 - 1
        assert_same(generator(sam, **settings)(image), theirs)

    @pytest.mark.parametrize("settings", CROPS.values(), ids=CROPS)
    def test_crops(self, sam, settings):
        image = picture(1, (260, 340))
        theirs = reference(sam, image, **settings)
        assert len({tuple(one["crop_box"]) for one in theirs}) > 1
        assert_same(generator(sam, **settings)(image), theirs)

    def test_masks_at_the_edges_of_crops_go(self, sam):
        """Of 3 masks a point, in the image and in four crops."""
        found = generator(sam, **ONE_LAYER)(picture(1, (260, 340)))
        in_crops = (found.crop_boxes[:, 2:] != [340, 260]).any(axis=1)
        assert (~in_crops).sum() == 3 * 16
        assert 0 < in_crops.sum() < 3 * 4 * 4

    @pytest.mark.parametrize("seed", [0, 5])
    @pytest.mark.parametrize("settings", SMALL_REGIONS.values(), ids=SMALL_REGIONS)
    def test_small_regions(self, seed, settings):
        sam, image = make(seed), picture(seed, (200, 240))
        theirs = reference(sam, image, **settings)
        before = reference(sam, image, **{**settings, "min_mask_region_area": 0})
        counts = [[one["segmentation"]["counts"] for one in found] for found in (before, theirs)]
        assert sorted(counts[0]) != sorted(counts[1])
        assert_same(generator(sam, **settings)(image), theirs)

    def test_another_threshold_of_the_model(self):
        sam, image = make(seed=5), picture(5)
        sam.mask_threshold = -2.0
        theirs = reference(sam, image, stability_score_thresh=0.22)
        assert 0 < len(theirs) < 48
        assert_same(generator(sam, stability_score_thresh=0.22)(image), theirs)

    def test_defaults_are_segment_anythings(self, sam):
        ours, theirs = MaskSettings(), SamAutomaticMaskGenerator(sam)
        names = [name for name in ours.relevant() if name not in ("sam_model", "points_per_side")]
        assert {name: getattr(ours, name) for name in names} == {
            name: getattr(theirs, name) for name in names
        }
        grid = MaskGenerator(sam, ours).grids
        np.testing.assert_array_equal(grid, theirs.point_grids)


class TestImages:
    """Of any size; the small SAM looks at 128 x 128 pixels."""

    @pytest.mark.parametrize(
        "size",
        [
            (128, 128),
            (90, 61),
            (61, 90),
            (200, 133),
            (300, 401),
            (7, 5),
            (200, 1),
            (1, 200),
            (1, 1),
        ],
    )
    def test_sizes(self, sam, size):
        image = picture(2, size)
        theirs = reference(sam, image)
        assert len(theirs) == 48
        assert_same(generator(sam)(image), theirs)

    def test_one_after_the_other(self, sam):
        ours = generator(sam)
        for seed, size in ((1, (90, 120)), (2, (120, 90)), (3, (90, 120))):
            image = picture(seed, size)
            assert_same(ours(image), reference(sam, image))

    def test_a_view_of_bgr(self, sam):
        image = picture(1, (90, 120))
        view = np.ascontiguousarray(image[..., ::-1])[..., ::-1]
        assert_same(generator(sam)(view), reference(sam, image))

    @pytest.mark.parametrize("settings", [{}, {"min_mask_region_area": 50}])
    def test_no_mask_left(self, sam, settings):
        image, strict = picture(0), {"stability_score_thresh": 1.0, "pred_iou_thresh": 0.9}
        assert reference(sam, image, **strict, **settings) == []
        found = generator(sam, **strict, **settings)(image)
        assert len(found) == 0
        assert found.boxes.shape == found.crop_boxes.shape == (0, 4)
        assert found.points.shape == (0, 2)
        assert found.masks().shape == (0, *image.shape[:2])

    @pytest.mark.parametrize("settings", [{}, {"min_mask_region_area": 50}])
    def test_no_mask_left_in_any_crop(self, sam, settings):
        """Where segment_anything itself fails."""
        image, strict = picture(0), {"stability_score_thresh": 1.0, "pred_iou_thresh": 0.9}
        found = generator(sam, **strict, **settings, **ONE_LAYER)(image)
        assert len(found) == 0
        assert found.crop_boxes.shape == (0, 4)


class TestEmbeddings:
    """Made before, and kept."""

    def test_are_segment_anythings(self, sam):
        image = picture(1, (260, 340))
        predictor, ours = SamPredictor(sam), generator(sam, **ONE_LAYER)
        crops = ours.crops(image.shape[:2])
        assert len(crops) == 5
        for crop in crops:
            x0, y0, x1, y1 = crop.box
            predictor.set_image(image[y0:y1, x0:x1])
            expected = predictor.get_image_embedding()[0]
            torch.testing.assert_close(ours.embed(image, crop), expected, atol=1e-5, rtol=1e-5)

    def test_masks_of_kept_ones(self, sam):
        image = picture(1, (260, 340))
        ours = generator(sam, **ONE_LAYER)
        kept = [ours.embed(image, crop) for crop in ours.crops(image.shape[:2])]
        copies = [embedding.clone() for embedding in kept]
        assert_same(ours.propose((260, 340), kept.__getitem__), reference(sam, image, **ONE_LAYER))
        assert all(torch.equal(*pair) for pair in zip(kept, copies, strict=True))

    def test_each_is_asked_for_once_and_in_order(self, sam):
        image = picture(1, (90, 120))
        ours = generator(sam, **ONE_LAYER)
        embedding, asked = ours.embed(image, ours.crops((90, 120))[0]), []
        ours.propose((90, 120), lambda number: asked.append(number) or embedding)
        assert asked == [0, 1, 2, 3, 4]


CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")
CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: "
    "you tried to allocate 17179869184 bytes. Error code 12 (Cannot allocate memory)"
)


class TestMemory:
    """Where it ends, fewer points go at once."""

    @staticmethod
    def limit(ours, monkeypatch, method: str, most: int, error: Exception) -> list[int]:
        """Let a step of the decoder fail for more than so many points; gives what was tried."""
        real, tried = getattr(ours.decoder, method), []

        def limited(first, second, *others):
            points = len(first.quality) if method == "masks" else len(second)
            tried.append(points)
            if points > most:
                raise error
            return real(first, second, *others)

        monkeypatch.setattr(ours.decoder, method, limited)
        return tried

    @pytest.mark.parametrize("method", ["prompt", "masks"])
    @pytest.mark.parametrize("error", [CUDA, CPU], ids=["cuda", "cpu"])
    @pytest.mark.parametrize(("most", "at_once"), [(15, 8), (5, 4), (1, 1)])
    def test_fewer_points_at_once(self, sam, monkeypatch, method, error, most, at_once):
        image, ours = picture(1, (90, 120)), generator(sam, points_per_side=6)
        tried = self.limit(ours, monkeypatch, method, most, error)
        assert ours.points_at_once == 16
        assert_same(ours(image), reference(sam, image, points_per_side=6))
        assert ours.points_at_once == at_once
        assert tried[0] == 16
        tried.clear()
        ours(image)
        assert max(tried) == at_once

    def test_memory_ends_half_way(self, sam, monkeypatch):
        """No mask twice, though some points had theirs drawn."""
        image, ours = picture(1, (90, 120)), generator(sam)
        monkeypatch.setitem(sam_generator.DRAWN_ELEMENTS, "cpu", 1)
        real, calls = ours.decoder.masks, []

        def masks(*arguments):
            calls.append(1)
            if len(calls) == 20:
                raise CPU
            return real(*arguments)

        monkeypatch.setattr(ours.decoder, "masks", masks)
        assert_same(ours(image), reference(sam, image))
        assert ours.points_at_once == 8

    @pytest.mark.parametrize("error", [CUDA, CPU], ids=["cuda", "cpu"])
    def test_too_little_for_one_point(self, sam, monkeypatch, error):
        ours = generator(sam)
        tried = self.limit(ours, monkeypatch, "prompt", 0, error)
        with pytest.raises(type(error)) as raised:
            ours(picture(1, (90, 120)))
        assert raised.value is error
        assert tried == [16, 8, 4, 2, 1]

    def test_other_errors_are_not_swallowed(self, sam, monkeypatch):
        ours = generator(sam)
        error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
        tried = self.limit(ours, monkeypatch, "prompt", 0, error)
        with pytest.raises(RuntimeError, match="mat1 and mat2"):
            ours(picture(1, (90, 120)))
        assert tried == [16]

    @pytest.mark.parametrize("elements", [1, 90 * 120 * 5])
    def test_masks_drawn_at_once(self, sam, monkeypatch, elements):
        monkeypatch.setitem(sam_generator.DRAWN_ELEMENTS, "cpu", elements)
        image = picture(1, (90, 120))
        settings = {"pred_iou_thresh": 0.6, "stability_score_thresh": 0.1}
        theirs = reference(sam, image, **settings)
        assert 1 < len(theirs) < 48
        assert_same(generator(sam, **settings)(image), theirs)


def test_points_that_no_layer_of_crops_would_have():
    with pytest.raises(UserError, match="leaves no point in the last of crop_n_layers=2"):
        MaskSettings.checked(
            {"points_per_side": 3, "crop_n_layers": 2, "crop_n_points_downscale_factor": 2}
        )


@pytest.mark.parametrize(("size", "layers"), [((1, 400), 0), ((400, 1), 0), ((5, 90), 2)])
def test_parts_too_thin_for_the_encoder_have_no_masks(sam, size, layers):
    generator = MaskGenerator(sam, MaskSettings(**{**ALL, "crop_n_layers": layers}))
    image = np.zeros((*size, 3), np.uint8)
    found = generator(image)
    assert found.size == size
    if 1 in size:
        assert len(found) == 0


@pytest.mark.parametrize("part", ["iou_prediction_head.layers.0", "output_upscaling.0"])
def test_decoding_that_is_not_finite_leaves_the_image_out(part):
    """No filter would let a mask with such numbers pass: the image would have none, unseen."""
    sam = make(seed=1)
    generator = MaskGenerator(sam, MaskSettings(**ALL))
    assert len(generator(picture(0)))
    sam.mask_decoder.get_submodule(part).bias.data[0] = torch.inf
    with pytest.raises(ImageError, match="SAM's decoding of this image is not finite"):
        generator(picture(0))
