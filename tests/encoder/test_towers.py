"""Towers of every family against what open_clip and timm compute with them."""

from __future__ import annotations

import pytest
import torch
from open_clip.transformer import VisionTransformer
from torch.nn.functional import scaled_dot_product_attention as sdpa

from sclip_core.encoder import POLICIES, Attention, DenseEncoder
from sclip_core.encoder.attention import BUILT_IN, neighbourhood
from sclip_core.encoder.positions import resize_positions
from sclip_core.encoder.taps import Tap
from sclip_core.encoder.towers import why_not

from .models import build, small_config
from .test_dense import random_pixels
from .timm_towers import TRUNKS, alone, timm_tower

VANILLA = Attention.parse("vanilla")
COCA = {"attentional_pool": True, "attn_pooler_queries": 3, "attn_pooler_heads": 2}
OWN = {  # of open_clip's class
    "openai": {},
    "coca": COCA,
    "coca, pooled from the mean of queries": {**COCA, "pool_type": "avg"},
    "clipa": {"no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True},
    "layer scale": {"ls_init_value": 0.3},
}
TOWERS = [*OWN, *TRUNKS]


def tower_of(kind):
    """A small random tower."""
    if kind in TRUNKS:
        return timm_tower(kind)
    return build(small_config(vision={"image_size": 64, "patch_size": 16, **OWN[kind]})).visual


def encoder_of(kind, attention=VANILLA):
    return DenseEncoder(tower_of(kind), attention)


@pytest.mark.parametrize("kind", TOWERS)
def test_vanilla_pooled_is_open_clips_embedding(kind):
    visual = tower_of(kind)
    pixels = random_pixels(2, 3, 64, 64)
    expected = visual(pixels)
    expected = expected / expected.norm(dim=-1, keepdim=True)
    found = DenseEncoder(visual, VANILLA).image_features(pixels)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", TRUNKS)
def test_a_token_is_what_pooling_makes_of_it_alone(kind):
    visual = tower_of(kind)
    pixels = random_pixels(1, 3, 64, 64)
    expected = alone(visual, visual.trunk.forward_features(pixels))
    encoder = DenseEncoder(visual, VANILLA)
    torch.testing.assert_close(encoder.tokens(pixels), expected, atol=1e-5, rtol=1e-4)
    assert encoder.width == expected.shape[2]
    assert encoder.tokens(pixels).shape[1] == visual.trunk.num_prefix_tokens + 16


def test_a_token_of_cocas_is_what_pooling_makes_of_it_alone():
    visual = tower_of("coca")
    pixels = random_pixels(1, 3, 64, 64)
    last = visual.transformer(visual._embeds(pixels))
    expected = torch.stack([visual._pool(t)[0] @ visual.proj for t in last.split(1, dim=1)], dim=1)
    found = DenseEncoder(visual, VANILLA).tokens(pixels)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_without_projection():
    visual = tower_of("openai")
    visual.proj = None
    pixels = random_pixels(1, 3, 64, 64)
    encoder = DenseEncoder(visual, VANILLA)
    torch.testing.assert_close(encoder.tokens(pixels)[:, 0], visual(pixels), atol=1e-6, rtol=1e-5)
    assert encoder.width == 32


@pytest.mark.parametrize("kind", ["eva02", "eva, halves turned", "pe", "pe without cls"])
def test_rotary_positions_of_other_grids_are_timms(kind):
    """Timm's dynamic size computes them; without a table, nothing else depends on the grid."""
    fixed = timm_tower(kind, use_abs_pos_emb=False)
    dynamic = timm_tower(kind, use_abs_pos_emb=False, dynamic_img_size=True)
    dynamic.load_state_dict(fixed.state_dict())
    pixels = random_pixels(2, 3, 48, 96)
    encoder = DenseEncoder(fixed, VANILLA)
    last = next(encoder._last_block(encoder.trunk(pixels), (3, 6), [VANILLA]))
    torch.testing.assert_close(encoder.backbone.pooled(last), dynamic(pixels), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", ["siglip", "cls without position", "mobileclip2-l", "registers"])
def test_positions_of_other_grids_are_resized_by_the_protocols_rule(kind):
    """As a trunk of that size computes with a table that was resized beforehand."""
    small, large = timm_tower(kind), timm_tower(kind, img_size=96)
    state = small.state_dict()
    table = state["trunk.pos_embed"][0]
    before = len(table) - 16
    patches = resize_positions(torch.cat([table[:1], table[before:]]), (4, 4), (6, 6))[1:]
    state["trunk.pos_embed"] = torch.cat([table[:before], patches])[None]
    large.load_state_dict(state)
    pixels = random_pixels(2, 3, 96, 96)
    encoder = DenseEncoder(small, VANILLA)
    last = next(encoder._last_block(encoder.trunk(pixels), (6, 6), [VANILLA]))
    torch.testing.assert_close(encoder.backbone.pooled(last), large(pixels), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", TOWERS)
def test_parts_make_a_block(kind):
    """What methods take apart and put together is what the block does."""
    encoder = encoder_of(kind)
    grid, pixels = (3, 5), random_pixels(2, 3, 48, 80)
    taps = encoder.taps(pixels, [Tap.of(block) for block in (0, 1)])
    tower, x = encoder.tower_on(grid), taps[Tap.of(0)]
    q, k, v = tower.heads(0, x)
    torch.testing.assert_close(tower.values(0, x), v.transpose(1, 2).flatten(2))
    whole = tower.after_attention(0, x + tower.out(0, sdpa(q, k, v)))
    torch.testing.assert_close(whole, taps[Tap.of(1)], atol=1e-5, rtol=1e-4)
    assert x.shape[1] == tower.prefix + 15

    of_patches = tower.heads(0, x[:, tower.prefix :], prefix=0)
    for some, of_all in zip(of_patches, (q, k, v), strict=True):
        torch.testing.assert_close(some, of_all[:, :, tower.prefix :])
    first = x[:, : tower.prefix].expand(-1, -1, -1)
    for some, of_all in zip(tower.heads(0, first, prefix=tower.prefix), (q, k, v), strict=True):
        torch.testing.assert_close(some, of_all[:, :, : tower.prefix])


@pytest.mark.parametrize("kind", TOWERS)
def test_what_the_first_block_reads_begins_with_cls(kind):
    encoder = encoder_of(kind)
    read = encoder.taps(random_pixels(1, 3, 64, 64), [Tap.of(0)])[Tap.of(0)]
    prefix = encoder.backbone.prefix
    torch.testing.assert_close(read[0, :prefix], encoder.backbone.first)
    if prefix:
        torch.testing.assert_close(encoder.tower.cls, read[0, 0])


@pytest.mark.parametrize("kind", TOWERS)
@pytest.mark.parametrize("policy", sorted(BUILT_IN))
def test_every_attention_on_every_tower(kind, policy):
    function, arch = POLICIES[policy]
    encoder = encoder_of(kind, Attention(policy, arch))
    pixels = random_pixels(2, 3, 48, 80)
    found = encoder.patch_features(pixels)
    assert found.shape == (2, 3, 5, encoder.width)

    tower, x = encoder.tower_on((3, 5)), encoder.trunk(pixels)
    z = tower.out(-1, function(*tower.heads(-1, x), (3, 5)))
    if arch == "vanilla":
        z = tower.after_attention(-1, x + z)
    expected = tower.features(z)[:, tower.prefix :].unflatten(1, (3, 5))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_naclips_gaussian_without_cls():
    with_cls = neighbourhood((3, 4))
    assert torch.equal(neighbourhood((3, 4), prefix=0), with_cls[1:, 1:])
    assert not neighbourhood((3, 4), prefix=3)[:3].any()


@pytest.mark.parametrize(
    ("kind", "cls"),
    [
        ("openai", ""),
        ("mobileclip2-l", ""),
        ("eva02", ""),
        ("coca", "pools by attention"),
        ("clipa", "pools its patches"),
        ("mean beside cls", "pools its patches"),
        ("pe", "pools by attention"),
        ("pe without cls", "has none"),
        ("siglip", "has none"),
        ("registers", "has registers beside it"),
    ],
)
def test_whether_cls_can_be_used(kind, cls):
    facts = encoder_of(kind).backbone.facts
    assert facts.cls == cls
    assert facts.has_cls == (cls == "")


@pytest.mark.parametrize(
    ("kind", "change", "says"),
    [
        ("pe", {"rope_type": "dinov3"}, "rotary positions of another kind"),
        ("eva02", {"rope_type": "mixed"}, "rotary positions of another kind"),
        ("siglip", {"attn_layer": "diff"}, "no plain attention blocks (Block, DiffAttention)"),
        ("siglip", {"global_pool": ""}, "pools by ''"),
        ("siglip", {"patch_size": (16, 32)}, "patches that are not square"),
    ],
)
def test_refused(kind, change, says):
    assert says in str(why_not(timm_tower(kind, **change)))


def test_open_clips_blocks_are_named():
    visual = VisionTransformer(64, 16, 32, 2, 2, 4.0, output_dim=8, scaled_cosine_attn=True)
    assert why_not(visual) == "has no plain attention blocks (CustomResidualAttentionBlock)"
