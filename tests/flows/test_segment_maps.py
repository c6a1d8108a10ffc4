"""``sclip segment``: heat maps as files, and what a point attends to."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from flows.cli.heat import file_names
from sclip_core import SCLIP, read_image
from sclip_core.drawing.figure import Look
from sclip_core.drawing.figures import heat_figure
from sclip_core.drawing.heat import heated

from ..conftest import TINY

MODEL = [f"--{name}={value}" for name, value in TINY.items()]
CLASSES = ["sky, cloud", "grass", "file"]
WORDS = ["--classes", "; ".join(CLASSES), "--heat", "cloud,file"]


@pytest.fixture
def run(small, tmp_path, sclip):
    """Segment pictures of a few patches; the places are below the test's folder."""

    def command(*words: str, images: tuple[str, ...] = ("0.png",)) -> tuple[int, list[str], str]:
        paths = [str(small / "images" / name) for name in images]
        placed = [word.format(tmp_path) for word in words]
        code, out, err = sclip("segment", *paths, *MODEL, *placed)
        lines = [line for line in err.splitlines() if line.startswith("sclip: ")]
        return code, out.splitlines(), "\n".join(lines)

    return command


@pytest.fixture
def expected(small, tiny):
    image = read_image(small / "images" / "0.png")
    return image, tiny.segment(image, CLASSES, heat=["cloud", "file"]).heat


class TestHeat:
    def test_arrays_by_word(self, run, expected, tmp_path):
        code, out, err = run(*WORDS, "-o", "{}/x.png", "--heat-out", "{}/heat.npz")
        assert (code, out[1:]) == (0, [str(tmp_path / "heat.npz")]), err
        with np.load(tmp_path / "heat.npz") as found:
            assert sorted(found) == ["cloud", "file"]
            for word, values in expected[1].items():
                assert found[word].dtype == np.float32
                np.testing.assert_allclose(found[word], values, atol=1e-6)

    def test_a_folder_of_arrays_and_pictures(self, run, expected, tmp_path):
        code, _, err = run(
            *WORDS, "-o", "{}/out", "--heat-out", "{}/heat", images=("0.png", "1.png")
        )
        assert code == 0, err
        assert sorted(p.name for p in (tmp_path / "heat").iterdir()) == ["0", "1"]
        values = np.load(tmp_path / "heat" / "0" / "cloud.npy")
        np.testing.assert_allclose(values, expected[1]["cloud"], atol=1e-6)
        picture = np.asarray(Image.open(tmp_path / "heat" / "0" / "cloud.png"))
        drawn = np.asarray(heated(Image.fromarray(expected[0]), values))
        np.testing.assert_array_equal(picture, drawn)

    def test_a_figure_whose_bar_is_made_of_shapes(self, run, expected, tmp_path):
        code, _, err = run(*WORDS, "-o", "{}/x.png", "--heat-out", "{}/heat.svg")
        assert code == 0, err
        svg = "{http://www.w3.org/2000/svg}"
        root = ElementTree.parse(tmp_path / "heat.svg").getroot()
        texts = ["".join(each.itertext()) for each in root.iter(f"{svg}text")]
        assert texts[:3] == ["image", "cloud", "file"]
        ends = [f"{f(v):.3g}" for v in expected[1].values() for f in (np.min, np.max)]
        assert [text.replace("−", "-") for text in texts[3:]] == ends
        assert len(list(root.iter(f"{svg}image"))) == 3
        fills = re.findall(r"fill: (#[0-9a-f]{6})", (tmp_path / "heat.svg").read_text())
        assert len(fills) >= 2 * 64

    @pytest.mark.parametrize(
        ("words", "line"),
        [
            (["--classes", "a; b", "--heat-out", "{}/h.npz"], "--heat-out needs words to map"),
            ([*WORDS, "--heat-out", "{}/none/h.npz"], "create it first"),
            ([*WORDS, "-o", "{}/h.png", "--heat-out", "{}/h.png"], "would replace"),
        ],
    )
    def test_one_line_says_why_not(self, run, words, line):
        code, out, err = run(*words)
        assert (code, out, err.count("\n")) == (2, [], 0)
        assert line in err

    def test_file_names_differ(self):
        assert file_names(["a/b", "a:b", "a b", ""]) == ["a_b", "a_b-2", "a b", "_"]
        assert file_names(["a?b", "a_b-2", "a!b"]) == ["a_b", "a_b-2", "a_b-3"]
        assert file_names(["a?b", "a_b-3", "a!b"]) == ["a_b", "a_b-3", "a_b-2"]

    def test_no_name_is_longer_than_a_file_system_takes(self):
        long = ["碗" * 300, "碗" * 301]
        first, second = file_names(long)
        assert first != second
        assert all(len(f"{name}.npy".encode()) <= 255 for name in (first, second))


class TestAttention:
    def test_the_picture_and_the_array(self, run, small, tmp_path):
        code, out, err = run(
            "--attention-of", "20,30", "-o", "{}/a.png", "--attention-out", "{}/a.npy"
        )
        assert (code, out) == (0, [str(tmp_path / "a.png"), str(tmp_path / "a.npy")]), err
        image = read_image(small / "images" / "0.png")
        expected = SCLIP.load(**TINY, device="cpu").attention_of(image, (20, 30))
        np.testing.assert_allclose(np.load(tmp_path / "a.npy"), expected, atol=1e-7)
        assert Image.open(tmp_path / "a.png").width == 2070

    def test_heads_and_another_attention(self, run, small, tiny, tmp_path):
        code, _, err = run(
            "--attention-of", "20,30", "-o", "{}/a.svg", "--attention-out", "{}/a.npy",
            "--attention-heads", "--method", "kk",
        )  # fmt: skip
        assert code == 0, err
        image = read_image(small / "images" / "0.png")
        expected = tiny.attention_of(image, (20, 30), heads=True, method="kk")
        np.testing.assert_allclose(np.load(tmp_path / "a.npy"), expected, atol=1e-7)
        assert "head 2" in (tmp_path / "a.svg").read_text()

    @pytest.mark.parametrize(
        ("words", "line"),
        [
            (["--attention-of", "48,0"], "the point 48,0 is outside of the image: expected a row"),
            (
                ["--attention-of", "here"],
                "--attention-of 'here': expected a pixel's row and column",
            ),
            (["--attention-of", "1,1", "--classes", "a; b"], "leave --classes out"),
            (["--attention-of", "1,1", "--method", "sc-clip"], "has no attention of one block"),
            (
                ["--attention-of", "1,1", "-o", "{}/a.jpg"],
                "a figure is written as .pdf, .svg, .png",
            ),
            (["--attention-out", "{}/a.npy", "--classes", "a; b"], "need --attention-of Y,X"),
            ([], "no words to look for: pass --classes"),
        ],
    )
    def test_one_line_says_why_not(self, run, words, line):
        code, out, err = run(*words)
        assert (code, out, err.count("\n")) == (2, [], 0)
        assert line in err

    def test_the_point_is_marked_where_it_is(self):
        image, values = np.full((100, 200, 3), 90, np.uint8), np.zeros((100, 200), np.float32)
        figure = heat_figure(image, {"map": values}, Look(width=4, dpi=100), (75, 50)).figure()
        axes = figure.axes[0].get_position()
        ring = figure.artists[0]
        x, y = ring.get_xdata()[0], ring.get_ydata()[0]
        assert (x - axes.x0) / axes.width == pytest.approx(50.5 / 200, abs=1e-6)
        assert (axes.y1 - y) / axes.height == pytest.approx(75.5 / 100, abs=1e-6)
