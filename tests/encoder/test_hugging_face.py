"""Checkpoints of transformers' CLIPModel: converted back, they are the weights of open_clip."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sclip_core import SCLIP
from sclip_core.encoder import find_model
from sclip_core.encoder.hugging_face import config_of, named_alike

from ..conftest import GOLDEN, TINY
from .models import build, make, small_config
from .test_loading import refusal

VISION = {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 224,
    "patch_size": 16,
}
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "vocab_size": 49408,
    "max_position_embeddings": 77,
}


def clip_config(act="quick_gelu", vision=None, text=None, **top):
    """The config.json of the golden tiny CLIP."""
    acts = {"hidden_act": act, "layer_norm_eps": 1e-5}
    return {
        "model_type": "clip",
        "architectures": ["CLIPModel"],
        "projection_dim": 32,
        "vision_config": {**VISION, **acts, **(vision or {})},
        "text_config": {**TEXT, **acts, **(text or {})},
        **top,
    }


def as_transformers(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Open_clip's weights as transformers has them, written down part by part."""
    found = {
        "logit_scale": state["logit_scale"],
        "visual_projection.weight": state["visual.proj"].T,
        "text_projection.weight": state["text_projection"].T,
        "vision_model.embeddings.class_embedding": state["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": state["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": state["visual.positional_embedding"],
        "vision_model.embeddings.position_ids": torch.arange(197)[None],
        "text_model.embeddings.token_embedding.weight": state["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": state["positional_embedding"],
        "text_model.embeddings.position_ids": torch.arange(77)[None],
    }
    for kind in ("weight", "bias"):
        found[f"vision_model.pre_layrnorm.{kind}"] = state[f"visual.ln_pre.{kind}"]
        found[f"vision_model.post_layernorm.{kind}"] = state[f"visual.ln_post.{kind}"]
        found[f"text_model.final_layer_norm.{kind}"] = state[f"ln_final.{kind}"]
        for theirs, ours in (("vision_model", "visual.transformer"), ("text_model", "transformer")):
            for block in range(3):
                here, there = f"{ours}.resblocks.{block}", f"{theirs}.encoder.layers.{block}"
                if f"{here}.ln_1.weight" not in state:
                    continue
                q, k, v = state[f"{here}.attn.in_proj_{kind}"].chunk(3)
                found[f"{there}.self_attn.q_proj.{kind}"] = q
                found[f"{there}.self_attn.k_proj.{kind}"] = k
                found[f"{there}.self_attn.v_proj.{kind}"] = v
                found[f"{there}.self_attn.out_proj.{kind}"] = state[f"{here}.attn.out_proj.{kind}"]
                found[f"{there}.layer_norm1.{kind}"] = state[f"{here}.ln_1.{kind}"]
                found[f"{there}.layer_norm2.{kind}"] = state[f"{here}.ln_2.{kind}"]
                found[f"{there}.mlp.fc1.{kind}"] = state[f"{here}.mlp.c_fc.{kind}"]
                found[f"{there}.mlp.fc2.{kind}"] = state[f"{here}.mlp.c_proj.{kind}"]
    return {name: value.contiguous().clone() for name, value in found.items()}


@pytest.fixture(scope="module")
def state():
    return as_transformers(load_file(TINY["pretrained"]))


@pytest.fixture
def folder(tmp_path, state) -> Path:
    """A folder as of the hub: config.json and model.safetensors, the latter in fp16."""
    here = tmp_path / "tiny-clip"
    here.mkdir()
    save_file(state, here / "model.safetensors")
    (here / "config.json").write_text(json.dumps(clip_config()))
    return here


def assert_is_tiny(tiny, model, pretrained):
    """The same features and words as of the golden CLIP's own file."""
    found = SCLIP.load(str(model), str(pretrained), device="cpu")
    pixels = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 3, 64, 96))).float()
    assert torch.equal(found.dense_tokens(pixels), tiny.dense_tokens(pixels))
    words = ["cat", "a red bus"]
    assert torch.equal(found.text_bank(words).embeddings, tiny.text_bank(words).embeddings)
    return found


