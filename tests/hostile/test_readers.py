"""Readers of files that may come from anywhere: a clean error, and nothing executed or multiplied.

Ledgers, manifests and annotations have tests of their own; digests are in ``tests/store``.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sclip_core.config import STAGES, Settings, UserError, resolve_several
from sclip_core.config.data import OWN_DATA
from sclip_core.datasets import Vocabulary

# Surrogates, which no UTF-8 file holds, are given by YAML's escapes below.
SIGNS = st.text(max_size=20)
ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=10**4000, max_value=10**4001),
    st.floats(),
    SIGNS,
    st.dates(),
    st.datetimes(),
    st.binary(max_size=8),
    st.sampled_from(["csa", "csa,kk", "0,5", "8,16;1,2", "voc21", "hybrid", "~", "s3://b"]),
    st.sampled_from(STAGES),
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(SIGNS, inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(sorted(Settings.model_fields))
SECTIONS = st.dictionaries(NAMES | SIGNS, VALUES, max_size=4) | VALUES
OTHERS = ("dataset", "data_root", *OWN_DATA)
TAGS = ["int", "float", "bool", "null", "timestamp", "binary", "set", "omap", "pairs", "seq", "map"]
SMALL = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@contextmanager
def modest(seconds: float = 3, megabytes: int = 200) -> Iterator[None]:
    """Neither much time nor much memory: the most that the process ever had is looked at."""
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.monotonic() - started < seconds
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < megabytes * 1024


def read(file: Path) -> str | None:
    """Read settings; the line with which they are refused, if they are."""
    try:
        resolve_several(file, images="i")
    except UserError as error:
        line = str(error)
        assert line.isprintable()
        assert len(line) < 2000
        return line
    return None


@pytest.fixture
def refused(tmp_path: Path) -> Callable[[str], str]:
    """The line with which the text of a settings file is refused."""

    def line(text: str) -> str:
        (tmp_path / "pipeline.yaml").write_text(text, encoding="utf-8")
        with modest():
            found = read(tmp_path / "pipeline.yaml")
        assert found is not None
        return found

    return line


@given(section=SECTIONS)
@SMALL
def test_any_values(tmp_path, section):
    file = tmp_path / "pipeline.yaml"
    with suppress(ValueError):  # an integer of more digits than Python writes
        file.write_text(yaml.safe_dump({"sclip": section}, allow_unicode=True), encoding="utf-8")
        read(file)


@given(content=st.binary(max_size=60) | st.text(max_size=60).map(lambda t: t.encode("utf-8")))
@SMALL
def test_any_bytes(tmp_path, content):
    (tmp_path / "pipeline.yaml").write_bytes(content)
    read(tmp_path / "pipeline.yaml")


@given(text=st.text("sclip:[]{}&*!<-?|>%@`'\"#, \n\t\\x0a1e.~", max_size=60))
@SMALL
def test_any_signs_of_yaml(tmp_path, text):
    (tmp_path / "pipeline.yaml").write_text(f"sclip:\n  attention: {text}", encoding="utf-8")
    read(tmp_path / "pipeline.yaml")


@given(name=NAMES, tag=st.sampled_from(TAGS), value=SIGNS)
@SMALL
def test_any_tag_of_yaml(tmp_path, name, tag, value):
    quoted = yaml.safe_dump(value, default_style='"').strip()
    file = tmp_path / "pipeline.yaml"
    file.write_text(f"sclip:\n  {name}: !!{tag} {quoted}\n", encoding="utf-8")
    read(file)


@pytest.mark.parametrize("value", ['!!bool "x"', '!!int ""', '!!timestamp "x"'])
def test_tags_of_yaml_that_do_not_fit(refused, value):
    """Of which PyYAML makes errors of its own kinds."""
    assert "is not valid YAML" in refused(f"sclip:\n  dataset: {value}\n")


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.mkdir [FOLDER]",
        "!!python/object/new:os.mkdir [FOLDER]",
        "!!python/name:os.mkdir",
        "!!python/module:antigravity",
        "!!python/tuple [1, 2]",
        "!mine {a: 1}",
    ],
)
@pytest.mark.parametrize("place", ["sclip: {{attention: {}}}", "sclip: {}", "{}: 1", "build: {}"])
def test_tags_are_not_executed(refused, tmp_path, value, place):
    text = place.format(value.replace("FOLDER", str(tmp_path / "made")))
    assert "is not valid YAML: " in refused(text)
    assert os.listdir(tmp_path) == ["pipeline.yaml"]


def bomb(first: str, level: str, levels: int = 12) -> str:
    """Aliases of aliases, nine times each, below Prefect's own key ``definitions``."""
    lines = [f"  a0: &a0 {first}"]
    for n in range(1, levels):
        lines.append(f"  a{n}: &a{n} {level.format(', '.join([f'*a{n - 1}'] * 9))}")
    return "definitions:\n" + "\n".join(lines) + f"\nsclip:\n  NAME: *a{levels - 1}\n"


