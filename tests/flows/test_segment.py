"""``sclip segment``: one photograph, or many, to pictures and label maps."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from threading import Thread

import cv2
import numpy as np
import pytest
from PIL import Image

from flows.cli.segment import MOST_HEAT, asked_heat
from flows.cli.targets import find_images
from sclip_core import SCLIP, UserError, Vocabulary, read_image

from ..conftest import TINY
from ..pictures import scene

MODEL = [f"--{name}={value}" for name, value in TINY.items()]
WORDS = "sky, cloud; grass; ball"
CLASSES = ["sky, cloud", "grass", "ball"]


def test_segment(own, tmp_path, sclip):
    picture = own / "images" / "0.png"
    overlay, labels = tmp_path / "overlay.png", tmp_path / "labels.png"
    words = "sky, cloud; grass; ball"
    code, out, err = sclip(
        "segment", picture, "--classes", words, *MODEL, "-o", overlay, "--labels-out", labels
    )
    assert code == 0, err
    assert str(overlay) in out
    expected = SCLIP.load(**TINY, device="cpu").segment(
        read_image(picture), classes=["sky, cloud", "grass", "ball"]
    )
    np.testing.assert_array_equal(np.asarray(Image.open(labels)), expected.labels)
    assert Image.open(overlay).size[0] >= expected.labels.shape[1]


def test_segment_with_the_embedded_model(tmp_path, sclip, monkeypatch):
    from sclip_core.demo.scenes import draw_scene, evaluation_rng

    monkeypatch.chdir(tmp_path)
    scene = draw_scene(evaluation_rng(1), 240, 320)
    Image.fromarray(scene.image).save("scene.png")
    words = "road, street; wooden wall; sea; ball; car; tree"
    arguments = ["segment", "scene.png", "--preset", "demo", "--classes", words]
    code, out, err = sclip(*arguments, "--labels-out", "labels.png")
    assert code == 0, err
    assert out.split() == ["scene.sclip.png", "labels.png"]
    found = np.asarray(Image.open("labels.png"))
    assert found.shape == (240, 320)
    assert len(np.unique(found)) >= 4


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"attention": "csa,kk"}, "several values of attention"),
        ({"pamr_steps": "1,2", "attention": "csa"}, "several values of pamr_steps"),
        ({"pamr_steps": 1, "pamr_dilations": "1;2"}, "several values of pamr_dilations"),
    ],
)
def test_one_photograph_has_one_value(own, tmp_path, sclip, given, says):
    words = [f"--{name.replace('_', '-')}={value}" for name, value in {**TINY, **given}.items()]
    words = [word for word in words if not word.startswith(("--device", "--dtype"))]
    code, _, err = sclip("segment", own / "images/0.png", "--classes", "cat; dog", *words)
    assert code == 2
    assert says in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_a_device_is_no_photograph(tmp_path, sclip, device):
    code, _, err = sclip("segment", device, "--classes", "cat", *MODEL, "-o", tmp_path / "x.png")
    assert code == 2
    assert err == f"sclip: {device} is a device: expected an image file\n"


def test_a_photograph_through_a_pipe(own, tmp_path, sclip):
    pipe, target = tmp_path / "pipe", tmp_path / "x.png"
    os.mkfifo(pipe)
    data = (own / "images/0.png").read_bytes()
    writer = Thread(target=pipe.write_bytes, args=[data], daemon=True)
    writer.start()
    code, out, err = sclip("segment", pipe, "--classes", "cat; dog", *MODEL, "-o", target)
    assert (code, out.strip()) == (0, str(target)), err
    writer.join()


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """The folder ``in`` of four photographs, two of them in a folder of it; we are above it."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("b.png", "a-2.png", "a.jpg", "more/c.png")):
        path = Path("in") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), scene(number)[0][150:210, 100:180])
    return Path("in")


@pytest.fixture
def segment(sclip):
    """The command with the tiny model: (exit code, lines printed, lines of errors)."""

    def run(*arguments: object) -> tuple[int, list[str], list[str]]:
        given = arguments if "--classes" in arguments else (*arguments, "--classes", WORDS)
        code, out, err = sclip("segment", *given, *MODEL)
        lines = err.splitlines()
        return code, out.splitlines(), [line for line in lines if line.startswith("sclip: ")]

    return run


@pytest.fixture
def refused(segment, monkeypatch):
    """The one line of a mistake, which is found before a model is loaded."""
    monkeypatch.setattr(SCLIP, "load", lambda **_: pytest.fail("a model was loaded"))

    def run(*arguments: object) -> str:
        code, out, (line,) = segment(*arguments)
        assert (code, out) == (2, []), line
        return line

    return run


