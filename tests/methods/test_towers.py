"""Methods on towers of other families: which run without CLS, and which are refused."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from sclip_core import SCLIP, Protocol, UserError
from sclip_core.config import Geometry
from sclip_core.encoder import Attention, DenseEncoder
from sclip_core.encoder.attention import BUILT_IN as ATTENTIONS
from sclip_core.encoder.views import VIEWS
from sclip_core.methods.features import Extra, features_of
from sclip_core.methods.registry import BUILT_IN, check_cls, method_class, without_cls

from ..encoder.models import make, small_config
from ..encoder.test_dense import random_pixels
from ..encoder.timm_towers import timm_tower
from .scenes_proxy import tiny_dino

NEEDING = {"sc-clip", "corrclip", "ov-stitcher"}
IN_SAM = {"trident"}  # needs SAM, too; of CLIP it reads what ProxyCLIP reads
GEOMETRY = Geometry.of(64, 96, Protocol(short_side=64, slide_crop=0), patch=16)


def made(name, encoder, windows, words):
    method = method_class(name)()
    views = torch.cat([VIEWS[view](windows) for view in method.views])
    second = tiny_dino() if method.second_taps else None
    found = second.taps(second.prepare(windows), method.second_taps) if second else {}
    taps = encoder.taps(views, method.taps(encoder.backbone.layers), method.positions)
    extra = Extra(second, found, words=words)
    return features_of(method, encoder, GEOMETRY, taps, lambda: windows, extra)


@pytest.mark.parametrize("kind", ["siglip", "pe", "pe without cls", "eva02", "registers"])
@pytest.mark.parametrize("name", sorted(set(BUILT_IN) - NEEDING - IN_SAM))
def test_runs_without_cls(kind, name):
    """Features of the patches, of their shape, and of the pixels."""
    encoder = DenseEncoder(timm_tower(kind, depth=12), Attention.parse("vanilla"))
    windows = random_pixels(GEOMETRY.num_windows, 3, *GEOMETRY.frame)
    words = normalize(random_pixels(5, encoder.width, seed=1), dim=-1)
    found = made(name, encoder, windows, words)
    other = made(name, encoder, windows + 0.5 * random_pixels(*windows.shape, seed=2), words)
    assert found.shape[-1] == encoder.width
    assert not torch.equal(found, other)


def test_gem_of_patches_alone_as_a_loop():
    """Its sum over the last blocks, written with the tower's own modules."""
    visual = timm_tower("siglip", depth=3)
    encoder = DenseEncoder(visual, Attention.parse("vanilla"))
    windows = random_pixels(1, 3, *GEOMETRY.frame)
    found = made("gem", encoder, windows, None)[0].flatten(0, 1)

    trunk = visual.trunk
    taps = method_class("gem")().taps(3)
    inputs = encoder.taps(windows, taps, "antialiased")
    z = inputs[taps[0]][0].clone()
    for tap in taps:
        block, x = trunk.blocks[tap.last], inputs[tap][0]
        normed = block.norm1(x)
        q, k, v = block.attn.qkv(normed).chunk(3, dim=-1)
        tau = normed.norm(dim=-1).mean() * 16**-0.5
        mixed = torch.zeros_like(v)
        for head in range(2):
            part = slice(16 * head, 16 * head + 16)
            for stream in (q, k, v):
                unit = normalize(stream[:, part], dim=-1)
                unit = normalize(torch.softmax(tau * unit @ unit.T, -1) @ unit, dim=-1)
                mixed[:, part] += torch.softmax(tau * unit @ unit.T, -1) @ v[:, part] / 3
        z += block.attn.proj(mixed)
    tokens = trunk.norm(z)
    values = tokens @ trunk.attn_pool.kv.weight[32:].T + trunk.attn_pool.kv.bias[32:]
    pooled = trunk.attn_pool.proj(values)
    pooled = pooled + trunk.attn_pool.mlp(trunk.attn_pool.norm(pooled))
    torch.testing.assert_close(found, normalize(pooled, dim=-1), atol=1e-5, rtol=1e-4)


def test_what_needs_cls():
    assert {name for name in BUILT_IN if method_class(name).needs_cls} == NEEDING
    assert without_cls() == [*ATTENTIONS, *(name for name in BUILT_IN if name not in NEEDING)]


@pytest.mark.parametrize("name", sorted(NEEDING))
def test_refused_on_a_tower_without_cls(name):
    facts = DenseEncoder(timm_tower("siglip"), Attention.parse("csa")).backbone.facts
    line = f"method '{name}' needs a CLS token, and ViT-B-16-SigLIP has none: take csa, vanilla, "
    with pytest.raises(UserError) as refused:
        check_cls(method_class(name)(), "ViT-B-16-SigLIP", facts)
    assert str(refused.value).startswith(line)
    assert "\n" not in str(refused.value)
    check_cls(method_class("pearl")(), "ViT-B-16-SigLIP", facts)
    check_cls(None, "ViT-B-16-SigLIP", facts)


def test_refused_through_the_public_api(tmp_path):
    coca = make(tmp_path, small_config(vision={"attentional_pool": True, "attn_pooler_heads": 2}))
    says = "method 'sc-clip' needs a CLS token, and small pools by attention: take csa"
    with pytest.raises(UserError, match=says):
        SCLIP.load(**coca.arguments, device="cpu", method="sc-clip")
    model = SCLIP.load(**coca.arguments, device="cpu")
    image = torch.randint(0, 255, (64, 64, 3), dtype=torch.uint8).numpy()
    with pytest.raises(UserError, match=says):
        model.segment(image, classes=["cat", "sky"], method="sc-clip")
    assert model.segment(image, classes=["cat", "sky"], method="pearl").labels.shape == (64, 64)