class TestConverted:
    """The same numbers as in open_clip's format."""

    @pytest.mark.parametrize("what", ["file", "folder"])
    def test_by_model_json(self, tiny, folder, what):
        assert_is_tiny(
            tiny, TINY["model"], folder / "model.safetensors" if what == "file" else folder
        )

    def test_a_pickle_in_fp32(self, tiny, folder, state):
        (folder / "model.safetensors").unlink()
        wide = {name: v.float() if v.is_floating_point() else v for name, v in state.items()}
        torch.save(wide, folder / "pytorch_model.bin")
        assert_is_tiny(tiny, TINY["model"], folder)

    def test_the_architecture_of_its_config(self, tiny, folder):
        for model in (folder, folder / "config.json"):
            found = assert_is_tiny(tiny, model, folder)
            assert found.spec.name == "tiny-clip"
            assert found.spec.config["quick_gelu"] is True

    def test_what_a_config_leaves_out_is_usual(self, folder):
        """As transformers writes ViT-B-32: only what is not its default."""
        (folder / "config.json").write_text(json.dumps({"model_type": "clip"}))
        spec = find_model(str(folder), str(folder))
        assert named_alike(spec.config) == "ViT-B-32-quickgelu"

    def test_sections_of_old_versions(self, tiny, folder):
        config = clip_config()
        for part in ("vision_config", "text_config"):
            config[f"{part}_dict"] = config.pop(part)
        (folder / "config.json").write_text(json.dumps(config))
        assert_is_tiny(tiny, folder, folder)

    def test_a_repository_in_the_hubs_cache(self, tiny, folder, tmp_path):
        cache = tmp_path / "models--me--tiny" / "snapshots"
        cache.mkdir(parents=True)
        os.rename(folder, cache / "0123")
        assert_is_tiny(tiny, TINY["model"], cache.parent)
        assert_is_tiny(tiny, cache.parent, cache.parent)

    def test_open_clips_file_is_taken_first(self, tiny, folder):
        """A repository may hold both, and timm's image tower as model.safetensors."""
        shutil.copy(TINY["pretrained"], folder / "open_clip_model.safetensors")
        save_file({"patch_embed.proj.weight": torch.zeros(2)}, folder / "model.safetensors")
        assert_is_tiny(tiny, TINY["model"], folder)

    def test_into_a_model_with_its_text_tower_apart(self, tmp_path, folder):
        config = json.loads((GOLDEN / "tiny_clip.json").read_text())
        (tmp_path / "custom.json").write_text(json.dumps({**config, "custom_text": True}))
        SCLIP.load(str(tmp_path / "custom.json"), str(folder), device="cpu")


class TestActivation:
    """QuickGELU is in config.json alone."""

    def test_is_taken_from_the_config_and_said(self, tmp_path, folder):
        config = json.loads((GOLDEN / "tiny_clip.json").read_text())
        del config["quick_gelu"]
        (tmp_path / "plain.json").write_text(json.dumps(config))
        spec = find_model(str(tmp_path / "plain.json"), str(folder))
        assert spec.config["quick_gelu"] is True
        (note,) = spec.notes
        assert note.startswith("plain with QuickGELU: model.safetensors was trained so (config")

    def test_gelu_in_a_model_with_quickgelu(self, folder):
        (folder / "config.json").write_text(json.dumps(clip_config("gelu")))
        line = refusal(TINY["model"], folder)
        assert "was trained without QuickGELU (config.json beside it says so)" in line
        assert find_model(str(folder), str(folder)).config["quick_gelu"] is False

    @pytest.mark.parametrize("config", [None, {"architecture": "vit_base_patch16_clip_224"}])
    def test_nothing_says_it(self, folder, config):
        (folder / "config.json").unlink()
        if config:
            (folder / "config.json").write_text(json.dumps(config))
        line = refusal("ViT-B-16", folder)
        assert "whose activation only its config.json says: copy that beside it" in line
        assert "pass --model ViT-B-16-quickgelu" in line
        assert "another architecture" in refusal("ViT-B-16-quickgelu", folder)  # asked for

    def test_other_activations(self, folder):
        for change in ({"hidden_act": "gelu_new"}, {"hidden_act": "gelu"}, {"layer_norm_eps": 1}):
            (folder / "config.json").write_text(json.dumps(clip_config(vision=change)))
            assert "expected quick_gelu or gelu in both towers" in refusal(TINY["model"], folder)


