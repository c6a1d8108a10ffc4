"""The digest of a function: another after every change of what it does, else the same."""

from __future__ import annotations

import functools
import importlib
import linecache
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from sclip_core.encoder.code import code_digest
from sclip_core.encoder.source import source_of

MODULE = """
import functools
import torch
from torch.nn.functional import softmax
import own_helpers
from own_helpers import half

WORDS = {"one", "two", "three"}
SCALE = 3.0

class Mixer:
    def __init__(self, scale):
        self.scale, self.table = scale, torch.arange(3.0)
    def __call__(self, q, k, v, grid):
        return self.scale * v if "one" in WORDS else q

mixer = Mixer(2)
scaled = functools.partial(half, 3)

@torch.no_grad()
def decorated(q, k, v, grid):
    return plain(q, k, v, grid) + SCALE

def plain(q, k, v, grid, *, factor=2):
    if grid in {(1, 2), (3, 4)}:
        return [softmax(part, -1) for part in (q, k)]
    return own_helpers.third(v) * factor
"""
HELPERS = "def half(x):\n    return x / 2\n\n\ndef third(x):\n    return x / 3\n"
NAMES = ("plain", "decorated", "mixer", "scaled")


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Writes the modules with a change and imports them anew; gives the first."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def of(*change: str) -> ModuleType:
        for name, text in (("own_module", MODULE), ("own_helpers", HELPERS)):
            sys.modules.pop(name, None)
            (tmp_path / f"{name}.py").write_text(text.replace(*change) if change else text)
        importlib.invalidate_caches()
        return importlib.import_module("own_module")

    yield of
    for name in ("own_module", "own_helpers"):
        sys.modules.pop(name, None)


def digests(module: ModuleType) -> list[str]:
    return [code_digest(getattr(module, name)) for name in NAMES]


def changed(load, *change: str) -> set[str]:
    before, after = digests(load()), digests(load(*change))
    return {name for name, one, other in zip(NAMES, before, after, strict=True) if one != other}


def test_the_same_in_every_process(load, tmp_path):
    expected = digests(load())
    assert len(set(expected)) == len(NAMES)
    script = (
        "import own_module\nfrom sclip_core.encoder.code import code_digest\n"
        f"print(*(code_digest(getattr(own_module, name)) for name in {NAMES}))"
    )
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("own_module.py", "own_helpers.py"):
        (moved / name).write_bytes((tmp_path / name).read_bytes())
    path = os.pathsep.join([str(moved), str(Path(__file__).parents[2])])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "5"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == expected


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (("factor=2", "factor=4"), {"plain", "decorated", "mixer"}),
        (("SCALE = 3.0", "SCALE = 3.5"), {"plain", "decorated", "mixer"}),
        (('"two"', '"four"'), {"plain", "decorated", "mixer"}),
        (("Mixer(2)", "Mixer(3)"), {"plain", "decorated", "mixer"}),
        (("x / 2", "x / 4"), {"plain", "decorated", "scaled"}),  # the helpers' whole file
        (("x / 3", "x / 5"), {"plain", "decorated", "scaled"}),
        (("(half, 3)", "(half, 4)"), {"plain", "decorated", "mixer", "scaled"}),
    ],
)
def test_a_change_of_a_file(load, change, names):
    """The whole file counts for what it defines, and for others what they use of it."""
    assert changed(load, *change) == names


@pytest.mark.parametrize(
    ("where", "value", "names"),
    [
        ("SCALE", 4.0, {"decorated"}),
        ("SCALE", np.float32(3), {"decorated"}),
        ("WORDS", {"one"}, {"mixer"}),
        ("half", max, set()),
        ("mixer", 3, {"mixer"}),
    ],
)
def test_a_change_in_memory(load, where, value, names):
    module = load()
    before = digests(module)
    setattr(module, where, value)
    after = digests(module)
    assert {n for n, one, other in zip(NAMES, before, after, strict=True) if one != other} == names


def test_an_attribute_of_another_module(load):
    module = load()
    before = code_digest(module.plain)
    module.own_helpers.third = module.own_helpers.half
    assert code_digest(module.plain) != before


