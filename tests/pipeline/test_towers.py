"""Runs with a tower without CLS, whose depth and width no config names."""

from __future__ import annotations

import numpy as np
import pytest

from sclip_core import SCLIP, UserError

from ..encoder.models import make, small_config
from ..encoder.timm_towers import SIGLIP
from .conftest import computed, run

FEW = {"templates": "photo", "short_side": 64, "slide_crop": 64, "slide_stride": 32}


@pytest.fixture(scope="module")
def siglip(tmp_path_factory):
    """A small SigLIP on disk."""
    config = small_config(embed_dim=32, vision=SIGLIP)
    return make(tmp_path_factory.mktemp("siglip"), config).arguments


@pytest.mark.parametrize("method", ["naclip", "gem"])
def test_from_kept_taps_and_from_images(tmp_path, voc, siglip, method):
    plain = run(tmp_path / "plain", voc, **siglip, **FEW, method=method)
    kept = {**siglip, **FEW, "keep_trunk": True}
    run(tmp_path / "kept", voc, **kept, method="csa" if method == "naclip" else method)
    again = run(tmp_path / "kept", voc, **kept, method=method)
    if method == "naclip":
        assert computed(again)["dense_features"] == 4
        assert "trunk" not in computed(again)
    assert again.row["miou"] == plain.row["miou"]


def test_features_are_those_of_the_api(tmp_path, voc, siglip):
    finished = run(tmp_path, voc, **siglip, **FEW, method="pearl")
    assert finished.row["run_id"]
    model = SCLIP.load(**siglip, device="cpu", method="pearl")
    assert (model.spec.tower.prefix, model.spec.tower.layers, model.spec.tower.width) == (0, 3, 32)
    image = np.random.default_rng(0).integers(0, 255, (70, 90, 3), np.uint8)
    assert model.segment(
        image, classes=["cat", "sky"], short_side=64, slide_crop=64, slide_stride=32
    ).labels.shape == (70, 90)


def test_refused_before_anything_is_computed(tmp_path, voc, siglip):
    says = "'sc-clip' needs a CLS token, and small has none: take csa"
    with pytest.raises(UserError, match=says):
        run(tmp_path, voc, **siglip, **FEW, method="sc-clip")
    assert not [*tmp_path.rglob("*.bin")]
