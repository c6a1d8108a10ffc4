"""Figures for papers: opened by readers of their formats, and looked at pixel by pixel."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from sclip_core import UserError, results
from sclip_core.drawing import palette
from sclip_core.drawing.figure import GAP, Look, Swatch
from sclip_core.drawing.panels import WRONG
from sclip_core.report.figure import (
    Column,
    Style,
    _entries,
    chosen_images,
    run_captions,
    write_panels,
)
from sclip_core.report.pictures import Shown
from sclip_core.results.files import read_run
from sclip_core.results.past_run import LabelMaps, Source
from sclip_core.results.tables import paired

from ..results.runs import made_run

SVG = "{http://www.w3.org/2000/svg}"
CSA, REFINED = "latest~3", "latest~2"


@pytest.fixture(scope="module")
def ids(scenes_runs: Path) -> list[str]:
    return sorted(set(results.image_areas(CSA, scenes_runs)["image_id"].to_pylist()))


def maps_of(artifacts: Path, run: str, image_id: str) -> tuple[np.ndarray, np.ndarray]:
    """Ground truth and prediction of an image."""
    row = read_run(artifacts, results.find_run(run, artifacts))[0]
    source = Source(artifacts, row)
    return source.truth(image_id), LabelMaps(artifacts, row).read(source.digest(image_id))


def class_names(artifacts: Path) -> list[str]:
    return results.class_iou(CSA, artifacts).sort_by("class_id")["class_name"].to_pylist()


def test_a_pdf_has_its_size_its_text_and_true_type_fonts(scenes_runs, ids, tmp_path):
    pypdf = pytest.importorskip("pypdf")
    file = tmp_path / "figure.pdf"
    style = Style(captions=["SCLIP", "with $\\sigma_x$ & PAMR"], look=Look(width=5.5, dpi=100))
    write_panels([CSA, REFINED], ids[:2], file, style, artifacts=scenes_runs)
    (page,) = pypdf.PdfReader(file).pages
    assert float(page.mediabox.width) == pytest.approx(5.5 * 72, abs=0.01)
    text = page.extract_text()
    for caption in ("image", "ground truth", "SCLIP", "with $\\sigma_x$ &", "PAMR"):
        assert caption in text
    names = class_names(scenes_runs)
    truths = [maps_of(scenes_runs, CSA, i)[0] for i in ids[:2]]
    for k in np.unique(np.concatenate([each.ravel() for each in truths])):
        assert names[k] in text
    assert len(page.images) == 2 * 4
    fonts = [font.get_object() for font in page["/Resources"]["/Font"].values()]
    assert fonts
    for font in fonts:
        described = font["/DescendantFonts"][0] if "/DescendantFonts" in font else font
        assert font["/Subtype"] in ("/Type0", "/TrueType")
        assert "/FontFile2" in described.get_object()["/FontDescriptor"].get_object()


def test_the_text_of_an_svg_is_text(scenes_runs, ids, tmp_path):
    file = tmp_path / "figure.svg"
    style = Style(columns=[CSA, "image"], look=Look(width=3.25, dpi=60))
    write_panels([CSA], ids[:3], file, style, artifacts=scenes_runs)
    root = ElementTree.parse(file).getroot()
    assert root.get("width") == "234pt"  # 3.25 inches
    texts = ["".join(each.itertext()) for each in root.iter(f"{SVG}text")]
    assert texts[:2] == ["csa", "image"]
    assert set(texts[2:]) <= set(class_names(scenes_runs))
    assert len(list(root.iter(f"{SVG}image"))) == 6
    again = tmp_path / "again.svg"
    write_panels([CSA], ids[:3], again, style, artifacts=scenes_runs)
    assert again.read_bytes() == file.read_bytes()


def sampled(labels: np.ndarray, height: int, width: int) -> np.ndarray:
    """The labels at the centres of so many pixels, one after the other."""
    rows, columns = labels.shape
    return np.array(
        [
            [labels[int((y + 0.5) * rows / height), int((x + 0.5) * columns / width)]
             for x in range(width)]
            for y in range(height)
        ]
    )  # fmt: skip


@pytest.mark.parametrize(("width", "dpi"), [(4.0, 100), (3.37, 97), (2.31, 203)])
def test_flat_colours_are_those_of_the_palette(scenes_runs, ids, tmp_path, width, dpi):
    """Every pixel of the truth, of a run and of its errors."""
    file, look = tmp_path / "figure.png", Look(width=width, dpi=dpi)
    style = Style(columns=["truth", CSA, f"errors:{CSA}"], alpha=1, legend=0, look=look)
    write_panels([CSA], ids[:1], file, style, artifacts=scenes_runs)
    picture = np.asarray(Image.open(file).convert("RGB")).astype(int)
    assert picture.shape[1] == round(width * dpi)
    truth, prediction = maps_of(scenes_runs, CSA, ids[0])
    wide = look.cell(3)
    high = round(wide * truth.shape[0] / truth.shape[1])
    bottom = picture.shape[0] - look.of_font(0.2)
    lefts = [k * (wide + round(GAP * dpi)) for k in range(3)]
    cells = [picture[bottom - high : bottom, left : left + wide] for left in lefts]
    truth, prediction = sampled(truth, high, wide), sampled(prediction, high, wide)
    colours = palette(50)
    for cell, labels in zip(cells, (truth, prediction), strict=False):
        np.testing.assert_array_equal(cell[labels >= 0], colours[labels[labels >= 0]])
    reddish = cells[2][..., 0] - cells[2][..., 2] > 100
    np.testing.assert_array_equal(reddish, (truth >= 0) & (truth != prediction))
    assert 0 < reddish.mean() < 0.9


def test_swatches_look_like_the_classes(scenes_runs, ids, tmp_path):
    file = tmp_path / "figure.png"
    for alpha in (1.0, 0.5):
        style = Style(alpha=alpha, errors=True, look=Look(dpi=100))
        write_panels([CSA], ids[:1], file, style, artifacts=scenes_runs)
        codes = np.asarray(Image.open(file).convert("RGB"))[-90:].reshape(-1, 3)
        found = {tuple(int(c) for c in code) for code in np.unique(codes, axis=0)}
        truth = maps_of(scenes_runs, CSA, ids[0])[0]
        pure = palette(50)[np.unique(truth[truth >= 0])]
        wanted = np.round(alpha * pure + (1 - alpha) * 153).astype(int)
        assert {tuple(code) for code in wanted.tolist()} <= found
        assert WRONG in found


def test_images_that_are_chosen(scenes_runs, ids):
    areas = results.image_areas(CSA, scenes_runs).to_pandas()
    iou = areas.assign(iou=areas.intersect / (areas.prediction + areas.label - areas.intersect))
    order = iou.groupby("image_id").iou.mean().sort_values().index.tolist()

    def chosen(*asked: str, runs: tuple[str, ...] = (CSA,), seed: int = 0) -> list[str]:
        return chosen_images(asked, paired(runs, scenes_runs), seed)

    assert chosen("worst:2") == order[:2]
    assert chosen("best:1", order[-1], order[0]) == [order[-1], order[0]]
    assert len(set(chosen("random:5"))) == 5
    assert chosen("random:5") != chosen("random:5", seed=1)
    assert set(chosen("changed:2", runs=(CSA, REFINED))) < set(ids)
    assert chosen("worst:100") == order


def test_captions_say_what_sets_runs_apart(scenes_runs):
    rows = [read_run(scenes_runs, results.find_run(f"latest~{k}", scenes_runs))[0] for k in (3, 2)]
    assert run_captions(rows) == ["pamr_steps 0", "pamr_steps 3"]
    assert run_captions(rows[:1]) == ["csa"]


def test_pixels_without_a_class_are_in_the_legend():
    whole, half = np.zeros((4, 4), np.int32), np.zeros((4, 4), np.int32)
    half[2:] = -1
    names, colours = ["sky", "sea"], palette(2)

    def last(truth: np.ndarray, prediction: np.ndarray, *kinds: str) -> Swatch:
        shown = Shown(np.zeros((4, 4, 3), np.uint8), truth, [prediction])
        return _entries([shown], [Column(kind) for kind in kinds], names, colours, 9)[-1]

    assert last(whole, whole, "truth", "run") == Swatch("sky", (31, 119, 208))
    assert last(half, whole, "truth", "run") == Swatch("ignored", None, hatched=True)
    assert last(whole, half, "truth", "run") == Swatch("no class", None, hatched=True)
    assert last(half, half, "truth", "run").name == "ignored, no class"
    assert last(half, half, "image", "run").name == "no class"
    assert last(half, whole, "errors").name == "ignored"


@pytest.mark.parametrize(
    ("asked", "style", "line"),
    [
        (["nothing"], Style(), "^no image 'nothing' in scenes-.*: expected an id such as "),
        (["changed:2"], Style(), "changed:2 compares runs: pass two or more"),
        (["worst:0"], Style(), "no image to show"),
        (["worst:1"], Style(palette="vok"), "^no palette 'vok': expected default, voc, ade20k"),
        (["worst:1"], Style(palette="voc"), "^palette voc has no colour of "),
        (["worst:1"], Style(captions=["a", "b"]), "^2 captions for 1 run and 3 columns"),
        (["worst:1"], Style(columns=[REFINED]), "not among the runs"),
        (["worst:1"], Style(look=Look(font="No Font")), "^no font 'No Font'"),
        (["worst:1"], Style(look=Look(width=0.5, dpi=50)), "3 columns in 0.5 inches at 50 dpi"),
    ],
)  # fmt: skip
def test_one_line_says_what_cannot_be_shown(scenes_runs, tmp_path, asked, style, line):
    with pytest.raises(UserError, match=line):
        write_panels([CSA], asked, tmp_path / "figure.png", style, artifacts=scenes_runs)
    assert not list(tmp_path.iterdir())


def test_runs_that_cannot_be_shown(scenes_runs, tmp_path):
    areas = {"a": [(1, 2, 3), (1, 1, 1), (0, 0, 0)]}
    made_run(tmp_path, "one", areas, key_refine="gone")
    made_run(tmp_path, "two", areas, names=("x", "y", "z"))
    for runs, line in ((["one", "two"], "different classes"), (["one"], "any more: run it again")):
        with pytest.raises(UserError, match=line):
            write_panels(runs, ["a"], tmp_path / "f.png", artifacts=tmp_path)
