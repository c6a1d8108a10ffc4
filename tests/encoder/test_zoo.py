"""open_clip's tables, read without it, are what open_clip itself says."""

from __future__ import annotations

import json
import subprocess
import sys

import open_clip
import pytest

from sclip_core.encoder import loading, zoo

ALONE = """
import json, sys
from sclip_core.encoder import zoo
tags = zoo.list_pretrained()
mean, std = zoo.openai_constants()
print(json.dumps({
    "models": {name: zoo.get_model_config(name) for name in zoo.list_models()},
    "order": zoo.list_models(),
    "tags": [[name, tag, zoo.get_pretrained_cfg(name, tag)] for name, tag in tags],
    "of ViT-B-32": zoo.list_pretrained_tags_by_model("ViT-B-32"),
    "unknown": [zoo.get_model_config("x"), zoo.get_pretrained_cfg("x", "y")],
    "templates": [template("word") for template in zoo.imagenet_templates()],
    "constants": [mean, std],
    "tokens": zoo.simple_tokenizer()(["a photo of a Ca\\u0301t", "sea"]).tolist(),
    "simple": zoo.is_simple(zoo.simple_tokenizer()),
    "loaded": [n for n in ("open_clip", "timm", "torchvision") if n in sys.modules],
}))
"""


def test_they_are_open_clips_own():
    told = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=True)
    found = json.loads(told.stdout)
    names, tags = open_clip.list_models(), open_clip.list_pretrained()
    expected = {
        "models": {name: open_clip.get_model_config(name) for name in names},
        "order": names,
        "tags": [[*both, open_clip.get_pretrained_cfg(*both)] for both in tags],
        "of ViT-B-32": open_clip.list_pretrained_tags_by_model("ViT-B-32"),
        "unknown": [None, {}],
        "templates": [template("word") for template in open_clip.OPENAI_IMAGENET_TEMPLATES],
        "constants": [open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD],
        "tokens": open_clip.SimpleTokenizer()(["a photo of a Ca\u0301t", "sea"]).tolist(),
        "simple": True,
        "loaded": [],
    }
    assert found == json.loads(json.dumps(expected))


def test_where_open_clip_is_loaded_it_is_asked(tmp_path, monkeypatch):
    """A user's own code may have added an architecture."""
    for name in ("_MODEL_CONFIG_PATHS", "_MODEL_CONFIGS"):  # to be as before for other tests
        monkeypatch.setattr(open_clip.factory, name, getattr(open_clip.factory, name).copy())
    (tmp_path / "own-tower.json").write_text(json.dumps(open_clip.get_model_config("ViT-B-16")))
    open_clip.add_model_config(tmp_path)
    assert "own-tower" in zoo.list_models()
    assert zoo.get_model_config("own-tower") == open_clip.get_model_config("ViT-B-16")


def is_plain(name):
    vision = loading._architecture(name)[1]["vision_cfg"]
    return vision.keys() <= loading.OF_PLAIN_VIT and isinstance(vision["layers"], int)


PLAIN = [name for name in [*open_clip.list_models(), loading.EMBEDDED] if is_plain(name)]


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_known_of_a_plain_tower_is_what_open_clip_builds(name):
    _, config, _ = loading._architecture(name)
    built = loading.backbone_of(loading.meta_tower(name, config), name).facts
    assert loading._facts(name, config) == built


def test_plain_towers_are_those_of_openai():
    assert {"ViT-B-32", "ViT-B-16", "ViT-L-14-336", "ViT-H-14", loading.EMBEDDED} <= {*PLAIN}
    assert not {"RN50", "ViT-B-16-SigLIP", "EVA02-B-16", "coca_ViT-B-32"} & {*PLAIN}


def test_only_other_options_make_another_tokenizer():
    usual = zoo.simple_tokenizer()
    assert zoo.simple_tokenizer(context_length=77) is usual
    assert zoo.simple_tokenizer(context_length=32)(["sea"]).shape == (1, 32)
    assert zoo.simple_tokenizer(clean="canonicalize") is not usual
    assert usual(["sea"]).tolist() == open_clip.get_tokenizer("ViT-B-32")(["sea"]).tolist()
