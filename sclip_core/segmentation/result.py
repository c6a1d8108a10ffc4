"""What segmenting an image gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sclip_core.config.errors import few
from sclip_core.segmentation.detections import to_supervision


@dataclass(frozen=True)
class Segmentation:
    """The labels of an image, and the heat maps that were asked for."""

    labels: NDArray[np.unsignedinteger]  # (H, W), indices into class_names
    class_names: tuple[str, ...]
    heat: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """By the name that was asked for: (H, W), cosine similarities."""

    def __repr__(self) -> str:
        """One line: the size, how many classes, the first names."""
        size, names = "×".join(map(str, self.labels.shape)), few(self.class_names)
        heat = f", heat of {few(list(self.heat))}" if self.heat else ""
        return f"Segmentation({size}, {len(self.class_names)} classes: {names}{heat})"

    def to_supervision(self) -> Any:
        """``supervision.Detections``, one for each class that is in the image.

        Raises:
            UserError: supervision is not installed (the extra ``supervision``).
        """
        return to_supervision(self.labels, self.class_names)
