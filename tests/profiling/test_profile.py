"""FLOPs and parameters against sums by hand, and what a profile writes: nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sclip_core.config import UserError, resolve
from sclip_core.profiling import Profile, profile
from sclip_core.profiling.memory import peak_mb, seconds_of
from sclip_core.profiling.networks import flops_of, load

from ..conftest import TINY

CONFIG = json.loads(Path(TINY["model"]).read_text("utf-8"))
CPU = torch.device("cpu")
ONCE = {"dataset": "voc21", "device": "cpu", "num_samples": 1}
SMALL = {"short_side": 96, "slide_crop": 64, "slide_stride": 48}


def block_flops(tokens: int, width: int, mlp: float = 4.0) -> int:
    """A transformer block: q, k, v; weights and mix of the attention; projection; MLP."""
    linears = 2 * tokens * width * (3 * width + width + 2 * int(mlp * width))
    return linears + 2 * 2 * tokens * tokens * width


def tower_flops(side: int) -> int:
    """The image tower by CSA, whose last block has two attentions."""
    vision, embed = CONFIG["vision_cfg"], CONFIG["embed_dim"]
    width, patch = vision["width"], vision["patch_size"]
    patches = (side // patch) ** 2
    tokens = patches + 1
    flops = 2 * patches * 3 * patch**2 * width
    flops += (vision["layers"] - 1) * block_flops(tokens, width, vision.get("mlp_ratio", 4.0))
    flops += block_flops(tokens, width) + 2 * 2 * tokens * tokens * width  # q·qᵀ and k·kᵀ, mixed
    return flops + 2 * tokens * width * embed


def text_flops() -> int:
    """The text tower: all blocks, and the projection of one token."""
    text, embed = CONFIG["text_cfg"], CONFIG["embed_dim"]
    context, width = text["context_length"], text["width"]
    return text["layers"] * block_flops(context, width) + 2 * width * embed


@pytest.fixture(scope="module")
def tiny_profile(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    """Of CSA with PAMR and of SC-CLIP, over two made-up images."""
    given = {**ONCE, **TINY, **SMALL, "num_samples": 2, "pamr_steps": 1}
    both = [resolve(**given), resolve(**given, method="sc-clip")]
    with pytest.MonkeyPatch.context() as patch:
        empty = tmp_path_factory.mktemp("empty")
        patch.chdir(empty)
        found = profile(both, size=(96, 128), repeats=2)
        assert list(empty.iterdir()) == []
    return found


def test_flops_are_those_of_a_sum_by_hand(tiny_profile):
    image, text = tiny_profile.networks
    assert (image.name, image.size) == ("image tower", "64×64")
    assert image.flops == tower_flops(64)
    assert (text.name, text.size) == (
        "text tower",
        f"{CONFIG['text_cfg']['context_length']} tokens",
    )
    assert text.flops == text_flops()


def test_parameters_are_all_of_them(tiny_profile):
    model = load(resolve(**ONCE, **TINY)).network
    whole = sum(p.numel() for p in model.parameters())
    assert sum(network.parameters for network in tiny_profile.networks) + 1 == whole  # logit_scale
    image = tiny_profile.networks[0]
    assert image.parameters == sum(p.numel() for p in model.visual.parameters())


def test_flops_of_an_image(tiny_profile):
    """CSA: the tower for each window; nothing else of it multiplies matrices."""
    csa, sc_clip = tiny_profile.methods
    assert csa.windows == 6  # 96×128 in windows of 64, 48 apart
    assert csa.flops == 6 * tower_flops(64)
    assert sc_clip.flops != csa.flops


def test_the_attention_of_pytorch_is_counted():
    q = torch.zeros(1, 2, 10, 8)
    attend = torch.nn.functional.scaled_dot_product_attention
    assert flops_of(lambda: attend(q, q, q)) == 2 * 2 * (2 * 10 * 10 * 8)
    layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    x = torch.zeros(1, 10, 16)
    expected = 2 * 10 * 16 * (4 * 16 + 2 * 32) + 2 * 2 * 10 * 10 * 16
    assert flops_of(lambda: layer(x)) == expected


def test_stages(tiny_profile):
    for one in tiny_profile.methods:
        assert set(one.stages) == {"encode", "refine", "pamr", "total"}
        assert all(len(stage.seconds) == 4 for stage in one.stages.values())
        assert all(stage.median <= stage.p95 for stage in one.stages.values())
        total = one.stages["total"].seconds
        parts = zip(*(one.stages[n].seconds for n in ("encode", "refine", "pamr")), strict=True)
        assert total == pytest.approx([sum(part) for part in parts])
        assert one.images_per_second == pytest.approx(4 / sum(total))
    assert (tiny_profile.images, tiny_profile.size) == (2, "96×128")
    assert "1 threads, float32, PyTorch " in tiny_profile.machine


def test_memory_and_seconds():
    import time

    assert seconds_of(lambda: time.sleep(0.02), CPU) == pytest.approx(0.02, abs=0.015)


def test_peak_memory_is_that_of_each_call():
    """Whatever earlier calls have left: 8 MB, then another 8, one freed, 16 more."""

    def call():
        first = torch.ones(2 << 20)
        second = first * 2
        del first
        return second, torch.ones(4 << 20)

    for _ in range(2):
        assert peak_mb(call, CPU) == pytest.approx(24, abs=0.5)
    assert peak_mb(lambda: np.ones(3 << 20), CPU) == pytest.approx(24, abs=0.5)


def test_peak_memory_does_not_depend_on_the_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    csa, vanilla = (resolve(**ONCE, **TINY, **SMALL, attention=name) for name in ("csa", "vanilla"))

    def memory(*runs):
        found = profile(list(runs), size=(96, 128), repeats=1).methods
        return {one.name: one.stages["encode"].memory for one in found}

    one, other = memory(csa, vanilla), memory(vanilla, csa)
    assert min(one.values()) > 0.1
    assert one == pytest.approx(other, abs=0.05)


def test_masks_and_methods_that_read_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {**ONCE, **TINY, **SMALL, "proposals": "slic", "slic_segments": 9}
    found = profile([resolve(**given, mode="hybrid")], size=(96, 96), repeats=1)
    assert found.methods[0].stages["masks"].median > 0
    with pytest.raises(UserError, match="runs with dense labels: take --mode dense or hybrid"):
        profile([resolve(**given, mode="baseline")])
    assert list(tmp_path.iterdir()) == []


def test_random_weights_of_a_second_network():
    """ProxyCLIP with DINO, of which no weights are fetched."""
    tiny = {"model": TINY["model"], "pretrained": "none", "proxy_model": "dino_vits8"}
    settings = resolve(**ONCE, **tiny, method="proxyclip", short_side=56, slide_crop=56,
                       slide_stride=56)  # fmt: skip
    found = profile([settings], size=(56, 56), repeats=1)
    second = found.networks[2]
    assert second.name == "second, proxyclip"
    assert second.parameters == pytest.approx(21.67e6, rel=0.001)  # of ViT-S/8
    torch.testing.assert_close(
        *(load(settings).network.visual.conv1.weight for _ in range(2)), rtol=0, atol=0
    )


@pytest.mark.slow
def test_random_weights_of_vit_b_16():
    """149.62 million parameters, as its paper's code has."""
    settings = resolve(**ONCE, pretrained="none")
    found = profile([settings], size=(224, 224), repeats=1)
    assert sum(n.parameters for n in found.networks) == pytest.approx(149.62e6, rel=1e-4)


def test_the_images_of_a_dataset(tmp_path, monkeypatch):
    from ..flows.conftest import write_own

    own = write_own(tmp_path / "own", 3)
    monkeypatch.chdir(tmp_path)
    places = {"images": own / "images", "classes": own / "classes.txt"}
    settings = resolve(**places, **TINY, **SMALL, num_samples=2)
    found = profile([settings], repeats=1)
    assert (found.images, found.size, found.words) == (2, "48×64", 3)
    assert [path.name for path in tmp_path.iterdir()] == ["own"]