def files(folder: str | Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in Path(folder).rglob("*") if p.is_file())


class TestSeveral:
    """Images and folders of images, with one model."""

    def test_a_folder_in_the_order_of_names(self, segment, photos, tiny, monkeypatch):
        (photos / "b.sclip.png").write_bytes(b"made before, so no photograph")
        (photos / "notes.txt").write_text("no photograph either")
        loaded = []
        load = SCLIP.load
        monkeypatch.setattr(SCLIP, "load", lambda **given: loaded.append(given) or load(**given))
        code, out, err = segment("in", "-o", "out", "--labels-out", "maps/of them")
        assert (code, err, len(loaded)) == (0, [], 1)
        names = ["a", "a-2", "b", "more/c"]
        expected = [(f"out/{name}.sclip.png", f"maps/of them/{name}.png") for name in names]
        assert out == [path for pair in expected for path in pair]
        assert files("out") == sorted(picture.removeprefix("out/") for picture, _ in expected)
        for image, (picture, labels) in zip(
            ("a.jpg", "a-2.png", "b.png", "more/c.png"), expected, strict=True
        ):
            found = tiny.segment(read_image(photos / image), classes=CLASSES).labels
            np.testing.assert_array_equal(np.asarray(Image.open(labels)), found)
            assert Image.open(picture).format == "PNG"

    def test_files_in_the_order_given_each_beside_itself(self, segment, photos):
        code, out, _ = segment("in/b.png", "in/more/c.png", "in/a.jpg")
        assert code == 0
        assert out == ["in/b.sclip.png", "in/more/c.sclip.png", "in/a.sclip.png"]
        assert segment("in", "in/b.png")[1] == [
            *("in/a.sclip.png", "in/a-2.sclip.png", "in/b.sclip.png", "in/more/c.sclip.png")
        ]  # again, without those that were made, and b once

    def test_a_folder_with_one_image_is_a_folder(self, segment, photos):
        assert segment("in/more", "-o", "new/out")[:2] == (0, ["new/out/c.sclip.png"])

    def test_one_stem_two_images(self, segment, photos):
        (photos / "b.png").rename(photos / "a.png")
        code, out, _ = segment("in", "-o", "out", "--labels-out", "maps")
        assert code == 0
        assert files("out") == [
            *("a-2.sclip.png", "a.jpg.sclip.png", "a.png.sclip.png", "more/c.sclip.png")
        ]
        assert files("maps") == ["a-2.png", "a.jpg.png", "a.png.png", "more/c.png"]
        assert sorted(out) == sorted(
            [f"out/{name}" for name in files("out")] + [f"maps/{name}" for name in files("maps")]
        )

    def test_two_images_of_one_name(self, refused, photos):
        (photos / "more/c.png").rename(photos / "more/b.png")
        line = refused("in/b.png", "in/more/b.png", "-o", "out")
        for word in ("out/b.png.sclip.png", "both in/b.png and in/more/b.png", "rename one"):
            assert word in line
        assert not Path("out").exists()

    def test_a_bad_image_costs_no_other(self, segment, photos):
        torn = (photos / "b.png").read_bytes()[:-100]
        (photos / "b.png").write_bytes(torn)
        cv2.imwrite("in/thin.png", np.zeros((2, 3000, 3), np.uint8))
        os.mkfifo("in/pipe.png")
        code, out, err = segment("in", "nowhere/x.png", "-o", "out")
        assert code == 1
        assert out == ["out/a.sclip.png", "out/a-2.sclip.png", "out/more/c.sclip.png"]
        assert files("out") == sorted(path.removeprefix("out/") for path in out)
        said = {
            "in/b.png is damaged",
            "in/pipe.png is not a file",
            "less than one patch",
            "no file at nowhere/x.png",
        }
        assert len(err) == len(said)
        for words in said:
            assert [line for line in err if line.startswith("sclip: left out: ") and words in line]
        assert segment("nowhere/x.png", "in/a.jpg")[:2] == (1, ["in/a.sclip.png"])
        assert not Path("nowhere").exists()

    def test_one_bad_image_alone(self, refused, photos):
        assert "no file at in/x.png" in refused("in/x.png")
        assert "no image" in refused()
        Path("empty/.hidden").mkdir(parents=True)
        assert "no image in empty: expected .jpg" in refused("empty")

    def test_places(self, refused, photos):
        before = {name: (photos / name).read_bytes() for name in files(photos)}
        Path("file").touch()
        for arguments, words in {
            ("in", "-o", "file"): "-o file is a file: for several images, pass a folder",
            ("in", "--labels-out", "file"): "--labels-out file is a file",
            ("in", "-o", "file/x"): "file/x cannot be written",
            ("in", "-o", "/proc/x"): "pass another folder: -o DIR",
            ("in", "--labels-out", "/proc/x"): "pass another folder: --labels-out DIR",
            ("in", "--labels-out", "in/maps"): "would be taken for images",
            ("in", "--labels-out", "./in"): "would be taken for images",
            ("in/b.png", "in/a.jpg", "--labels-out", "in"): "in/b.png would replace in/b.png",
        }.items():
            assert words in refused(*arguments)
        os.symlink(os.path.abspath("in/b.png"), "in/a.sclip.png")
        assert "in/a.sclip.png would replace in/b.png" in refused("in")
        Path("out/a.sclip.png").mkdir(parents=True)
        assert "out/a.sclip.png is a folder" in refused("in", "-o", "out")
        assert files("out") == []
        assert {name: (photos / name).read_bytes() for name in before} == before

    def test_the_source_of_masks_is_opened_once(self, segment, photos, monkeypatch):
        pytest.importorskip("skimage")
        opened = []
        model = import_module("sclip_core.masks.sources")
        real = model.open_source
        monkeypatch.setattr(model, "open_source", lambda *given: opened.append(1) or real(*given))
        segmented = []
        segment_one = SCLIP.segment
        monkeypatch.setattr(
            SCLIP, "segment", lambda *a, **k: segmented.append(k["masks"]) or segment_one(*a, **k)
        )
        assert segment("in", "--proposals", "slic")[0] == 0
        assert len(opened) == 1
        assert [masks.size for masks in segmented] == [(60, 80)] * 4


