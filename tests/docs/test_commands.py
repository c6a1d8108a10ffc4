"""The commands that the documentation shows exist, with the flags that it shows."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from functools import cache
from pathlib import Path

import pytest

from flows import cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```\w*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SHOWN = re.compile(r"^ *(?:\$ )?(?:\.venv/bin/)?(sclip [^\n]*)$", re.MULTILINE)
OF_DATA = {"list", "download", "prepare", "check"}


def sclip_lines(path: Path) -> list[str]:
    """The ``sclip ...`` lines of a page's blocks of code, continued lines joined."""
    blocks = (block.replace("\\\n", " ") for block in BLOCK.findall(path.read_text("utf-8")))
    return [line for block in blocks for line in SHOWN.findall(block)]


LINES = sorted({line for page in PAGES for line in sclip_lines(page)})


def words_of(line: str) -> list[str]:
    """The arguments of a line; a question in SQL may go on in the next one."""
    if line.count('"') % 2:
        line += '"'
    return shlex.split(line, comments=True)[1:]


@cache
def help_of(*command: str) -> str:
    """What ``--help`` prints about a command."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert cli.main([*command, "--help"]) == 0
    return printed.getvalue()


@pytest.mark.parametrize("line", LINES)
def test_a_command_has_the_flags_that_are_shown(line, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    words = words_of(line)
    command = words[:2] if words[0] == "data" and words[1] in OF_DATA else words[:1]
    explained = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", help_of(*command)))
    shown = {word for word in words if re.fullmatch(r"--?[a-z][\w-]*", word)}
    assert shown <= explained, f"sclip {' '.join(command)} has no {shown - explained}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_targets_of_make_exist(page):
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    blocks = "\n".join(BLOCK.findall(page.read_text("utf-8")))
    quoted = re.findall(r"`make ([a-z]+)", page.read_text("utf-8"))
    for target in [*re.findall(r"^(?:\$ )?make ([a-z]+)", blocks, re.MULTILINE), *quoted]:
        assert target in targets, f"make {target}"


def test_the_pages_show_commands():
    assert len(LINES) > 30
