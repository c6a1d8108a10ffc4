"""Weights in a file get the mean and std that they were trained with, as far as these are known."""

from __future__ import annotations

import hashlib
import json
import shutil

import open_clip
import pytest
from open_clip.pretrained import _PRETRAINED

from sclip_core.encoder import find_model
from sclip_core.encoder.normalization import OPENAI_MEAN, OPENAI_STD, Normalization
from sclip_core.encoder.pixels import MEAN, STD

from .models import make, small_config
from .test_loading import refusal

HALF = ((127.5,) * 3,) * 2


@pytest.fixture
def file(tmp_path):
    """Weights that nothing is known of."""
    made = make(tmp_path, small_config())
    return shutil.move(made.weights, tmp_path / "fine-tuned.safetensors")


def found(model, file):
    spec = find_model(str(model), str(file))
    lines = [line for line in spec.notes if "activation" not in line]
    return (spec.mean, spec.std), lines


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("ViT-B-16-SigLIP", "mean 0.5, std 0.5"),
        ("ViT-L-14-CLIPA", "mean 0.485 0.456 0.406, std 0.229 0.224 0.225"),
        ("PE-Core-B-16", "mean 0.5, std 0.5"),
    ],
)
def test_all_published_weights_agree(file, model, said):
    tags = open_clip.list_pretrained_tags_by_model(model)
    entries = [open_clip.get_pretrained_cfg(model, tag) for tag in tags]
    constants, lines = found(model, file)
    for entry in entries:
        assert constants[0] == pytest.approx([255 * value for value in entry["mean"]])
        assert constants[1] == pytest.approx([255 * value for value in entry["std"]])
    assert lines == [f"{model} with {said}: as all its published weights"]


def test_openais_need_no_note(file):
    assert found("ViT-B-16", file) == ((MEAN, STD), [])
    assert found("coca_base", file) == ((MEAN, STD), [])  # which nobody has published


def test_published_weights_disagree(file):
    constants, (line,) = found("ViT-L-14", file)
    assert constants == (MEAN, STD)
    assert line.startswith("fine-tuned.safetensors does not say its mean and std: OpenAI's are")
    assert "ViT-L-14's tag laion2b_s32b_b82k;" in line


def test_the_tag_is_known_by_the_digest(file, monkeypatch):
    tag = "laion2b_s32b_b82k"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    url = f"https://github.com/mlfoundations/open_clip/releases/download/v0/vit-{digest}.pt"
    entry = {**_PRETRAINED["ViT-L-14"][tag], "url": url}
    monkeypatch.setitem(_PRETRAINED["ViT-L-14"], tag, entry)
    said = f"its sha256 is that of ViT-L-14, tag '{tag}'"
    assert found("ViT-L-14", file) == (HALF, [f"ViT-L-14 with mean 0.5, std 0.5: {said}"])


def test_a_json_says_it(file, tmp_path):
    """Also one that has the name of a published model is another one, unless it is the same."""
    path = tmp_path / "ViT-B-16-SigLIP.json"
    path.write_text(json.dumps(small_config()))
    assert found(path, file) == ((MEAN, STD), [])
    path.write_text(json.dumps(open_clip.get_model_config(path.stem)))
    assert found(path, file)[0] == HALF
    config = {"model_cfg": small_config(), "preprocess_cfg": {"mean": 0.5, "std": [0.5] * 3}}
    path.write_text(json.dumps(config))
    line = f"{path.stem} with mean 0.5, std 0.5: {path.name} says so"
    assert found(path, file) == (HALF, [line])
    config["preprocess_cfg"]["std"] = [0.5, 0, 0.5]
    path.write_text(json.dumps(config))
    assert refusal(path, file) == f"{path}: std is [0.5, 0, 0.5], expected three numbers"


def test_the_folder_of_the_weights_says_it(file, tmp_path):
    (tmp_path / "hub").mkdir()
    weights = shutil.copy(file, tmp_path / "hub" / "open_clip_model.safetensors")
    config = {"model_cfg": small_config(), "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (tmp_path / "hub" / "open_clip_config.json").write_text(json.dumps(config))
    said = "open_clip_config.json beside it says so"
    assert found("ViT-B-16", weights) == (HALF, [f"ViT-B-16 with mean 0.5, std 0.5: {said}"])
    assert found(tmp_path / "hub", tmp_path / "hub")[0] == HALF


@pytest.mark.parametrize(("part", "by"), [("mean", 0.002), ("mean", 0.02), ("std", -0.02)])
def test_a_little_off_openais_is_kept(part, by):
    """Only their rounding is the reference's."""
    values = {"mean": OPENAI_MEAN, "std": OPENAI_STD}
    assert Normalization(**values).of_bytes == (MEAN, STD)
    values[part] = (*values[part][:2], values[part][2] + by)
    apart = Normalization(**values).of_bytes
    assert apart[part == "std"][2] == pytest.approx(255 * values[part][2])


def test_an_entry_without_constants_has_openais(file, monkeypatch):
    model = "ViT-B-16-SigLIP"
    for tag, entry in _PRETRAINED[model].items():
        bare = {key: value for key, value in entry.items() if key not in ("mean", "std")}
        monkeypatch.setitem(_PRETRAINED[model], tag, bare)
    assert found(model, file) == ((MEAN, STD), [])