def test_images_are_sorted_as_the_dataset_sorts_them(photos):
    from sclip_core.datasets.samples import folder_samples

    ours = [image.path for image in find_images([photos])]
    assert ours == [sample.image for sample in folder_samples(photos, None)]


class TestHeat:
    """``--heat``: what is drawn of a class or a word."""

    def test_it_is_of_the_logits(self, segment, photos, tiny, monkeypatch):
        drawing = import_module("sclip_core.drawing")
        drawn = []
        real = drawing.poster
        monkeypatch.setattr(drawing, "poster", lambda *a: drawn.append(a) or real(*a))
        asked = ["--heat", "cloud", "--heat", "ball; sky", "--pamr-steps", "2"]
        code, out, err = segment("in/b.png", *asked)
        assert (code, out, err) == (0, ["in/b.sclip.png"], [])
        ((pixels, _, names, heat),) = drawn
        assert names == ("sky", "grass", "ball")
        assert list(heat) == ["cloud", "ball", "sky"]
        logits = tiny.logits(pixels, classes=CLASSES, pamr_steps=2).numpy()
        np.testing.assert_allclose(heat["cloud"], logits[1], atol=2e-6)
        np.testing.assert_allclose(heat["ball"], logits[3], atol=2e-6)
        np.testing.assert_allclose(heat["sky"], np.maximum(logits[0], logits[1]), atol=2e-6)
        page = np.asarray(Image.open("in/b.sclip.png"))
        np.testing.assert_array_equal(page, np.asarray(real(*drawn[0])))

    @pytest.mark.parametrize(
        ("given", "asked"),
        [
            ([], []),
            (["cat"], ["cat"]),
            (["cat", "grass; cat", " kitten "], ["cat", "grass", "kitten"]),
            (["cat,grass"], ["cat", "grass"]),
            (["cat, grass"], ["cat", "grass"]),
            (["cat, kitten; grass"], ["cat, kitten", "grass"]),
            (["kitten, cat"], ["kitten", "cat"]),
            (["red,green"], ["red,green"]),
            (["cat; ", "grass,"], ["cat", "grass"]),
        ],
    )
    def test_what_may_be_asked(self, given, asked):
        vocabulary = Vocabulary.from_classes(["cat, kitten", "grass, red,green"])
        assert asked_heat(given, vocabulary) == asked

    @pytest.mark.parametrize(
        ("heat", "says"),
        [
            ("clod", "unknown word 'clod'. Did you mean 'cloud'? Known: ball, cloud, grass, sky."),
            ("sky, clod", "unknown word 'clod'"),
            (" ;,", "--heat names no class and no word"),
        ],
    )
    def test_an_unknown_word(self, refused, photos, heat, says):
        assert says in refused("in", "--heat", heat, "-o", "out")
        assert not Path("out").exists()

    def test_no_more_than_a_picture_has_room_for(self):
        words = [f"word {number}" for number in range(MOST_HEAT + 1)]
        vocabulary = Vocabulary.from_classes(words)
        assert asked_heat(words[1:], vocabulary) == words[1:]
        with pytest.raises(UserError, match="16 heat maps: a picture has room for 15"):
            asked_heat(words, vocabulary)