class TestRefused:
    """What is not the model that was asked for."""

    def test_another_architecture(self, folder):
        line = refusal("ViT-B-16", folder)
        assert "config.json describes another model than ViT-B-16: embedding 32, not 512" in line
        assert line.endswith(f"Pass --model {folder / 'config.json'}")

    def test_heads_show_in_no_shape(self, folder):
        change = clip_config(vision={"num_attention_heads": 4})
        (folder / "config.json").write_text(json.dumps(change))
        assert "vision heads 4, not 2" in refusal(TINY["model"], folder)

    def test_the_name_of_the_right_one(self, folder):
        """ViT-L-14 of LAION with the default model."""
        big = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
        vision = {**big, "intermediate_size": 4096, "patch_size": 14}
        text = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
        config = clip_config("gelu", vision, {**text, "num_hidden_layers": 12}, projection_dim=768)
        (folder / "config.json").write_text(json.dumps(config))
        assert refusal("ViT-B-16", folder).endswith("Pass --model ViT-L-14")

    @pytest.mark.parametrize(
        ("without", "says"),
        [
            ("text_", "it lacks text_model, text_projection"),
            ("vision_model.encoder.layers.0.self_attn.v_proj", "lacks vision_model.encoder"),
            ("logit_scale", 'Missing key(s) in state_dict: "logit_scale"'),
        ],
    )
    def test_parts_that_lack(self, folder, state, without, says):
        left = {name: value for name, value in state.items() if not name.startswith(without)}
        save_file(left, folder / "model.safetensors")
        assert says in refusal(TINY["model"], folder)

    def test_siglip(self, folder, state):
        more = {**state, "vision_model.head.probe": torch.zeros(1, 1, 128)}
        save_file(more, folder / "model.safetensors")
        assert "not of its class CLIPModel: it has vision_model.head.probe" in refusal(
            TINY["model"], folder
        )

    def test_several_files(self, folder):
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text("{}")
        assert "has its weights in several files" in refusal(TINY["model"], folder)

    @pytest.mark.parametrize("content", ["{", "[]", '{"model_type": "clip", "vision_config": 3}'])
    def test_a_broken_config(self, folder, content):
        (folder / "config.json").write_text(content)
        assert "config.json" in refusal("ViT-B-16", folder)


class TestConfigBeside:
    """open_clip's own config beside its file."""

    def test_quickgelu(self, tmp_path):
        here = tmp_path / "repo"
        here.mkdir()
        made = make(here, small_config(), "open_clip_model")
        told = {"model_cfg": {**small_config(), "quick_gelu": True}, "preprocess_cfg": {}}
        (here / "open_clip_config.json").write_text(json.dumps(told))
        spec = find_model(str(made.json), str(here))
        assert spec.config["quick_gelu"] is True
        assert spec.weights.name == "open_clip_model.safetensors"
        assert "open_clip_config.json beside it says so" in spec.notes[0]
        assert find_model(str(here), str(here)).config["quick_gelu"] is True


@pytest.mark.parametrize("quick", [True, False])
def test_against_transformers(tmp_path, quick):
    """The library's own model of the same file."""
    transformers = pytest.importorskip("transformers")
    act = "quick_gelu" if quick else "gelu"
    config = transformers.CLIPConfig.from_dict(clip_config(act))
    torch.manual_seed(0)
    theirs = transformers.CLIPModel(config).eval()
    for parameter in theirs.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    theirs.save_pretrained(tmp_path)
    ours = SCLIP.load(str(tmp_path), str(tmp_path), device="cpu", attention="vanilla")
    pixels = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        image = theirs.visual_projection(theirs.vision_model(pixels).pooler_output)
        ids = ours._tokenizer(["a photo of a cat", "sky"])
        text = theirs.text_projection(theirs.text_model(ids).pooler_output)
        torch.testing.assert_close(ours._clip.encode_text(ids), text, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours.dense_tokens(pixels)[:, 0], image, atol=1e-4, rtol=1e-4)


def test_the_inverse_is_no_identity():
    """Built by hand: an exchanged part would show."""
    clip = build(json.loads((GOLDEN / "tiny_clip.json").read_text()))
    found = as_transformers(clip.state_dict())
    block = "vision_model.encoder.layers.0.self_attn"
    assert not torch.equal(found[f"{block}.q_proj.weight"], found[f"{block}.k_proj.weight"])
    assert len(found) == 10 + 2 * (3 + 8 * 5)


def test_sections_of_old_versions_have_their_way(tmp_path):
    """In transformers ``..._config_dict``, where it is there, is read over ``..._config``."""
    config = clip_config()
    for tower, own in (("vision", VISION), ("text", TEXT)):
        config[f"{tower}_config_dict"] = {"num_hidden_layers": own["num_hidden_layers"] + 5}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    found = config_of(path)
    assert found["vision_cfg"]["layers"] == VISION["num_hidden_layers"] + 5
    assert found["text_cfg"]["layers"] == TEXT["num_hidden_layers"] + 5
    assert found["vision_cfg"]["width"] == VISION["hidden_size"]
