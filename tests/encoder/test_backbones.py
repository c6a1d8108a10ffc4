"""Every model of open_clip's, built once with random weights; the table of docs/backbones.md."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from sclip_core import SCLIP, UserError
from sclip_core.encoder import Attention, DenseEncoder, loading
from sclip_core.encoder.loading import meta_tower
from sclip_core.methods.backbones import HEAD, row_of, table

from .test_dense import random_pixels

DOCS = Path(__file__).parents[2] / "docs" / "backbones.md"
MOST_BYTES = 2**29  # of a tower's weights that are built
MOST_PATCHES = 256  # of an image that such a tower sees
SMALLEST_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1}
END_TO_END = (
    "EVA02-B-16",
    "ViT-B-16-SigLIP",
    "ViT-B-16-SigLIP2",
    "PE-Core-B-16",
    "coca_ViT-B-32",
)
VANILLA = Attention.parse("vanilla")


def listed() -> dict[str, str]:
    """The lines of the documented table by model."""
    lines = DOCS.read_text("utf-8").split(HEAD)[1].strip().splitlines()
    return {line.split("|")[1].strip(): line for line in lines}


def test_the_table_lists_open_clips_models():
    assert list(listed()) == open_clip.list_models()


@pytest.mark.parametrize(
    "name", ["ViT-B-16", "ViT-B-16-SigLIP", "EVA02-B-16", "coca_ViT-B-32", "RN50", "ViTamin-S"]
)
def test_some_lines_of_the_table(name):
    assert listed()[name] == str(row_of(name))


@pytest.mark.slow
def test_the_table_is_what_open_clip_builds():
    assert DOCS.read_text("utf-8").split(HEAD)[1].strip() == table().split(HEAD)[1].strip()


def runnable() -> list[str]:
    """The models that run, one of each config of the image tower."""
    found = {}
    for name, line in listed().items():
        if "| refused |" not in line:
            config = open_clip.get_model_config(name)
            known = {**config["vision_cfg"], "D": config["embed_dim"]}
            found.setdefault(json.dumps(known, sort_keys=True), name)
    return list(found.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", runnable())
def test_runs(name):
    """Shapes, without memory; and where the weights fit, the model's own embedding."""
    config = open_clip.get_model_config(name)
    visual = meta_tower(name, config)
    encoder = DenseEncoder(visual, VANILLA)
    side, patch = encoder.image_side, encoder.patch
    pixels = torch.empty(1, 3, side + patch, side // 2, device="meta")
    grid = (side // patch + 1, side // 2 // patch)
    policies = [Attention.parse(policy) for policy in ("csa", "naclip", "clearclip")]
    for found in encoder.features_of(pixels, policies):
        assert found.shape == (1, *grid, config["embed_dim"])
    size = sum(parameter.nbytes for parameter in visual.parameters())
    if size > MOST_BYTES or math.prod(encoder.backbone.native) > MOST_PATCHES:
        return
    vision = {**config["vision_cfg"], "timm_model_pretrained": False}
    given = {"embed_dim": config["embed_dim"], "text_cfg": SMALLEST_TEXT, "vision_cfg": vision}
    torch.manual_seed(0)
    visual = loading._build(name, given).visual.eval()
    encoder = DenseEncoder(visual, VANILLA)
    pixels = random_pixels(1, 3, side, side)
    with torch.no_grad():
        expected = visual(pixels)
    expected = expected[0] if isinstance(expected, tuple) else expected
    expected = expected / expected.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(encoder.image_features(pixels), expected, atol=2e-5, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", END_TO_END)
def test_from_a_checkpoint_to_labels(tmp_path, name):
    """Its image tower with a small text tower and random weights: that it runs, not how well."""
    config = open_clip.get_model_config(name)
    special = {"embed_cls", "output_tokens"} & config["text_cfg"].keys()  # of CoCa
    config["text_cfg"] = SMALLEST_TEXT | {key: config["text_cfg"][key] for key in special}
    if "multimodal_cfg" in config:
        config["multimodal_cfg"] = {**config["multimodal_cfg"], "width": 8, "heads": 1, "layers": 1}
        config["multimodal_cfg"] |= {"attn_pooler_heads": 1}
    torch.manual_seed(0)
    state = loading._build(name, config).state_dict()
    weights = tmp_path / "weights.safetensors"
    save_file({key: value.contiguous() for key, value in state.items()}, weights)
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(config), "utf-8")
    model = SCLIP.load(str(path), str(weights), device="cpu")
    image = np.random.default_rng(0).integers(0, 255, (120, 150, 3), np.uint8)
    given = {"classes": ["cat", "sky"], "short_side": 128, "slide_crop": 0}
    for method in ("csa", "naclip", "pearl"):
        logits = model.logits(image, method=method, **given)
        assert logits.shape == (2, 120, 150)
        assert logits.std(dim=(1, 2)).min() > 0
    assert model.segment(image, **given).labels.shape == (120, 150)


def test_without_the_tokenizer(tmp_path, monkeypatch):
    """One line, before any weights are read."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    weights = tmp_path / "weights.pt"
    weights.touch()
    says = "ViT-B-16-SigLIP needs the tokenizer 'timm/ViT-B-16-SigLIP'"
    with pytest.raises(UserError, match=says) as missing:
        SCLIP.load("ViT-B-16-SigLIP", str(weights), device="cpu")
    assert "\n" not in str(missing.value)
