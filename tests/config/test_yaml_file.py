"""Reading YAML by libyaml, as PyYAML reads it; texts so deep that they would end the process."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import sclip_core.config
from sclip_core.config.yaml_file import load_yaml

FOLDER = Path(sclip_core.config.__file__).parent
SHIPPED = sorted([*FOLDER.rglob("*.yaml"), Path(__file__).parents[2] / "pipeline.yaml"])
LEVELS = 100_000  # libyaml itself overflows the stack


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_files_of_ours_are_as_pyyaml_reads_them(file):
    text = file.read_text("utf-8")
    assert load_yaml(text) == yaml.load(text, yaml.SafeLoader)


@pytest.mark.parametrize("text", ["[" * LEVELS, "{a: " * LEVELS, "- " * (LEVELS // 2) + "a"])
def test_deep_texts_are_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011  whatever says it
        load_yaml(text)


def test_the_place_of_a_fault_is_said():
    with pytest.raises(ValueError, match=r"line 1, column 4.*expected .,. or .\]., but got"):
        load_yaml("a: [b\nc: d")
