"""Where a label map errs, as a picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sclip_core.drawing.panels import WRONG, WRONG_ALPHA, mistaken


def test_wrong_pixels_alone_are_coloured():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 60, 3)).astype(np.uint8)
    label = rng.integers(-1, 4, (40, 60)).astype(np.int32)
    said = rng.integers(-1, 4, (40, 60)).astype(np.int32)
    photo = Image.fromarray(image)
    picture = np.asarray(mistaken(photo, label, said, image)).astype(int)
    grey = 70 + 0.65 * np.asarray(photo.convert("L"), float)
    for row in range(40):
        for column in range(60):
            found = picture[row, column]
            if label[row, column] == -1:
                assert len(set(found)) == 1  # hatched: grey, whatever was said
                assert found[0] in (58, 112)
            elif label[row, column] == said[row, column]:
                assert abs(found - grey[row, column]).max() <= 1
            else:
                wrong = (1 - WRONG_ALPHA) * grey[row, column] + WRONG_ALPHA * np.array(WRONG)
                assert abs(found - wrong).max() <= 1


def test_maps_of_another_size():
    image = np.zeros((4, 5, 3), np.uint8)
    maps = [np.zeros((4, 5), np.int32), np.zeros((5, 4), np.int32)]
    for first, second in (maps, maps[::-1]):
        with pytest.raises(ValueError, match="expected"):
            mistaken(Image.fromarray(image), first, second, image)
