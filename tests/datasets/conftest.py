"""A label map larger than most."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture(scope="session")
def hundred_megapixels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grey PNG of 12000x9000 pixels of value 7; above 89 megapixels Pillow warns of a bomb."""
    path = tmp_path_factory.mktemp("large") / "large.png"
    Image.new("L", (12000, 9000), 7).save(path, compress_level=1)
    return path
