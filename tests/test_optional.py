"""Libraries that may not be installed."""

from __future__ import annotations

import json.decoder
import subprocess
import sys

import pytest

from sclip_core.config import UserError
from sclip_core.config.optional import optional

from .conftest import GOLDEN

DINO, WEIGHTS = (str(GOLDEN / f"tiny_dino16.{kind}") for kind in ("json", "safetensors"))


def test_the_module_is_returned():
    assert optional("json.decoder", "none") is json.decoder


@pytest.mark.parametrize(
    ("module", "missing", "name"),
    [
        ("matplotlib.figure", "matplotlib", "matplotlib"),
        ("matplotlib.figure", "matplotlib.figure", "matplotlib"),
        ("skimage.segmentation", "skimage", "scikit-image"),
        ("no_such_library.part", "json", "no_such_library"),
    ],
)
def test_the_extra_is_named(monkeypatch, module, missing, name):
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError) as caught:
        optional(module, "extra", ", or do without")
    line = f"{name} is not installed: pip install 'sclip-benchmark[extra]', or do without"
    assert str(caught.value) == line


def test_what_the_library_lacks_is_named(monkeypatch, tmp_path):
    (tmp_path / "half_installed.py").write_text("import no_such_library")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"^no_such_library is not installed: .*\[extra\]'$"):
        optional("half_installed", "extra")


EXTRAS = ("segment_anything", "pycocotools", "skimage", "prefect", "zarr", "numba", "matplotlib")


def test_methods_need_no_extra():
    """A method of CLIP alone segments without any, and one of SAM says what it lacks."""
    code = f"""
import sys, warnings
sys.modules.update(dict.fromkeys({EXTRAS}))
warnings.simplefilter("ignore")
import numpy as np
from sclip_core import SCLIP
from sclip_core.config import UserError
model = SCLIP.load("sclip-demo", "scenes", method="sc-clip", device="cpu")
small = dict(short_side=96, slide_crop=48, slide_stride=24)
image = np.zeros((60, 80, 3), np.uint8)
print(model.segment(image, classes=["sky", "car"], **small).labels.shape)
try:
    dino = dict(proxy={DINO!r}, proxy_pretrained={WEIGHTS!r})
    SCLIP.load("sclip-demo", "scenes", method="trident", **dino)
except UserError as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = ran.stdout.splitlines()
    assert first == "(60, 80)"
    assert "is not installed: pip install 'sclip-benchmark[sam]'" in second