def test_attributes_of_an_object(load):
    mixer = load().mixer
    first = code_digest(mixer)
    mixer.table[2] = 7
    second = code_digest(mixer)
    mixer.table = mixer.table.double()
    assert len({first, second, code_digest(mixer), code_digest(mixer.__call__)}) == 4


def test_a_file_edited_and_not_loaded_again(load, tmp_path):
    """What runs counts, not what the file says now."""
    module = load()
    before = code_digest(module.plain)
    path = tmp_path / "own_module.py"
    path.write_text(MODULE.replace("factor=2", "factor=2, more=1"))
    edited = code_digest(module.plain)
    assert source_of(module.plain.__code__) == []
    reloaded = code_digest(load("factor=2", "factor=2, more=1").plain)
    assert len({before, edited, reloaded}) == 3


def cell(source: str, name: str = "<cell 1>", **scope: Any) -> dict[str, Any]:
    """Run a cell as a notebook does: no file, its text in the linecache."""
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    names = {"__name__": "__main__", **scope}
    exec(compile(source, name, "exec"), names)
    return names


CELL = "def mine(q, k, v, grid):\n    return SCALE * helper(v)\n"
HELPER = "def helper(x):\n    return x + 1\n"


def test_cells_of_a_notebook():
    def digest(source: str = CELL, helper: str = HELPER, scale: object = 3, name: str = "a") -> str:
        helpers = cell(helper, "<helper>")
        return code_digest(cell(source, name, SCALE=scale, helper=helpers["helper"])["mine"])

    first = digest()
    assert source_of(cell(CELL)["mine"].__code__) == [CELL]
    assert first == digest(name="b")  # of another process, or run again
    assert first == digest("print()\n\n" + CELL)
    others = [
        digest(CELL.replace("SCALE *", "SCALE +")),
        digest(helper=HELPER.replace("1", "2")),
        digest(scale=4),
        digest(scale=3.0),
        digest(scale=torch.tensor([3])),
        digest(scale=torch.tensor([3], dtype=torch.bfloat16)),
        digest(scale=np.array([3, 4])),
        digest(scale={"a": [3]}),
        digest(scale={"a": (3,)}),
    ]
    assert len({first, *others}) == 1 + len(others)


def test_without_a_source():
    def digest(source: str) -> str:
        scope: dict[str, Any] = {"__name__": "made"}
        exec(source, scope)
        return code_digest(scope["mine"])

    body = "def mine(q, k, v, grid):\n    scale = 3\n    return [scale * x for x in (q, v)]\n"
    others = [body.replace("3", "4"), body.replace("* x", "+ x"), body.replace("(q, v)", "(q, k)")]
    assert digest(body) == digest("\n\n" + body)
    assert len({digest(source) for source in (body, *others)}) == 4


def test_what_is_bound():
    def made(scale: Any) -> Any:
        def mine(q, k, v, grid, *, more=scale):
            return v * scale

        return mine

    assert code_digest(made(3)) == code_digest(made(3))
    assert len({code_digest(made(scale)) for scale in (3, 3.0, "3", None, (3,), [3], made(3))}) == 7
    one, other = (functools.partial(made(3), more=value) for value in (3, 4))
    assert code_digest(one) != code_digest(other)


def test_two_in_one_line():
    one, other = (lambda q, k, v, grid: k), (lambda q, k, v, grid: v)
    assert code_digest(one) != code_digest(other)


def test_what_refers_to_itself():
    rings = []
    for value in (1, 1, 2):
        ring: list[Any] = [value]
        ring.append(ring)

        def mine(q, k, v, grid, ring=ring):
            return mine if ring else v

        rings.append(code_digest(mine))
    assert rings[0] == rings[1] != rings[2]


def test_a_memory_by_lru_cache_changes_nothing():
    @functools.lru_cache
    def table(size: int) -> torch.Tensor:
        return torch.ones(size)

    def mine(q, k, v, grid):
        return v * table(3)

    before = code_digest(mine)
    mine(None, None, 2, None)
    assert code_digest(mine) == before


@pytest.mark.parametrize("value", [object(), sys.stdout, iter([]), torch.nn.Linear(2, 2), sys])
def test_anything_can_be_described(value):
    def mine(q, k, v, grid, value=value):
        return v

    assert code_digest(mine) == code_digest(mine)
