"""A label map as the detections of the library supervision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sclip_core.config.optional import optional


def to_supervision(labels: NDArray[np.integer[Any]], class_names: Sequence[str]) -> Any:
    """``supervision.Detections`` of a label map, one for each class that is in it.

    Args:
        labels: (H, W) classes; values beyond the names, and negative ones, are no class.
        class_names: by class.

    Returns:
        Detections with ``mask`` (N, H, W), ``class_id`` (N,), ``xyxy`` (N, 4) by supervision's own
        ``mask_to_xyxy``, which includes the last pixel, and the names in ``data["class_name"]``,
        ordered by class. Label maps have no confidences.

    Raises:
        UserError: supervision is not installed.
    """
    supervision = optional("supervision", "supervision")
    found = [int(k) for k in np.unique(labels) if 0 <= k < len(class_names)]
    if not found:
        return supervision.Detections.empty()
    masks = np.stack([labels == k for k in found])
    return supervision.Detections(
        xyxy=supervision.mask_to_xyxy(masks).astype(np.float32),
        mask=masks,
        class_id=np.array(found),
        data={"class_name": np.array([class_names[k] for k in found])},
    )
