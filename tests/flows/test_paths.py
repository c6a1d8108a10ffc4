"""Paths are of this machine: URLs are refused, and names with a colon are names."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from sclip_core.config import Settings, UserError, resolve
from sclip_core.config.paths import is_url, local

from .conftest import flags, write_own

COMMANDS = [
    *(
        ["run", "--direct", f"--{name}"]
        for name in (
            *("data-root", "classes", "save-vis", "config", "masks"),
            *("sam-checkpoint", "model", "pretrained"),
        )
    ),
    ["plan", "--save-vis"],
    ["sweep", "--images=i", "--plot"],
    ["demo", "--folder"],
    ["demo", "--artifacts"],
    ["segment", "--classes", "cat", "a.png", "-o"],
    ["segment", "--classes", "cat", "a.png", "--labels-out"],
    ["segment", "--classes", "cat", "b.png"],
    ["segment", "--classes", "cat"],
    ["compare", "latest", "latest~1", "--output"],
    ["query", "from runs", "-o"],
    ["report", "--output"],
    ["report", "--data-root"],
    ["data", "list", "--root"],
    ["data", "download", "voc21", "--data-root"],
    ["data", "prepare", "cityscapes", "--root"],
    ["data", "check", "voc21", "--root"],
    ["data", "check", "voc21", "--panel"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_refused_by_every_command(tmp_path, monkeypatch, sclip, words):
    monkeypatch.chdir(tmp_path)
    more = ["--images=i"] if words[-1] in ("--model", "--pretrained") else []
    code, out, err = sclip(*words, "s3://bucket/folder", *more)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "'s3://bucket/folder' is a URL; " in err.replace("folder':", "folder'")
    assert "local paths only: pass a local folder or file" in err
    assert not os.listdir(tmp_path)


def test_refused_as_words(tmp_path, monkeypatch, sclip, small):
    """A URL of classes would be one class of that name."""
    image = str(small / "images" / "0.png")
    code, _, err = sclip("segment", image, "--classes", "https://host/classes.txt")
    assert (code, "'https://host/classes.txt' is a URL" in err) == (2, True)


@pytest.mark.parametrize(
    "url",
    ["s3://b", "gs://b/x", "http://h", "hf://datasets/a", "file:///tmp/x", "az://a", "s3:/b/x"],
)
@pytest.mark.parametrize("name", ["data_root", "classes", "save_vis", "pretrained"])
def test_refused_in_a_file(tmp_path, url, name):
    file = tmp_path / "pipeline.yaml"
    file.write_text(f"sclip:\n  images: i\n  {name}: {url}\n")
    with pytest.raises(UserError, match=f"pipeline.yaml, section sclip: {name}='.*' *: is a URL"):
        resolve(file)


@pytest.mark.parametrize("url", ["http://h", "hf://datasets/a", "file:///tmp/x", "ftp:/b/x"])
@pytest.mark.parametrize("name", ["images", "labels"])
def test_images_of_another_kind(tmp_path, url, name):
    """Images and label maps may be in object storage, and nowhere else."""
    file = tmp_path / "pipeline.yaml"
    given = {"images": "i", name: url}
    file.write_text("sclip:\n" + "".join(f"  {key}: {value}\n" for key, value in given.items()))
    with pytest.raises(UserError, match=f"section sclip: {name}='.*' *: is a URL of a kind that"):
        resolve(file)


def test_refused_in_a_flow():
    """Its parameters and those of Python's callers are the same settings."""
    with pytest.raises(UserError, match="save_vis='s3://b/x': is a URL"):
        resolve(images="i", save_vis="s3://b/x")
    with pytest.raises(UserError, match="is a URL"):
        resolve(images="i", save_vis=Path("s3://b/x"))
    with pytest.raises(UserError, match="is a URL"):
        resolve("s3://b/pipeline.yaml")


STORES = (
    ["run", "--direct", "--images=i"],
    ["plan", "--images=i"],
    ["results"],
    ["compare", "latest", "latest~1"],
    ["query", "from runs"],
    ["report"],
)


@pytest.mark.parametrize("words", STORES, ids=" ".join)
@pytest.mark.parametrize(
    "url", ["ftp://h/a", "hf://datasets/a", "file:///tmp/x", "http://h/b", "s3://", "s3://b/../x"]
)
def test_artifacts_of_another_kind(tmp_path, monkeypatch, sclip, words, url):
    monkeypatch.chdir(tmp_path)
    code, out, err = sclip(*words, "--artifacts", url)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert re.search("is a URL of a kind that is not supported|names no bucket|has '.', '..'", err)
    assert not os.listdir(tmp_path)


def test_credentials_in_a_url_are_not_repeated(sclip):
    code, out, err = sclip("results", "--artifacts", "s3://AKIA1:geheim@bucket/x")
    assert (code, out) == (2, "")
    assert "credentials are taken from the environment" in err
    assert "geheim" not in err
    assert "AKIA1" not in err


@pytest.mark.parametrize(
    "path",
    [
        *("exp:1", "exp:1/run", "exp:1/2:3", "./s3:/x", "/a/s3:/b", "C:/x", "C:\\x", ":", "a:"),
        *("hf-hub:org/model", "ViT-L/14@336px", "~/x", "", "ü:/x", "1:/x", "a/b://c", "cat; dog"),
    ],
)
def test_paths_and_names(path):
    assert not is_url(path)
    assert local(path) is path


@pytest.mark.parametrize("value", [None, 5, True, ["s3://b"], b"s3://b"])
def test_what_is_no_path_is_for_others_to_check(value):
    assert local(value) is value


def test_a_model_of_a_hub_is_no_url():
    settings = Settings.checked({"model": "hf-hub:org/model", "pretrained": "hf-hub:org/model"})
    assert settings.model == settings.pretrained == "hf-hub:org/model"


@pytest.fixture
def colons(tmp_path, monkeypatch) -> Path:
    """The current folder, with images in a folder called ``exp:1``."""
    monkeypatch.chdir(tmp_path)
    return write_own(Path("exp:1/own"), 2)


def test_a_colon_in_a_name(colons, sclip):
    own, out = Path("exp:1/own"), Path("exp:1/s:1")
    unlabelled = [f for f in flags(own, Path("exp:1/a")) if not f.startswith("--labels")]
    code, _, err = sclip("run", "--direct", *unlabelled, "--save-vis=exp:1/v:2")
    assert (code, len(list(Path("exp:1/v:2").glob("*.png")))) == (0, 2), err
    code, said, err = sclip("plan", *unlabelled)
    assert (code, "missing" in said) == (0, False), err
    code, said, err = sclip(
        "segment", str(own / "images"), "--preset=demo", "--classes=a;b", "-o", str(out)
    )
    assert (code, said.split()) == (0, [f"{out}/{n}.sclip.png" for n in (0, 1)]), err
    assert os.listdir() == ["exp:1"]


def test_results_in_a_folder_with_a_colon(colons, sclip):
    masks = {"proposals": "slic", "slic_segments": 9, "hybrid_rule": "crop"}
    given = flags(colons, Path("exp:1/a"), mode="hybrid", **masks)
    code, _, err = sclip("run", "--direct", *given)
    assert code == 0, err
    for words in (["results"], ["query", "from runs"], ["query"], ["report"]):
        code, said, err = sclip(*words, "--artifacts=exp:1/a")
        assert (code, bool(said)) == (0, True), err
    code, said, err = sclip("query", "from runs", "--artifacts=exp:1/a", "-o=exp:1/q:1.parquet")
    assert (code, Path("exp:1/q:1.parquet").is_file()) == (0, True), err
