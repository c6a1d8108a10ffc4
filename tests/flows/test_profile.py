"""``sclip profile``, as a user types it."""

from __future__ import annotations

import csv
import json

import pytest

from ..conftest import TINY

FLAGS = [f"--{name}={value}" for name, value in TINY.items()]
FLAGS += ["--num-samples=1", "--size=64x64", "--repeats=1", "--device=cpu"]
FLAGS += ["--short-side=64", "--slide-crop=64", "--slide-stride=64"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert list(tmp_path.iterdir()) == []


def test_methods_side_by_side(sclip):
    code, out, err = sclip("profile", *FLAGS, "--method=csa,naclip", "--pamr-steps=1")
    assert code == 0, err
    assert "images/s" in out
    rows = [[c.strip() for c in line.split("│")[1:-1]] for line in out.splitlines()]
    assert [row[0] for row in rows if row] == ["csa", "naclip", "image tower", "text tower"]
    assert "1 images of 64×64; " in out


def test_as_json(sclip):
    code, out, err = sclip("profile", *FLAGS, "--json")
    assert code == 0, err
    found = json.loads(out)
    [method] = found["methods"]
    assert method["windows"] == 1
    assert method["flops"] == found["networks"][0]["flops"]
    assert method["stages"]["total"]["median"] > 0


@pytest.mark.parametrize("format", ["markdown", "latex", "csv"])
def test_formats(format, sclip):
    code, out, err = sclip("profile", *FLAGS, "--format", format)
    assert code == 0, err
    first = out.split("\n\n")[0].splitlines()
    if format == "csv":
        heads, row = csv.reader(first)
        assert len(heads) == len(row)
        assert row[0] == "csa"
    elif format == "markdown":
        assert len({line.count("|") for line in first}) == 1
        assert first[2].startswith("| csa | 1 | ")
    else:
        assert first[0].startswith(r"\begin{tabular}{lrr")
        assert first[4].startswith("csa & 1 & ")
        assert first[2].count("&") == first[4].count("&")


def test_words_of_a_preset_and_of_ones_own(sclip):
    def words(*flags: str) -> int:
        code, out, err = sclip("profile", *FLAGS, "--json", *flags)
        assert code == 0, err
        return json.loads(out)["words"]

    assert words("--classes", "cat; dog, puppy") == 3
    assert words("--preset", "cityscapes") == words("--dataset", "cityscapes")


def test_a_size_that_is_none(sclip):
    code, _, err = sclip("profile", *FLAGS[:2], "--size", "big")
    assert code == 2
    assert err == "sclip: --size big: expected HEIGHTxWIDTH in pixels, such as 336x448\n"
