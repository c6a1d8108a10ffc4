"""ITACLIP: the golden arrays, its identities and its edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate, normalize

from sclip_core import Protocol, UserError
from sclip_core.config import Geometry
from sclip_core.encoder.taps import Tap
from sclip_core.methods import itaclip
from sclip_core.methods.itaclip import ITACLIP, middle, self_similar
from sclip_core.segmentation import Stitcher, pamr
from sclip_core.segmentation.after import closing

from ..conftest import IMAGES
from .scenes_pearl import at_original_size, bank_of, close, crop0, labels_of, resized, scene_of

VOC21 = Protocol(short_side=336, slide_stride=28, logit_scale=60, prob_thd=0.1, area_thd=0.1)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def inputs_of(scene) -> dict[int, torch.Tensor]:
    return {block: scene.h(block) for block in (6, 7, 9, 11)}


def attention_of(tower, inputs) -> torch.Tensor:
    """A (B, heads, T, T), as METHODS writes it down."""

    def similar(block: int) -> torch.Tensor:
        q, k, _ = tower.heads(block, inputs[block])
        scale = q.shape[-1] ** -0.5
        return (scale * q @ q.mT).softmax(-1) + (scale * k @ k.mT).softmax(-1)

    return similar(11) / 2 + (similar(6) + similar(7) + similar(9)) / 6


@pytest.mark.parametrize("name", IMAGES)
def test_golden_window(tiny12, golden, arrays, name):
    pixels, geometry = crop0(*resized(golden(name)["image_bgr"], VOC21))
    scene, expected = scene_of(tiny12, ITACLIP(), pixels, geometry), arrays("clip_only", name)
    tower, inputs = scene.tower, inputs_of(scene)
    attention = attention_of(tower, inputs)
    close(attention[0, :, ::14], expected["itaclip.crop0.attn.every14"], 2e-5)
    close(attention.sum(dim=-1), 2 * torch.ones(attention.shape[:3]), 1e-5)
    mixed = inputs[11] + tower.out(11, attention @ tower.heads(11, inputs[11]).v)
    close(self_similar(tower, inputs), mixed, 1e-5)
    tokens = tower.features(self_similar(tower, inputs))[:, ::14]
    close(tokens, expected["itaclip.crop0.tokens.every14"], 5e-6)
    cosines = ITACLIP().features(scene)[0] @ bank_of(golden, expected, "voc21").T
    logits = interpolate(cosines.permute(2, 0, 1)[None], size=geometry.window, mode="bilinear")[0]
    close(logits[:, ::16, ::16], expected["itaclip.crop0.logits.every16"], 5e-6)


# Five views of 60 windows take the tiny tower ten seconds; the other two images have 50 and 67.
SOME = (IMAGES[0], pytest.param(IMAGES[1], marks=pytest.mark.slow), IMAGES[2])


@pytest.mark.parametrize("name", SOME)
def test_golden_image(tiny12, golden, arrays, name):
    expected = arrays("clip_only", name)
    pixels, geometry = resized(golden(name)["image_bgr"], VOC21)
    stitcher = Stitcher(geometry)
    features = ITACLIP().features(scene_of(tiny12, ITACLIP(), pixels, geometry))
    words = bank_of(golden, expected, "voc21")
    logits = stitcher.stitch(stitcher.side_by_side(features, words))
    close(logits[::4, ::16, ::16], expected["logits16_itaclip_before_pamr_voc21.every4"], 5e-6)
    refined = pamr(at_original_size(pixels, geometry), logits, 10, (8, 16))
    close(refined[:, ::16, ::16], expected["logits16_itaclip_voc21"], 3e-5)
    decided = labels_of(refined, "voc21", VOC21)
    labels, wanted = closing(decided), expected["labels_itaclip_voc21"]
    assert (labels == wanted).mean() >= 0.9999
    assert (decided == wanted).mean() < 0.9999  # so the closing is tested too


def test_logits_of_views_by_the_long_way(tiny12, golden):
    """Each view's logits interpolated, flipped back, then added up; of a window of 137 rows."""
    pixels = resized(golden(IMAGES[2])["image_bgr"], VOC21)[0][:, :137, :224]
    geometry = Geometry.of(137, 224, Protocol(short_side=137), patch=16)
    assert geometry.tokens == (8, 14)
    scene, words = scene_of(tiny12, ITACLIP(), pixels, geometry), normalize(drawn(7, 32), dim=-1)
    tokens = scene.tower.features(self_similar(scene.tower, inputs_of(scene)))[:, 1:]

    def upsampled(features: torch.Tensor) -> torch.Tensor:
        cosines = (features @ words.T).unflatten(-2, geometry.tokens).permute(2, 0, 1)
        return interpolate(cosines[None], size=(137, 224), mode="bilinear")[0]

    straight = upsampled(tokens[:3].mean(dim=0))
    flipped = (upsampled(tokens[3]).flip(-2) + upsampled(tokens[4]).flip(-1)) / 2
    for weight in (0.0, 0.7, 1.0):
        features = ITACLIP(weight=weight).features(scene).flatten(1, 2)[0]
        close(upsampled(features), weight * straight + (1 - weight) * flipped, 2e-6)


