"""``sclip panels``: what it writes and prints, and its one-line errors."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from flows.cli.panels import inches
from sclip_core import UserError
from sclip_core.drawing.figure import GAP, Look
from sclip_core.report.figure import run_captions
from sclip_core.results.files import read_run
from sclip_core.results.tables import find_run

from .conftest import flags

DATA = ("--images", "--labels", "--classes", "--artifacts")


def test_a_figure(scenes_runs, tmp_path, sclip):
    file = tmp_path / "figure.png"
    code, out, err = sclip(
        "panels", "latest~3", "latest~2", "--images", "worst:1,best:1", "0003", "-o", file,
        "--width", "84mm", "--dpi", 90, "--columns", "latest~2,image", "--captions", "a,b",
        "--artifacts", scenes_runs,
    )  # fmt: skip
    assert (code, out) == (0, f"{file}\n")
    assert err.startswith("sclip: images ")
    assert "0003" in err
    assert Image.open(file).width == round(84 / 25.4 * 90)


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ("--images nothing -o {}/f.pdf", "sclip: no image 'nothing' in "),
        ("--images worst:1 -o {}/f.gif", "a figure is written as .pdf, .svg, .png; change"),
        ("--images worst:1 -o {}/none/f.pdf", "create it first"),
        ("--images worst:1 -o {}/f.pdf --width wide", "sclip: --width 'wide': expected 6.9in"),
        ("--images worst:1 -o {}/f.pdf --palette vok", "sclip: no palette 'vok'"),
        ("--images changed:1 -o {}/f.pdf", "pass two or more"),
        ("--images worst:1 -o {}/f.pdf --alpha 2", "--alpha"),
        ("--images worst:1 -o {}/f.png --width 100in --dpi 1200", "a figure 120,000 pixels wide"),
        ("--images worst:9 -o {}/f.png --width 41in --dpi 1200", "pictures of more than 150,000,"),
    ],
)
def test_a_mistake_is_one_line(scenes_runs, tmp_path, sclip, flags, line):
    words = flags.format(tmp_path).split()
    code, out, err = sclip("panels", "latest", *words, "--artifacts", scenes_runs)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert line in err


def test_no_file_of_the_dataset_is_replaced(small, tmp_path, sclip):
    artifacts, label = tmp_path / "artifacts", small / "labels" / "0.png"
    assert sclip("run", "--direct", *flags(small, artifacts))[0] == 0
    (tmp_path / "link.png").symlink_to(small / "images" / "0.png")
    for file in (label, small / "images" / "0.png", tmp_path / "link.png"):
        before = file.read_bytes()
        words = ("panels", "--images", "0", "-o", file, "--artifacts", artifacts)
        line = f"sclip: {file} is an image or a label map of the dataset: choose another path\n"
        assert sclip(*words) == (2, "", line)
        assert file.read_bytes() == before


def test_what_another_tool_predicted_is_beside_a_run(small, tmp_path, sclip):
    """Its label maps here are the ground truth, and look like it."""
    artifacts, file = tmp_path / "artifacts", tmp_path / "figure.png"
    data = [word for word in flags(small, artifacts) if word.startswith(DATA)]
    assert sclip("run", "--direct", *flags(small, artifacts))[0] == 0
    predicted = ["--predictions", small / "labels", "--name", "Their model"]
    code, _, err = sclip("score", *predicted, *data)
    assert code == 0, err
    look = ["--alpha", 1, "--dpi", 60, "--width", "4in", "--legend", 0]
    columns = ["--columns", "truth,latest,latest~1"]
    shown = ["--images", "0", *look, *columns, "--artifacts", artifacts]
    code, _, err = sclip("panels", "latest~1", "latest", "-o", file, *shown)
    assert code == 0, err
    picture = np.asarray(Image.open(file).convert("RGB"))
    wide, step = Look(width=4, dpi=60).cell(3), Look(width=4, dpi=60).cell(3) + round(GAP * 60)
    truth, theirs, ours = (picture[20:, k * step : k * step + wide] for k in range(3))
    np.testing.assert_array_equal(theirs, truth)
    assert (ours != truth).any()
    rows = [read_run(artifacts, find_run(name, artifacts))[0] for name in ("latest~1", "latest")]
    assert run_captions(rows) == ["csa", "Their model"]


def test_without_matplotlib(scenes_runs, tmp_path, sclip, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    where = ["-o", tmp_path / "f.pdf", "--artifacts", scenes_runs]
    code, _, err = sclip("panels", "latest", "--images", "worst:1", *where)
    expected = "sclip: matplotlib is not installed: pip install 'sclip-benchmark[plot]'\n"
    assert (code, err) == (2, expected)


def test_widths():
    assert inches("6.9in") == inches("6.9") == inches("page") == 6.9
    assert inches("174mm") == pytest.approx(174 / 25.4)
    assert inches("237pt") == pytest.approx(3.279, abs=0.001)
    for text in ("0.1in", "1km", "-3in", "200"):
        with pytest.raises(UserError):
            inches(text)
