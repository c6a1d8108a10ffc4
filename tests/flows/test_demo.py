"""``sclip demo``: what a newcomer types first."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from subprocess import PIPE, Popen

import numpy as np
import pytest
from PIL import Image

from flows.cli.demo import METHODS, SCENES_SHOWN, command, kind_means
from sclip_core.demo.scenes import class_names

SCENES = 4
LINES = r"(?m)^(.{12}) mIoU +([\d.]+)   (.*)$"

AS_TEXT = {"stdout": PIPE, "text": True, "cwd": Path(__file__).parents[2]}


def demo(sclip, folder: Path, *arguments: str) -> tuple[dict[str, str], str]:
    """What each method did, by its name; and all that was printed."""
    places = ["--folder", folder / "demo", "--artifacts", folder / "artifacts"]
    code, out, err = sclip("demo", "--scenes", SCENES, *places, *arguments)
    assert code == 0, err
    found = re.findall(LINES, out)
    assert len(found) == len(METHODS)
    return {name.strip(): done for name, _, done in found}, out


@pytest.mark.slow
@pytest.mark.flow  # of the commands that are printed, one is a run
@pytest.mark.usefixtures("prefect_server")
def test_first_time_then_cached_then_another_pamr(sclip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran, out = demo(sclip, tmp_path, "--direct")
    assert list(ran) == list(METHODS)
    assert f"{SCENES} scenes" in out
    assert "toy CLIP" in out
    assert re.match(r"computed: text_bank \d+ in", ran["vanilla"])
    assert f"dense_features {SCENES} in" in ran["vanilla"]
    assert ran["NACLIP"].endswith("cached: text_bank")
    assert f"proposals {SCENES} in" in ran["CSA + masks"]
    assert ran["CSA + masks"].endswith("cached: text_bank, dense_features, refine")
    assert ran["CSA + PAMR"].endswith("cached: text_bank, dense_features")
    for method in METHODS:
        assert re.search(rf"{re.escape(method)} +│( +[\d.]+ │){{5}} scenes-", out)
    with Image.open(tmp_path / "demo" / "sheet.png") as picture:
        assert picture.width > 1000
        assert picture.height > SCENES_SHOWN * 150
        assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 1000

    ran, out = demo(sclip, tmp_path, "--direct")
    assert set(ran.values()) == {"all cached"}
    assert f"{SCENES} scenes in {tmp_path}/demo/scenes-v1, 0 drawn now" in out

    ran, _ = demo(sclip, tmp_path, "--direct", "--pamr-steps", "3")
    others = [done for method, done in ran.items() if method != "CSA + PAMR"]
    assert set(others) == {"all cached"}
    refined = rf"computed: refine {SCENES} in .*, metrics {SCENES} .*"
    expected = f"{refined}; cached: text_bank, dense_features"
    assert re.fullmatch(expected, ran["CSA + PAMR"])

    commands = [line for line in out.splitlines() if re.match(r"  (\S*/)?sclip ", line)]
    assert len(commands) == 6
    said = []
    for typed in commands[1:5]:  # the last fetches weights
        code, out, err = sclip(*shlex.split(typed)[1:])
        assert code == 0, err
        said.append(out)
    assert "wooden wall" in said[1]
    assert "pamr_steps 10" in Path(said[2].strip()).read_text("utf-8")
    assert all(f"\n{method} & " in said[3] for method in ("vanilla", "csa", "sc-clip", "gem"))


@pytest.mark.slow
@pytest.mark.flow
@pytest.mark.usefixtures("prefect_server")
def test_as_prefect_flows(sclip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran, out = demo(sclip, tmp_path)
    page = next(line for line in out.splitlines() if "sclip explore" in line)
    options = [*shlex.split(page)[1:], "--port", "0", "--no-open"]
    with Popen([sys.executable, "-m", "flows.cli", *options], **AS_TEXT) as process:
        assert "/?token=" in process.stdout.readline()
        process.terminate()
    assert list(ran) == list(METHODS)
    assert all(f"dense_features {SCENES} in" in ran[method] for method in list(METHODS)[:4])
    assert ran["CSA + PAMR"].endswith("cached: text_bank, dense_features")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--scenes", "0"], "Must be >= 1"),
        (["--pamr-steps", "0"], "Must be >= 1"),
        (["--pamr-dilations", "8,x"], "pamr_dilations"),
    ],
)
def test_refused_before_anything_is_drawn(sclip, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    code, _, err = sclip("demo", "--direct", *arguments)
    assert code == 2
    assert says in err
    assert len(err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_scene_that_cannot_be_used_is_named(sclip, tmp_path):
    places = ["--folder", tmp_path / "demo", "--artifacts", tmp_path / "artifacts"]
    assert sclip("demo", "--direct", "--scenes", "2", *places)[0] == 0
    (tmp_path / "demo/scenes-v1/images/0001.jpg").write_bytes(b"no picture")
    code, out, err = sclip("demo", "--direct", "--scenes", "2", *places)
    assert code == 1
    assert "1 drawn scenes" in out
    assert err.count("left out") == 1
    assert "0001" in err


def test_a_folder_that_takes_nothing(sclip, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = sclip("demo", "--direct", "--folder", tmp_path / "file")
    assert code == 2
    assert "cannot be written" in err
    assert "--folder DIR" in err
    assert len(err.strip().splitlines()) == 1


def test_means_of_stuff_and_things():
    rows = [{"class_name": name, "iou": float(k)} for k, name in enumerate(class_names())]
    assert kind_means(rows) == (3.5, 11.0)
    rows[14]["iou"] = None  # does not occur
    assert kind_means(rows)[1] == 10.5


def test_the_printed_commands_can_be_typed(tmp_path, monkeypatch):
    """After ``make demo`` sclip is in .venv, not on the path."""
    binaries = tmp_path / ".venv" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "sclip").write_text("")
    monkeypatch.setattr("sys.executable", str(binaries / "python"))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(tmp_path)
    assert command() == ".venv/bin/sclip"
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert command() == str(binaries / "sclip")
    (binaries / "sclip").chmod(0o755)
    monkeypatch.setenv("PATH", str(binaries))
    assert command() == "sclip"
