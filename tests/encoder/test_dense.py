"""The dense encoder against open_clip's own forward, on towers of every plain kind."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import resize_pos_embed

from sclip_core import SCLIP, Protocol, UserError, Vocabulary
from sclip_core.config import Geometry
from sclip_core.encoder import POLICIES, Attention, DenseEncoder
from sclip_core.encoder.positions import REMEMBERED, antialiased_positions, resize_positions
from sclip_core.encoder.taps import Tap
from sclip_core.segmentation import Refiner

from ..conftest import IMAGES, TINY
from ..test_golden import SETS, rgb
from .models import build, make, small_config

VANILLA = Attention.parse("vanilla")
TOWERS = {  # what differs from tests/encoder/models.py's SMALL
    "patch 32": small_config(),
    "patch 16": small_config(vision={"patch_size": 16}, embed_dim=48),
    "patch 14": small_config(vision={"patch_size": 14}),
    "patch 14, 336 px": small_config(vision={"patch_size": 14, "image_size": 336}),
    "patch 32, 336 px": small_config(vision={"image_size": 336}),  # half a patch is left over
    "quick gelu": small_config(quick_gelu=True),
    "layer scale": small_config(vision={"ls_init_value": 0.3}),
    "no ln_pre": small_config(vision={"no_ln_pre": True}),
    "average pooling": small_config(vision={"pool_type": "avg"}),
    "norm after pooling": small_config(vision={"pool_type": "avg", "final_ln_after_pool": True}),
    "sines as positions": small_config(vision={"pos_embed_type": "sin_cos_2d"}),
    "one layer, narrow MLP": small_config(vision={"layers": 1, "mlp_ratio": 1.5}, embed_dim=7),
    "patch dropout": small_config(vision={"patch_dropout": 0.5}),
    "text tower apart, logit bias": small_config(custom_text=True, init_logit_bias=-10.0),
}


def random_pixels(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", TOWERS)
def test_vanilla_is_open_clip(tmp_path, kind):
    made = make(tmp_path, TOWERS[kind])
    model = SCLIP.load(**made.arguments, device="cpu", attention="vanilla")
    visual = made.clip.visual
    pixels = random_pixels(2, 3, *visual.image_size)
    ours = model.dense_tokens(pixels)

    visual.output_tokens = True
    pooled, tokens = visual(pixels)  # pooled is projected; tokens come after ln_post if it is there
    if visual.final_ln_after_pool:
        tokens = visual.ln_post(tokens)
    torch.testing.assert_close(ours[:, 1:], tokens @ visual.proj, atol=2e-5, rtol=1e-4)
    if visual.pool_type == "tok":
        torch.testing.assert_close(ours[:, 0], pooled, atol=2e-5, rtol=1e-4)
    elif not visual.final_ln_after_pool:
        torch.testing.assert_close(ours[:, 1:].mean(1), pooled, atol=2e-5, rtol=1e-4)

    side = visual.image_size[0] // visual.patch_size[0]
    assert model.spec.patch == visual.patch_size[0]
    assert model.spec.width == ours.shape[2] == TOWERS[kind]["embed_dim"]
    assert ours.shape == (2, 1 + side**2, made.clip.visual.output_dim)


@pytest.mark.parametrize("quick", [True, False])
def test_quick_gelu_decides(tmp_path, quick):
    """The two activations give different tokens, so the test above sees the wrong one."""
    made = make(tmp_path, small_config(quick_gelu=quick))
    other = build(small_config(quick_gelu=not quick))
    pixels = random_pixels(1, 3, 224, 224)
    ours = SCLIP.load(**made.arguments, device="cpu", attention="vanilla").dense_tokens(pixels)
    assert (ours[0, 0] - made.clip.visual(pixels)[0]).abs().max() < 2e-5
    assert (ours[0, 0] - other.visual(pixels)[0]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("name", "grid", "layers"),
    [("ViT-L-14-336", (24, 24), 1), ("ViT-L-14", (16, 16), 1), ("ViT-B-32", (7, 7), 2)],
)
def test_grid_of_real_architectures(name, grid, layers):
    config = open_clip.get_model_config(name)
    config["vision_cfg"]["layers"] = layers
    config["text_cfg"].update(width=8, heads=1, layers=1)
    visual = build(config).visual
    side = config["vision_cfg"]["image_size"]
    encoder = DenseEncoder(visual, VANILLA)
    assert encoder.patch_features(random_pixels(1, 3, side, side)).shape == (
        1,
        *grid,
        config["embed_dim"],
    )
    protocol = Protocol(slide_crop=side, slide_stride=side // 2, short_side=side)
    assert Geometry.of(480, 640, protocol, encoder.patch).tokens == grid


def test_preset_of_vitl14_336_has_windows_of_24_by_24():
    protocol = Protocol(slide_crop=336, slide_stride=224)
    geometry = Geometry.of(480, 640, protocol, patch=14)
    assert geometry.tokens == (24, 24)
    assert geometry.lefts == (0, 112)  # 448 wide: the second one is shifted back


@pytest.mark.slow
def test_full_size_vit_b_16(tmp_path):
    """Random weights of the real shapes, through the public API."""
    made = make(tmp_path, {**open_clip.get_model_config("ViT-B-16"), "quick_gelu": True})
    pixels = random_pixels(1, 3, 224, 224)
    model = SCLIP.load(**made.arguments, device="cpu", attention="vanilla")
    expected = made.clip.encode_image(pixels)
    torch.testing.assert_close(model.dense_tokens(pixels)[:, 0], expected, atol=1e-4, rtol=1e-4)
    image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    labels = SCLIP.load(**made.arguments, device="cpu").segment(image, classes=["a", "b"]).labels
    assert labels.shape == (300, 400)


def cubic(distance: float, a: float = -0.75) -> float:
    """Keys' kernel, with PyTorch's a."""
    d = abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def cubic_matrix(native: int, wanted: int) -> np.ndarray:
    """Bicubic taps of one axis; the 0.1 moves the sampling positions, not the number of them."""
    matrix = np.zeros((wanted, native))
    for i in range(wanted):
        position = (i + 0.5) * native / (wanted + 0.1) - 0.5
        for tap in range(math.floor(position) - 1, math.floor(position) + 3):
            matrix[i, min(max(tap, 0), native - 1)] += cubic(position - tap)
    return matrix


@pytest.mark.parametrize(
    ("native", "grid"),
    [
        ((14, 14), (21, 26)),
        ((14, 14), (8, 14)),
        ((14, 14), (1, 93)),
        ((7, 7), (7, 8)),
        ((24, 24), (16, 40)),
        ((4, 6), (9, 5)),  # a tower made for windows that are not square
    ],
)
def test_positions_are_resized_as_the_reference_does(native, grid):
    table = random_pixels(1 + native[0] * native[1], 5)
    ours = resize_positions(table, native, grid)
    planes = table[1:].reshape(*native, 5).double().numpy()
    down, across = (cubic_matrix(n, g) for n, g in zip(native, grid, strict=True))
    expected = np.einsum("in,jm,nmc->ijc", down, across, planes).reshape(-1, 5)
    np.testing.assert_allclose(ours[1:], expected, atol=3e-5, rtol=0)
    np.testing.assert_array_equal(ours[0], table[0])


@pytest.mark.parametrize("grid", [(21, 29), (8, 14), (5, 3), (28, 28), (14, 14)])
def test_antialiased_positions_are_open_clips(grid):
    visual = build(small_config(vision={"patch_size": 16})).visual
    table = visual.positional_embedding.detach()
    ours = antialiased_positions(table, visual.grid_size, grid)
    state = {"visual.positional_embedding": table}
    resize_pos_embed(state, SimpleNamespace(visual=SimpleNamespace(grid_size=grid)))
    expected = state["visual.positional_embedding"]
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=0)

    encoder = DenseEncoder(visual, VANILLA)
    pixels = random_pixels(1, 3, 16 * grid[0], 16 * grid[1])
    patches = visual.conv1(pixels).flatten(2).transpose(1, 2)
    first = visual.ln_pre(torch.cat([visual.class_embedding.expand(1, 1, -1), patches], 1) + ours)
    taken = encoder.taps(pixels, [Tap.of(0)], "antialiased")[Tap.of(0)]
    torch.testing.assert_close(taken, first, atol=1e-5, rtol=0)


def test_antialiased_positions_go_by_the_shape_not_by_the_number():
    visual = build(small_config(vision={"patch_size": 16})).visual
    encoder, flat = DenseEncoder(visual, VANILLA), random_pixels(1, 3, 7 * 16, 28 * 16)
    as_it_is, resized = (
        encoder.taps(flat, [Tap.of(0)], rule)[Tap.of(0)] for rule in ("reference", "antialiased")
    )
    assert (as_it_is - resized).abs().max() > 0.01
    torch.testing.assert_close(as_it_is[:, 0], resized[:, 0])  # CLS has no place


def test_unknown_rules_of_positions_are_refused():
    encoder = DenseEncoder(build(small_config()).visual, VANILLA)
    with pytest.raises(UserError, match="antialiased"):
        encoder.taps(torch.zeros(1, 3, 32, 64), [Tap.of(0)], "antialiassed")


def test_positions_are_taken_as_they_are_where_the_counts_agree():
    """7·28 patches are 14·14 by number: the reference does not look at the shape."""
    visual = build(small_config(vision={"patch_size": 16})).visual
    encoder = DenseEncoder(visual, VANILLA)
    tall = random_pixels(1, 3, 14 * 16, 14 * 16)
    patches = tall.unfold(2, 16, 16).unfold(3, 16, 16).flatten(2, 3)  # (1, 3, 196, 16, 16)
    flat = patches.unflatten(2, (7, 28)).permute(0, 1, 2, 4, 3, 5).reshape(1, 3, 7 * 16, 28 * 16)
    torch.testing.assert_close(encoder.tokens(flat), encoder.tokens(tall), atol=1e-5, rtol=1e-5)


def test_few_position_tables_are_kept():
    encoder = DenseEncoder(build(small_config()).visual, VANILLA)
    first = encoder.tokens(torch.zeros(1, 3, 32, 64))
    for columns in range(1, REMEMBERED + 10):
        encoder.tokens(torch.zeros(1, 3, 32, 32 * columns))
    assert encoder.backbone.positions.resized.cache_info().currsize == REMEMBERED
    torch.testing.assert_close(encoder.tokens(torch.zeros(1, 3, 32, 64)), first)


def test_pixels_beyond_whole_patches_are_left_out():
    encoder = DenseEncoder(build(small_config()).visual, VANILLA)
    pixels = random_pixels(1, 3, 70, 100)
    assert encoder.patch_features(pixels).shape == (1, 2, 3, 16)
    torch.testing.assert_close(encoder.tokens(pixels), encoder.tokens(pixels[..., :64, :96]))


def test_patch_features_are_unit_length_without_cls():
    encoder = DenseEncoder(build(small_config()).visual, VANILLA)
    pixels = random_pixels(2, 3, 64, 96)
    features, tokens = encoder.patch_features(pixels), encoder.tokens(pixels)
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(2, 2, 3))
    expected = tokens[1, 1 + 3 + 2] / tokens[1, 1 + 3 + 2].norm()  # second row, third column
    torch.testing.assert_close(features[1, 1, 2], expected)


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 4, 64, 64), (1, 3, 31, 64), (1, 3, 64, 0)])
def test_pixels_of_another_shape_are_refused(shape):
    encoder = DenseEncoder(build(small_config()).visual, VANILLA)
    with pytest.raises(UserError, match=r"expected \(B, 3, h, w\)"):
        encoder.tokens(torch.zeros(shape))


@pytest.mark.parametrize("policy", sorted(POLICIES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_everything_is_on_the_device_of_the_weights(policy, dtype):
    """As on a GPU, with the pixels still on the CPU; shapes and dtypes too, without computing."""
    visual = build(small_config()).visual.to("meta", dtype)
    encoder = DenseEncoder(visual, Attention.parse(policy))
    for size in ((224, 224), (64, 300)):
        tokens = encoder.tokens(random_pixels(2, 3, *size))
        assert (tokens.device.type, tokens.dtype) == ("meta", dtype)
        features = encoder.patch_features(random_pixels(2, 3, *size))
        assert (features.device.type, features.dtype) == ("meta", torch.float32)
        assert features.shape == (2, size[0] // 32, size[1] // 32, 16)


def test_results_are_ordinary_tensors(tiny):
    """A user may go on computing with them, in place too."""
    tokens = tiny.dense_tokens(random_pixels(1, 3, 32, 32))
    tokens *= 2
    assert not tokens.is_inference()
    assert not tokens.requires_grad


@pytest.mark.parametrize(("dtype", "least"), [("fp16", 0.995), ("bf16", 0.95)])
def test_half_precision_on_a_cpu(golden, tiny, dtype, least):
    """Random sharpened weights have thin margins; a trained model's are wider."""
    model = SCLIP.load(**TINY, device="cpu", dtype=dtype)
    assert model.encoder.dtype in (torch.float16, torch.bfloat16)
    for name in IMAGES:
        image = rgb(golden(name))
        equal = (
            model.segment(image, "cityscapes").labels == tiny.segment(image, "cityscapes").labels
        )
        print(f"{dtype} against fp32, {name}: {equal.mean():.4%} of the labels agree")
        assert equal.mean() >= least


def test_features_stored_in_fp16_give_the_same_labels(golden, tiny):
    agree = pixels = 0
    for name in IMAGES:
        image = rgb(golden(name))
        by_size = {}  # benchmarks of one short side have the same features
        for key, preset in SETS.items():
            protocol = Protocol.named(preset)
            vocabulary = Vocabulary.named(preset)
            vectors = torch.from_numpy(golden("shapes_300x420")[f"text_{key}"])
            if protocol.short_side not in by_size:
                geometry, windows = tiny.windows(image, protocol)
                by_size[protocol.short_side] = geometry, tiny.window_features(windows)
            geometry, features = by_size[protocol.short_side]
            stored = features.half().float()
            assert not torch.equal(stored, features)
            full, half = (
                Refiner(geometry, kind, vectors, protocol).labels(
                    torch.tensor(vocabulary.query_class), vocabulary.num_classes
                )
                for kind in (features, stored)
            )
            equal = full == half
            assert equal.mean() >= 0.999, (name, preset)
            agree, pixels = agree + equal.sum(), pixels + equal.size
    print(f"features in fp16: {agree / pixels:.4%} of the labels of the golden images agree")
