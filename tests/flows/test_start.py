"""What a command loads: its own parts and no more. Counted in modules, not in seconds."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from importlib import import_module
from inspect import cleandoc
from pathlib import Path

import pytest
from cyclopts import App

from flows.cli import commands
from sclip_core.demo.scenes.files import write_scenes

ROOT = Path(__file__).parents[2]
SAID = """
import atexit, json, sys
from flows.cli import main
code = main({words!r})
found = [name for name in {names!r} if name in sys.modules]
print("LOADED", json.dumps([code, found]))
"""
# Libraries that take longest to import.
LARGE = (
    *("torch", "torchvision", "timm", "open_clip", "transformers", "numba", "scipy", "matplotlib"),
    *("prefect", "fastapi", "sqlalchemy", "zarr", "cv2", "pyarrow", "numpy", "pydantic", "yaml"),
)
OF_NETWORKS = ("torchvision", "timm", "open_clip", "transformers", "torch._dynamo", "numba")
OF_PREFECT = ("prefect", "fastapi", "sqlalchemy")
OF_SERVERS = ("prefect.server.api.server", "prefect.server.database", "sqlalchemy", "docket")


def loaded(names, *words, cwd=ROOT):
    """A command's exit code, and which of these modules it has loaded at its end."""
    code = SAID.format(words=[str(word) for word in words], names=[*names])
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    last = [line for line in ended.stdout.splitlines() if line.startswith("LOADED")]
    assert last, ended.stderr
    return tuple(json.loads(last[0].removeprefix("LOADED ")))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The flags of a run over drawn scenes whose artifacts are all there."""
    folder = tmp_path_factory.mktemp("start")
    write_scenes(folder / "scenes", 2)
    words = [
        *("--preset", "demo", "--dataset", "scenes", "--num-samples", "2"),
        *("--data-root", folder / "scenes", "--artifacts", folder / "artifacts"),
    ]
    code, _ = loaded((), "run", "--direct", *words)
    assert code == 0
    return words


class TestWhatIsLoaded:
    @pytest.mark.parametrize("word", ["--help", "--version"])
    def test_without_a_command_nothing_large(self, word, tmp_path):
        assert loaded(LARGE, word, cwd=tmp_path) == (0, [])

    @pytest.mark.parametrize("word", ["bogus", "--bogus"])
    def test_an_unknown_command_loads_no_networks(self, word, tmp_path):
        """All commands are imported for the line that lists them."""
        names = ("torch", *OF_NETWORKS, *OF_PREFECT)
        assert loaded(names, word, cwd=tmp_path) == (2, [])

    def test_the_help_of_a_command_loads_no_library_of_numbers(self, tmp_path):
        names = ("torch", "prefect", "numba", "numpy", "pyarrow", "zarr", "cv2")
        for command in ("run", "plan", "explore"):
            assert loaded(names, command, "--help", cwd=tmp_path) == (0, [])

    @pytest.mark.parametrize("command", [("results",), ("cite", "latest"), ("data", "list")])
    def test_what_reads_results_loads_no_networks(self, finished, command):
        more = [] if command[0] == "data" else finished[-2:]
        names = ("torch", *OF_NETWORKS, *OF_PREFECT)
        assert loaded(names, *command, *more) == (0, [])

    def test_a_plan(self, finished):
        assert loaded((*OF_NETWORKS, *OF_PREFECT, "zarr"), "plan", *finished) == (0, [])

    def test_a_run_whose_artifacts_are_there(self, finished):
        names = (*OF_NETWORKS, *OF_PREFECT)
        assert loaded(names, "run", "--direct", *finished) == (0, [])

    @pytest.mark.flow
    @pytest.mark.slow
    def test_the_same_with_prefect_whose_server_is_another_process(self, finished):
        for _ in ("makes the database", "finds it"):
            names = ("prefect", *OF_NETWORKS, *OF_SERVERS)
            assert loaded(names, "run", *finished) == (0, ["prefect"])


class TestCommands:
    @pytest.mark.parametrize("name", commands.COMMANDS)
    def test_the_help_is_the_docstring(self, name):
        module, told = commands.COMMANDS[name]
        function = getattr(import_module(f"flows.cli.{module}"), name)
        assert cleandoc(function.__doc__) == told

    def test_the_help_of_the_group(self):
        from flows.cli.data import app

        assert app.help == commands.DATA

    def test_all_are_there(self):
        """Every name leads to an application, the group's as the others'."""
        for name in (*commands.COMMANDS, "data"):
            assert isinstance(commands.app[name], App)

    def test_no_lazy_name_is_that_of_a_module(self):
        """Importing the module would put it in the place of the name."""
        for file in ROOT.glob("sclip_core/**/__init__.py"):
            text = file.read_text("utf-8")
            if "lazy(" not in text:
                continue
            package = ".".join(file.parent.relative_to(ROOT).parts)
            names = next(
                ast.literal_eval(node.value)
                for node in ast.parse(text).body
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
            )
            beside = {path.stem for path in file.parent.iterdir()}
            for name in names:
                assert name not in beside, f"{package}.{name}"
                getattr(import_module(package), name)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "10000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, "None"),
    ],
)
def test_pytorchs_threads_wait_without_the_processor(given, expected):
    """Asked of the environment before torch is there; what a user asks for is kept."""
    code = "import os, sys, flows; print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    own = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    told = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**own, **given},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == [expected, "False"]
