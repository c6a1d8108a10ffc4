"""docs/own-method.md: its code runs, its commands do what it says they do."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from flows import cli
from sclip_core.config import resolve, tables

from ..own_files import forgotten

PAGE = (Path(__file__).parents[2] / "docs" / "own-method.md").read_text("utf-8")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(PAGE) if kind == language]


@pytest.fixture(autouse=True)
def no_traces():
    with forgotten():
        yield


def test_the_commands_do_what_the_page_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "mine.py"
    mine.write_text(blocks("python")[0])
    commands = [text.strip() for text in blocks("") if text.startswith("sclip ")]
    demo, run, several, plan = (shlex.split(text)[1:] for text in commands)
    assert demo == ["demo", "--scenes", "20", "--direct"]
    from sclip_core.demo.scenes.files import scenes_folder, write_scenes

    write_scenes(scenes_folder(Path("artifacts/demo")), 2)  # as the demo draws them, but fewer
    for words in (run, run, several):
        assert cli.main(words) == 0
    printed = capsys.readouterr()
    assert "mine" in printed.out
    assert all(f"beta={beta}" in printed.out for beta in (2, 4, 6))
    assert len(re.findall("dense_features  computed", printed.err)) == 5  # csa, mine, 2, 4, 6
    changed = mine.read_text().replace("k @ k.transpose", "k @ v.transpose")
    assert changed != mine.read_text()
    mine.write_text(changed)
    monkeypatch.setenv("COLUMNS", "120")
    assert cli.main(plan) == 0
    out = capsys.readouterr().out
    assert "changed: mine.py" in out
    assert re.search("text_bank .* complete", out)


@pytest.mark.parametrize("number", range(1, len(blocks("python"))))
def test_other_code_is_a_plugin(tmp_path, number):
    path = tmp_path / f"part_{number}.py"
    path.write_text(blocks("python")[number])
    resolve(dataset="voc21", data_root=tmp_path, plugins=path)


def test_the_benchmark_is_one(tmp_path):
    (tmp_path / "roads.txt").write_text("road\nsky\n")
    path = tmp_path / "roads.yaml"
    path.write_text(blocks("yaml")[0])
    assert resolve(dataset="roads", data_root=tmp_path, plugins=path).logit_scale == 50
    assert "roads" in tables()["benchmarks"]
