"""Masks of everything in an image: SAM's automatic generator, as segment_anything defines it.

Segment Anything (arXiv 2304.02643), section 5 and appendix B: a grid of points, three masks for
each, filtered by the IoU that SAM predicts, by stability and at the edges of crops, duplicates
removed by their boxes. The masks are those of ``SamAutomaticMaskGenerator``, but masks that fail
the first filter are never drawn, and none is kept at full size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything.utils.amg import (
    build_all_layer_point_grids,
    generate_crop_boxes,
    is_box_near_crop_edge,
    remove_small_regions,
)
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor

from sclip_core.config import ImageError
from sclip_core.config.masks import MaskSettings
from sclip_core.masks.proposals import Proposals
from sclip_core.masks.sam.crops import (
    Crop,
    axis_matrix,
    boxes_of,
    encoded,
    from_corners,
    suppressed,
)
from sclip_core.masks.sam.decoder import Prompted, SamDecoder
from sclip_core.masks.sam.encoder import SamEncoder
from sclip_core.tensors import is_finite

POINTS_AT_ONCE = {"cpu": 16, "cuda": 256}
DRAWN_ELEMENTS = {
    "cpu": 2**23,
    "cuda": 2**28,
}  # pixels of masks drawn at once: 32 MB, 1 GB
OUT_OF_MEMORY = ("out of memory", "can't allocate memory")


def _check_finite(what: str, values: Tensor) -> None:
    """Raise an ``ImageError``, which leaves the image out, for numbers that are not finite."""
    if not is_finite(values):
        raise ImageError(
            f"SAM's {what} of this image is not finite: try --dtype fp32, and check the weights"
        )


class MaskGenerator:
    """Proposes masks of images by a SAM."""

    def __init__(self, sam: Any, settings: MaskSettings) -> None:
        """Wrap a model.

        Args:
            sam: ``segment_anything.modeling.Sam``, on its device.
            settings: of the generator.
        """
        self.sam = sam
        self.settings = settings
        self.encoder = SamEncoder(sam.image_encoder)
        self.decoder = SamDecoder(sam)
        self.transform = ResizeLongestSide(self.encoder.image_size)
        self.grids = build_all_layer_point_grids(
            settings.points_per_side,
            settings.crop_n_layers,
            settings.crop_n_points_downscale_factor,
        )
        self.points_at_once = POINTS_AT_ONCE.get(self.device.type, 16)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = self.sam.device
        return device

    def crops(self, size: tuple[int, int]) -> list[Crop]:
        """The parts of an image (H, W) that are segmented, but those too thin for the encoder."""
        settings = self.settings
        boxes, layers = generate_crop_boxes(
            size, settings.crop_n_layers, settings.crop_overlap_ratio
        )
        found = [Crop(tuple(box), layer) for box, layer in zip(boxes, layers, strict=True)]
        return [crop for crop in found if min(crop.size) > 0 and min(self._input(crop.size)) > 0]

    @torch.no_grad()
    def embed(self, image: NDArray[np.uint8], crop: Crop) -> Tensor:
        """The embedding (C, h, w) of a part of an image.

        Args:
            image: (H, W, 3) uint8 RGB.
            crop: the part.

        Raises:
            ImageError: its numbers are not finite.
        """
        x0, y0, x1, y1 = crop.box
        resized = self.transform.apply_image(np.ascontiguousarray(image[y0:y1, x0:x1]))
        pixels = torch.as_tensor(resized, device=self.device).permute(2, 0, 1)
        embedding = self.encoder(self.sam.preprocess(pixels[None]))[0]
        _check_finite("embedding", embedding)
        return embedding

    def propose(self, size: tuple[int, int], embedding: Callable[[int], Tensor]) -> Proposals:
        """The masks of an image from its embeddings.

        Args:
            size: (H, W) of the image.
            embedding: takes the index of one of its ``crops`` and returns the embedding.

        Raises:
            ImageError: SAM's numbers are not finite; filters would drop all masks without a word.
        """
        crops = self.crops(size)
        parts = [self._of_crop(crop, embedding(number), size) for number, crop in enumerate(crops)]
        found = Proposals.joined(parts, size)
        if len(crops) > 1:
            found = self._without_duplicates(found)
        if self.settings.min_mask_region_area > 0:
            found = self._without_small_regions(found)
        return found

    def __call__(self, image: NDArray[np.uint8]) -> Proposals:
        """The masks of an image (H, W, 3) uint8 RGB."""
        size = image.shape[:2]
        crops = self.crops(size)
        return self.propose(size, lambda number: self.embed(image, crops[number]))

    def _of_crop(self, crop: Crop, embedding: Tensor, size: tuple[int, int]) -> Proposals:
        """The masks of a part of the image, duplicates removed, in the image's frame."""
        scale = np.array(crop.size[::-1])
        points = self.grids[crop.layer] * scale
        found = Proposals.joined(self._batches(crop, embedding, points, size), size)
        return found.chosen(
            suppressed(found.boxes, found.predicted_iou, self.settings.box_nms_thresh)
        )

    def _batches(
        self, crop: Crop, embedding: Tensor, points: NDArray[np.float64], size: tuple[int, int]
    ) -> Iterator[Proposals]:
        """What is found at the points, some at a time; fewer where memory does not suffice."""
        start = 0
        while start < len(points):
            step = self.points_at_once  # which another thread may halve
            found = self._attempt(crop, embedding, points[start : start + step], size)
            if found is None:
                self.points_at_once = max(1, step // 2)
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
                continue
            yield from found
            start += step

    def _attempt(
        self, crop: Crop, embedding: Tensor, points: NDArray[np.float64], size: tuple[int, int]
    ) -> list[Proposals] | None:
        """What is found at some points; None where memory does not suffice for so many."""
        placed = torch.as_tensor(self.transform.apply_coords(points, crop.size))
        try:
            prompted = self.decoder.prompt(embedding, placed.to(self.device))
            _check_finite("decoding", prompted.quality)
            return list(self._drawn(crop, prompted, points, size))
        except RuntimeError as error:
            if len(points) == 1 or not any(words in str(error) for words in OUT_OF_MEMORY):
                raise
        return None

    def _drawn(
        self,
        crop: Crop,
        prompted: Prompted,
        points: NDArray[np.float64],
        size: tuple[int, int],
    ) -> Iterator[Proposals]:
        """The masks of some points that pass all filters but the one for duplicates."""
        settings, quality = self.settings, prompted.quality
        good = quality > (settings.pred_iou_thresh or -torch.inf)
        point, which = good.nonzero().unbind(dim=1)
        x0, y0, x1, y1 = crop.box
        corner = np.array([x0, y0])
        elements = DRAWN_ELEMENTS.get(self.device.type, DRAWN_ELEMENTS["cpu"])
        step = max(1, elements // ((x1 - x0) * (y1 - y0)))
        for start in range(0, len(point), step):
            chosen = slice(start, start + step)
            low = self.decoder.masks(prompted, point[chosen], which[chosen])
            _check_finite("decoding", low)
            logits = self._enlarged(low, crop.size)
            stability = self._stability(logits)
            steady = stability >= settings.stability_score_thresh
            steady |= settings.stability_score_thresh == 0
            masks = logits > self.sam.mask_threshold
            boxes = boxes_of(masks)
            areas = masks.flatten(1).sum(dim=1)
            at_edge = is_box_near_crop_edge(boxes, list(crop.box), [0, 0, size[1], size[0]])
            kept = steady & ~at_edge
            yield Proposals.of_runs(
                encoded(masks[kept].cpu().numpy(), crop, size),
                size,
                boxes=from_corners(boxes[kept].cpu().numpy() + np.tile(corner, 2)),
                areas=areas[kept].cpu().numpy(),
                predicted_iou=quality[point[chosen], which[chosen]][kept].cpu().double().numpy(),
                stability_score=stability[kept].cpu().double().numpy(),
                points=points[point[chosen][kept].cpu().numpy()] + corner,
                crop_boxes=np.tile([x0, y0, x1 - x0, y1 - y0], (int(kept.sum()), 1)),
            )

    def _enlarged(self, low: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits (n, 4h, 4w) at the size of the crop, transposed: (n, W, H)."""
        side, inside = self.encoder.image_size, self._input(size)
        rows, columns = (
            axis_matrix(low.shape[1 + axis], side, inside[axis], size[axis]).to(low.device)
            for axis in (0, 1)
        )
        enlarged: Tensor = columns @ (low.transpose(1, 2) @ rows.T)
        return enlarged

    def _input(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of a crop (H, W) as the encoder gets it."""
        height, width = self.transform.get_preprocess_shape(*size, self.encoder.image_size)
        return height, width

    def _stability(self, logits: Tensor) -> Tensor:
        """The IoU of each mask at a higher and at a lower threshold: (n,) of logits (n, W, H)."""
        threshold, offset = self.sam.mask_threshold, self.settings.stability_score_offset
        inner = (logits > threshold + offset).flatten(1).sum(dim=1)
        outer = (logits > threshold - offset).flatten(1).sum(dim=1)
        share: Tensor = inner.int() / outer.int()
        return share

    def _without_duplicates(self, found: Proposals) -> Proposals:
        """Masks of several crops; of duplicates, as SAM does, that of the smallest crop."""
        areas = found.crop_boxes[:, 2:].prod(axis=1)
        return found.chosen(suppressed(found.boxes, 1 / areas, self.settings.crop_nms_thresh))

    def _without_small_regions(self, found: Proposals) -> Proposals:
        """Masks with small holes filled and small islands removed, then without new duplicates."""
        least = self.settings.min_mask_region_area
        counts: list[bytes] = []
        unchanged: list[float] = []
        for number in range(len(found)):  # one at a time: they are at full size
            (mask,) = found.chosen(np.array([number])).masks()
            mask, filled = remove_small_regions(mask, least, mode="holes")
            mask, removed = remove_small_regions(mask, least, mode="islands")
            unchanged.append(float(not (filled or removed)))
            counts += Proposals.of_masks(mask.T[None]).counts
        mended = Proposals.of_runs(
            counts,
            found.size,
            predicted_iou=found.predicted_iou,
            stability_score=found.stability_score,
            points=found.points,
            crop_boxes=found.crop_boxes,
        )
        threshold = max(self.settings.box_nms_thresh, self.settings.crop_nms_thresh)
        # Of duplicates an unchanged mask is kept.
        return mended.chosen(suppressed(mended.boxes, np.array(unchanged), threshold))
