"""Published weights are known by their digest, whatever the file is called."""

from __future__ import annotations

import hashlib
import shutil

import open_clip
import pytest
import torch
from open_clip.pretrained import _PRETRAINED

from sclip_core.config import resolve
from sclip_core.encoder import find_model, origin
from sclip_core.encoder.origin import _published_digests
from sclip_core.pipeline.run import Run
from sclip_core.progress import Silent

from .models import make, small_config
from .test_loading import refusal

OPENAI = "https://openaipublic.azureedge.net/clip/models/{}/ViT-B-16.pt"
RELEASE = "https://github.com/mlfoundations/open_clip/releases/download/v0.2-weights/vit-{}.pt"


@pytest.fixture(params=["model.safetensors", "weights.pt", "clip"])
def file(request, tmp_path):
    """Small weights under some name."""
    made = make(tmp_path, small_config())
    path = tmp_path / request.param
    if path.suffix == ".safetensors":
        shutil.copy(made.weights, path)
    else:
        torch.save(made.clip.state_dict(), path)
    return path


def publish(monkeypatch, path, model, tag, url=OPENAI):
    """Let open_clip list a file."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    digest = digest if url == OPENAI else digest[:8]
    for name in (model, f"{model}-quickgelu"):
        if tag in _PRETRAINED.get(name, {}):
            entry = {**_PRETRAINED[name][tag], "url": url.format(digest)}
            monkeypatch.setitem(_PRETRAINED[name], tag, entry)


def test_openais_own_digests():
    """Read off OpenAI's download addresses."""
    digests = {
        "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f": "ViT-B-16",
        "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af": "ViT-B-32",
        "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836": "ViT-L-14",
        "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02": "ViT-L-14-336",
    }
    known = _published_digests()
    for digest, name in digests.items():
        assert known[digest] == ("openai", True, (name, f"{name}-quickgelu"))
    assert known["55e67d44"] == ("laion400m_e32", False, ("ViT-B-16",))
    assert known["46683a32"][:2] == ("laion400m_e32", True)


@pytest.mark.parametrize(
    ("model", "tag", "url"),
    [("ViT-B-16", "openai", OPENAI), ("ViT-B-32", "laion400m_e32", RELEASE)],
)
def test_quickgelu_by_the_digest(monkeypatch, file, model, tag, url):
    before = find_model(model, str(file))
    assert not before.config.get("quick_gelu")
    assert before.notes == (
        f"{file.name} does not say its activation: GELU is taken (OpenAI's: --model "
        f"{model}-quickgelu)",
    )
    publish(monkeypatch, file, model, tag, url)
    spec = find_model(model, str(file))
    assert spec.config["quick_gelu"] is True
    said = f"its sha256 is that of {model}, tag '{tag}'"
    assert spec.notes == (f"{model} with QuickGELU: {file.name} was trained so ({said})",)
    assert find_model(f"{model}-quickgelu", str(file)).notes == ()


def test_another_model(monkeypatch, file):
    publish(monkeypatch, file, "ViT-B-32", "openai")
    line = refusal("ViT-B-16", file)
    assert line == (
        f"{file} is no ViT-B-16: its sha256 is that of ViT-B-32, tag 'openai'. "
        "Pass --model ViT-B-32"
    )


def test_gelu_in_a_model_with_quickgelu(monkeypatch, file):
    publish(monkeypatch, file, "ViT-B-16", "laion400m_e32", RELEASE)
    line = refusal("ViT-B-16-quickgelu", file)
    assert "was trained without QuickGELU" in line
    assert line.endswith("and ViT-B-16-quickgelu has it: pass --model ViT-B-16")
    assert find_model("ViT-B-16", str(file)).notes == ()


def test_an_archive_has_quickgelu_whatever_is_known_of_its_digest(monkeypatch, file):
    """OpenAI's format: it was written with it."""
    publish(monkeypatch, file, "ViT-B-16", "laion400m_e32", RELEASE)
    monkeypatch.setattr(origin, "is_torchscript", lambda path: True)
    config = {}
    assert origin.settle("ViT-B-16", config, file)[0] == []
    assert config == {"quick_gelu": True}


def test_weights_that_are_published_for_quickgelu_alone(monkeypatch, file):
    """The model's plain name is that of their architecture too."""
    known = origin.Origin("said", True, ("ViT-B-16-quickgelu",))
    monkeypatch.setattr(origin, "_published", lambda path, digest: known)
    for model, expected in (("ViT-B-16", True), ("ViT-B-16-quickgelu", False)):
        config = dict(open_clip.get_model_config(model))
        notes, found = origin.settle(model, config, file)
        assert config["quick_gelu"]
        assert bool(notes) == expected
        assert found == known


def test_a_json_of_ones_own(monkeypatch, tmp_path, file):
    """Its name says nothing; what the weights need is taken."""
    publish(monkeypatch, file, "ViT-B-16", "openai")
    assert find_model(str(tmp_path / "small.json"), str(file)).config["quick_gelu"] is True


@pytest.mark.parametrize("layout", ["models--timm--{}/snapshots/01", "{}"])
def test_by_the_folder_of_the_hub(tmp_path, layout):
    """The hub's digests are not in open_clip's list, but its folders have a repository's name."""
    made = make(tmp_path, small_config())
    folder = tmp_path / layout.format("vit_base_patch16_clip_224.openai")
    folder.mkdir(parents=True)
    shutil.copy(made.weights, folder / "open_clip_model.safetensors")
    spec = find_model("ViT-B-16", str(folder / "open_clip_model.safetensors"))
    assert spec.config["quick_gelu"] is True
    assert "the folder of timm/vit_base_patch16_clip_224.openai" in spec.notes[0]
    assert "is no ViT-B-32: " in refusal("ViT-B-32", folder / "open_clip_model.safetensors")


def test_a_run_says_it_once_and_hashes_once(monkeypatch, tmp_path, file):
    publish(monkeypatch, file, "ViT-B-16", "openai")
    said, hashed = [], []
    monkeypatch.setattr(Silent, "note", lambda self, line: said.append(line))
    monkeypatch.setattr("sclip_core.encoder.origin.sha256_of", pytest.fail)
    settings = resolve(
        images=tmp_path, classes=tmp_path, pretrained=str(file), artifacts=tmp_path / "a"
    )
    run = Run(settings)
    real = run.models._digests.of
    monkeypatch.setattr(run.models._digests, "of", lambda path: hashed.append(path) or real(path))
    assert run.models.spec.config["quick_gelu"] is True
    assert run.models.spec.config["quick_gelu"] is True
    assert len(said) == len(hashed) == 1


def test_every_url_with_a_digest_is_read():
    urls = {
        open_clip.get_pretrained_cfg(name, tag).get("url") or ""
        for name, tag in open_clip.list_pretrained()
    }
    own = {url for url in urls if "openaipublic" in url or "mlfoundations" in url}
    assert len(_published_digests()) == len(own) > 15
