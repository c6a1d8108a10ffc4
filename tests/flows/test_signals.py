"""Ctrl-C and SIGTERM at any time: rows stored, one line, the shell's exit code, and it goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from flows.signals import Stopped, Watch
from sclip_core.encoder.clip import CLIP
from sclip_core.pipeline.run import Run
from sclip_core.pipeline.stages.encoding import EncodingStage
from sclip_core.pipeline.stages.results import ResultsStage
from sclip_core.segmentation import Refiner

from ..pipeline.conftest import areas
from ..pipeline.test_resume import ledger_ids
from .conftest import flags, write_own

INT, TERM = signal.SIGINT, signal.SIGTERM
STOPPED = "sclip: stopped; what was computed is kept\n"
SETTINGS = {"batch_size": 1, "workers": 0}
ROOT = Path(__file__).parents[2]


def start(*words: object, path: Path | None = None, **variables: str) -> subprocess.Popen[str]:
    """The command in a process of its own, which finds modules in a folder first."""
    places = [str(path)] if path else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*places, str(ROOT)]), **variables}
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        # where the tests run in the background, Ctrl-C is ignored by all that they start
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_until(true, process: subprocess.Popen[str]) -> None:
    """Look again and again while the process lives."""
    while not true():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)


class TestImports:
    """A module of this name stands for one that takes long."""

    @pytest.fixture
    def slow(self, tmp_path):
        """Write it; gives the file that is there once it is being imported."""

        def write(name: str) -> Path:
            reached = tmp_path / "reached"
            (tmp_path / f"{name}.py").write_text(
                f"import pathlib, time\npathlib.Path({str(reached)!r}).touch()\n"
                "end = time.monotonic() + 60\n"
                "while time.monotonic() < end:\n"
                "    try:\n        time.sleep(60)\n"
                "    except BaseException:\n        pass\n"  # as some libraries do
            )
            return reached

        return write

    @pytest.mark.parametrize("number", [INT, TERM])
    @pytest.mark.parametrize("module", ["cyclopts", "torch"])  # of the command itself, of a stage
    def test_ends_within_seconds(self, slow, tmp_path, small, number, module):
        reached = slow(module)
        words = ["run", "--direct", *flags(small, tmp_path / "artifacts")]
        process = start(*words, path=tmp_path)
        wait_until(reached.exists, process)
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
        # Python handles no signal that comes between its last look and the sleep: as a user would.
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (128 + number, "", STOPPED)

    def test_a_module_that_is_imported_meanwhile_is_whole(self, tmp_path, monkeypatch):
        (tmp_path / "interrupted_module.py").write_text(
            "import signal\nwhole = True\n"
            "try:\n    signal.raise_signal(signal.SIGTERM)\n"
            "except BaseException:\n    whole = False\n"
        )
        monkeypatch.syspath_prepend(tmp_path)

        def import_and_wait():
            import interrupted_module

            assert interrupted_module.whole
            time.sleep(10)

        with Watch(sys._getframe(), own_process=False) as watch:
            watch.work()
            with pytest.raises(Stopped):
                import_and_wait()

    def test_nothing_heavy_before_the_signals_are_watched(self):
        code = (
            "import sys; before = set(sys.modules); import flows.cli; "
            "print({m.split('.')[0] for m in set(sys.modules) - before} - sys.stdlib_module_names)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout == "{'flows'}\n"


class TestWatch:
    @pytest.fixture
    def watch(self):
        with Watch(sys._getframe(), own_process=False) as watch:
            watch.work()
            yield watch

    def test_a_destructor_swallows_nothing(self, watch):
        class Loud:
            def __del__(self):
                signal.raise_signal(TERM)

        def drop_and_wait():
            Loud()
            time.sleep(10)

        with pytest.raises(Stopped):
            drop_and_wait()

    def test_two_at_once_are_one(self, watch):
        with pytest.raises(Stopped):
            signal.raise_signal(TERM)
        signal.raise_signal(TERM)
        signal.raise_signal(INT)

    def test_handlers_are_given_back(self):
        before = signal.getsignal(TERM), signal.getsignal(INT), sys.unraisablehook
        with Watch(sys._getframe(), own_process=False):
            assert signal.getsignal(TERM) != before[0]
        assert (signal.getsignal(TERM), signal.getsignal(INT), sys.unraisablehook) == before

    def test_what_is_ignored_stays_so(self):
        before = signal.signal(TERM, signal.SIG_IGN)
        try:
            with Watch(sys._getframe(), own_process=False):
                assert signal.getsignal(TERM) == signal.SIG_IGN
        finally:
            signal.signal(TERM, before)


@pytest.fixture
def run(sclip, small, tmp_path):
    """A direct run in this process: (exit code, lines for the user)."""

    def command() -> tuple[int, list[str]]:
        given = flags(small, tmp_path / "artifacts", **SETTINGS)
        code, _, err = sclip("run", "--direct", *given)
        assert "Traceback" not in err
        return code, [line for line in err.splitlines(True) if line.startswith("sclip: ")]

    return command


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, small) -> list[dict]:
    """The areas of a run that nothing disturbs."""
    from flows import cli

    root = tmp_path_factory.mktemp("undisturbed")
    assert cli.main(["run", "--direct", *flags(small, root, **SETTINGS)]) == 0
    return areas(root)


@pytest.mark.parametrize(
    ("cls", "method", "number"),
    [
        (Run, "check", TERM),
        (torch.nn.Module, "load_state_dict", TERM),  # of the model
        (CLIP, "encode_word", INT),
        (EncodingStage, "_encode_windows", TERM),
        (Refiner, "labels_at", TERM),
        (ResultsStage, "execute", INT),
    ],
)
def test_in_the_middle(run, tmp_path, undisturbed, monkeypatch, cls, method, number):
    inner, calls = getattr(cls, method), []

    def signalled(*arguments, **options):
        calls.append(arguments)
        if len(calls) == (2 if cls in (EncodingStage, Refiner) else 1):
            signal.raise_signal(number)
        return inner(*arguments, **options)

    monkeypatch.setattr(cls, method, signalled)
    assert run() == (128 + number, [STOPPED])
    monkeypatch.undo()
    assert run() == (0, [])
    assert areas(tmp_path / "artifacts") == undisturbed


@pytest.mark.parametrize("twice", [False, True])
def test_while_something_is_made_durable(run, tmp_path, undisturbed, monkeypatch, twice):
    """At every few times; the second signal comes with the file after it."""
    fsync, root = os.fsync, tmp_path / "artifacts"
    for calls in range(0, 100, 9):
        count = iter(range(1000))

        def signalled(handle: int, at=calls, count=count) -> None:
            number = next(count)
            if number == at or (twice and number == at + 1):
                os.kill(os.getpid(), TERM)
            fsync(handle)

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", signalled)
            code, said = run()
        if code == 0:
            break
        assert (code, said) == (143, [STOPPED])
    assert calls > 7
    assert run() == (0, [])
    assert areas(root) == undisturbed
    assert not list(root.rglob(".writing*"))


@pytest.fixture(scope="module")
def long(tmp_path_factory) -> Path:
    """More pictures, so that there is time for a signal."""
    return write_own(tmp_path_factory.mktemp("long"), 8)


@pytest.fixture(scope="module")
def whole(long, tmp_path_factory) -> list[dict]:
    """The areas of a run over them that nothing disturbs."""
    from flows import cli

    root = tmp_path_factory.mktemp("whole")
    assert cli.main(["run", "--direct", *flags(long, root, **SETTINGS)]) == 0
    return areas(root)


@pytest.mark.parametrize("numbers", [[INT], pytest.param([TERM, TERM], marks=pytest.mark.slow)])
def test_a_process(sclip, long, whole, tmp_path, numbers):
    """Stopped when the first features are there; then the rest, and all as without the stop."""
    root = tmp_path / "artifacts"
    process = start("run", "--direct", *flags(long, root, **SETTINGS))
    wait_until(lambda: ledger_ids(root, "dense_features"), process)
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.02)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + numbers[0], err
    assert err.splitlines(True)[-1] == STOPPED
    assert "Traceback" not in err
    there = ledger_ids(root, "dense_features")
    assert 1 <= len(set(there)) == len(there) <= 8

    code, _, err = sclip("run", "--direct", *flags(long, root, **SETTINGS))
    assert code == 0, err
    assert sorted(ledger_ids(root, "dense_features")) == sorted({*ledger_ids(root, "refine")})
    assert areas(root) == whole


@pytest.mark.flow
@pytest.mark.slow
def test_a_flow(own, tmp_path):
    """SIGTERM, twice, while Prefect runs the stages: one line, and the rows are there."""
    root = tmp_path / "artifacts"
    given = flags(own, root, pamr_steps=1000, **SETTINGS)
    process = start("run", *given, PREFECT_HOME=str(tmp_path / "prefect"))
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("refine: "):
            for _ in range(2):
                process.send_signal(TERM)
                time.sleep(0.02)
    assert process.wait(60) == 143, "".join(said)
    assert said[-1] == STOPPED
    assert not [line for line in said if "Traceback" in line]
    assert len(ledger_ids(root, "dense_features")) == 3
    assert 1 <= len(ledger_ids(root, "refine")) < 3  # the image that it was at


class TestEnd:
    """The command's own process ends without freeing what a large interpreter holds."""

    BODY = """
import atexit, sys
import flows.cli as cli

class Freed:
    def __del__(self):
        sys.stdout.write("freed ")

def run(arguments, watch):
    kept = Freed()
    kept.itself = kept  # Python frees it when it shuts down
    atexit.register(lambda: print("handler", end=" "))
    print("done", end=" ")
    {ending}

cli._run = run
{before}
sys.exit(cli.main())
"""

    def ended(self, ending: str, before: str = "") -> tuple[int, str, str]:
        body = self.BODY.format(ending=ending, before=before)
        command = [sys.executable, "-c", body]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        found = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
        return found.returncode, found.stdout, found.stderr

    def test_handlers_run_and_output_is_written(self):
        assert self.ended("return 3") == (3, "done handler ", "")

    def test_whoever_came_before_is_called_too(self):
        """Such as a tool that measures coverage: Python then shuts down as ever."""
        before = "atexit.register(lambda: print('before', end=' '))"
        code, out, _ = self.ended("return 3", before)
        assert (code, out) == (3, "done handler before freed ")

    def test_an_error_is_shown(self):
        code, out, err = self.ended("raise RuntimeError('odd')")
        assert (code, out.split()[:2]) == (1, ["done", "handler"])
        assert err.endswith("RuntimeError: odd\n")