def test_its_own_mirror_image(tiny12):
    half = drawn(3, 224, 112)
    pixels = torch.cat([half, half.flip(-1)], dim=-1)
    geometry = Geometry.of(224, 224, Protocol(short_side=224), patch=16)
    scene = scene_of(tiny12, ITACLIP(), pixels, geometry)
    tokens = scene.tower.features(self_similar(scene.tower, inputs_of(scene)))
    close(tokens[4], tokens[0], 1e-6)
    assert (tokens[3] - tokens[0]).abs().max() > 1e-3


def test_with_the_last_block_alone_it_is_csa_without_mlp(tiny12, monkeypatch):
    geometry = Geometry.of(224, 224, Protocol(short_side=224), patch=16)
    scene = scene_of(tiny12, ITACLIP(), drawn(3, 224, 224), geometry)
    tower, x = scene.tower, scene.h(11)
    monkeypatch.setattr(itaclip, "middle", lambda layers: (11, 11, 11))
    q, k, v = tower.heads(11, x)
    csa = (q @ q.mT / 8).softmax(-1) @ v + (k @ k.mT / 8).softmax(-1) @ v
    close(self_similar(tower, {11: x}), x + tower.out(11, csa), 1e-5)


def test_windows_in_parts(tiny12, golden, monkeypatch):
    pixels, geometry = resized(golden(IMAGES[1])["image_bgr"], VOC21.replace(slide_stride=112))
    scene = scene_of(tiny12, ITACLIP(), pixels, geometry)
    features = ITACLIP().features(scene)
    monkeypatch.setattr(itaclip, "TOGETHER", 4)
    close(ITACLIP().features(scene), features, 1e-6)
    assert features.shape == (geometry.num_windows, 14, 14, 32)


@pytest.mark.parametrize("size", [(16, 16), (16, 48), (37, 52)])
def test_flat_images_and_tiny_windows(tiny12, size):
    geometry = Geometry.of(*size, Protocol(short_side=min(size)), patch=16)
    for pixels in (torch.zeros(3, *size), drawn(3, *size)):
        features = ITACLIP().features(scene_of(tiny12, ITACLIP(), pixels, geometry))
        assert features.shape == (1, *geometry.tokens, 32)
        assert features.isfinite().all()
        assert (features.norm(dim=-1) <= 1 + 1e-5).all()


def test_taps():
    assert ITACLIP().taps(12) == tuple(map(Tap.of, (6, 7, 9, 11)))
    assert middle(24) == (12, 14, 18)
    for layers in range(1, 33):
        taps = ITACLIP().taps(layers)
        assert len(set(taps)) == len(taps)
        assert {tap.last for tap in taps} == {*middle(layers), layers - 1}
        assert max(tap.last for tap in taps) == layers - 1


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), "much"])
def test_weight_is_checked(value):
    with pytest.raises(UserError, match="weight"):
        ITACLIP.checked({"weight": value})


def test_nothing_is_overwritten_that_is_read_again(tiny12):
    geometry = Geometry.of(32, 32, Protocol(short_side=32), patch=16)
    scene = scene_of(tiny12, ITACLIP(), drawn(3, 32, 32), geometry)
    assert torch.equal(ITACLIP().features(scene), ITACLIP().features(scene))
    assert np.isfinite(np.asarray(scene.h(11))).all()
