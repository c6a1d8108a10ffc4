"""``sclip panels``: what it writes and prints, and its one-line errors."""

from __future__ import annotations

import pytest
from PIL import Image

from flows.cli.panels import inches
from sclip_core import UserError


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
    ],
)
def test_a_mistake_is_one_line(scenes_runs, tmp_path, sclip, flags, line):
    words = flags.format(tmp_path).split()
    code, out, err = sclip("panels", "latest", *words, "--artifacts", scenes_runs)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert line in err


def test_widths():
    assert inches("6.9in") == inches("6.9") == inches("page") == 6.9
    assert inches("174mm") == pytest.approx(174 / 25.4)
    assert inches("237pt") == pytest.approx(3.279, abs=0.001)
    for text in ("0.1in", "1km", "-3in", "200"):
        with pytest.raises(UserError):
            inches(text)