BOMBS = [
    bomb("[x, x]", "[{}]"),
    bomb("{x: 1}", "{{<<: [{}]}}"),
    bomb("{x: 1}", "{{a: [{}]}}"),
    "sclip:\n  NAME: &a [*a, *a]\n",
    "sclip: &a\n  NAME: *a\n",
    "definitions:\n  a0: &a0 [x]\n"
    + "".join(f"  a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 3000))
    + "sclip:\n  NAME: *a2999\n",
    "sclip:\n  NAME: " + "[" * 5000 + "]" * 5000,
    "sclip:\n  NAME: " + "{a: " * 5000,
    "sclip:\n  NAME: " + "- " * 5000,
]


@pytest.mark.parametrize("name", ["attention", "pamr_dilations", "force", "artifacts", "nothing"])
@pytest.mark.parametrize("text", BOMBS, ids=range(len(BOMBS)))
def test_bombs(refused, text, name):
    line = refused(text.replace("NAME", name))
    assert "is not valid YAML: " in line


def test_aliases_as_they_are_meant(tmp_path):
    file = tmp_path / "pipeline.yaml"
    file.write_text(
        "definitions:\n  mine: &mine {pamr_steps: 3}\n  more: &more [csa, kk]\n"
        "sclip:\n  <<: *mine\n  attention: *more\n"
    )
    found = resolve_several(file, images="i")
    assert [(one.pamr_steps, one.attention) for one in found] == [(3, "csa"), (3, "kk")]


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_huge_numbers(tmp_path, name):
    """Of the first three Python prints none, or not in an error."""
    file = tmp_path / "pipeline.yaml"
    for value in ("0x" + "f" * 9000, "1" * 4000, ":".join(["59"] * 3000), "1" * 399, "1.0e+400"):
        file.write_text(f"sclip:\n  {name}: {value}\n")
        with modest():
            assert read(file) or name in OTHERS


@pytest.mark.parametrize("name", ["artifacts", "model", "save_vis", "mode", "attention"])
@pytest.mark.parametrize("value", ['"a\\0b"', '"\\ud800"'])
def test_names_that_no_file_has(refused, name, value):
    refused(f"sclip:\n  {name}: {value}\n")


def test_more_runs_than_anyone_means(refused):
    many = list(range(1, 301))
    line = refused(f"sclip:\n  pamr_steps: {many}\n  logit_scale: {many}\n  prob_thd: {many}\n")
    assert "27,000,000 runs, of all combinations of the values: at most 10,000" in line


# --- vocabularies


@given(content=st.binary(max_size=80) | st.text(max_size=80).map(lambda t: t.encode("utf-8")))
@SMALL
def test_any_vocabulary(tmp_path, content):
    file = tmp_path / "classes.txt"
    file.write_bytes(content)
    line, vocabulary = "", None
    try:
        vocabulary = Vocabulary.from_file(file)
    except UserError as error:
        line = str(error)
    assert line.isprintable()
    if vocabulary is not None:
        assert len(set(vocabulary.class_names)) == vocabulary.num_classes > 0
        assert all(word == word.strip() != "" for word in vocabulary.queries)
