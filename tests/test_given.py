"""What callers of SCLIP have: files, PIL images, arrays, tensors, lists; words, banks."""

from __future__ import annotations

import io
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from sclip_core import SCLIP, ImageError, Proposals, Protocol, UserError, Vocabulary
from sclip_core.config import resolve
from sclip_core.datasets import open_dataset
from sclip_core.encoder.pixels import as_rgb
from sclip_core.given import rgb_of, told_apart

from .conftest import TINY

CLASSES = ["cat, kitten", "grass", "sky"]
FAST = {"short_side": 64, "slide_crop": 0}


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """A smooth picture, 48×64."""
    coarse = np.random.default_rng(3).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC))


def line_of(call, *arguments, **named) -> str:
    with pytest.raises(UserError) as error:
        call(*arguments, **named)
    line = str(error.value)
    assert line.isprintable()
    return line


class TestOneImage:
    """The same pixels in every form."""

    def test_files(self, tmp_path, image):
        Image.fromarray(image).save(tmp_path / "a.png")
        for path in (tmp_path / "a.png", str(tmp_path / "a.png")):
            np.testing.assert_array_equal(rgb_of(path), image)

    def test_a_file_is_turned_as_a_benchmark_turns_it(self, tmp_path, image):
        exif = Image.Exif()
        exif[0x0112] = 6  # clockwise
        Image.fromarray(image).save(tmp_path / "a.png", exif=exif)
        turned = rgb_of(tmp_path / "a.png")
        assert turned.shape in ((64, 48, 3), (48, 64, 3))  # as the reader does it
        np.testing.assert_array_equal(rgb_of(Image.open(tmp_path / "a.png")), image)

    @pytest.mark.parametrize("kind", ["uint8", "float32", "float64", "bfloat16"])
    @pytest.mark.parametrize("first", [True, False])
    def test_tensors(self, image, kind, first):
        tensor = torch.from_numpy(image.copy())
        tensor = tensor.permute(2, 0, 1) if first else tensor
        given = tensor if kind == "uint8" else (tensor / 255).to(getattr(torch, kind))
        found = rgb_of(given.requires_grad_(kind != "uint8"))
        np.testing.assert_allclose(
            found.astype(int), image.astype(int), atol=kind == "bfloat16" and 1
        )

    @pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
    def test_arrays_of_floats(self, image, kind):
        np.testing.assert_array_equal(rgb_of((image / 255).astype(kind)), image)

    def test_an_array_three_pixels_high_is_an_image(self):
        rows = np.arange(3 * 5 * 3, dtype=np.uint8).reshape(3, 5, 3)
        np.testing.assert_array_equal(rgb_of(rows), rows)

    @pytest.mark.parametrize(
        ("bad", "says"),
        [
            (np.full((4, 5, 3), 200.0), "values from 200 to 200, where floats should go from 0"),
            (np.full((4, 5, 3), -0.5), "values from -0.5 to -0.5"),
            (np.full((4, 5, 3), np.nan), "values from nan to nan"),
            (np.full((4, 5, 3), 1 / 255), "nor divided by 255 twice"),
            (torch.rand(3, 8, 3), "channels may be first or last"),
            (torch.zeros(4, 5, 3, dtype=torch.int64), "int64 tensor of shape (4, 5, 3)"),
            (torch.rand(2, 3, 8, 8), "for several images pass a list"),
            (torch.rand(8, 8), "float32 tensor of shape (8, 8)"),
            (np.zeros((3, 40, 50), np.uint8), "image.transpose(1, 2, 0)"),
            (np.zeros((4, 5, 4), np.uint8), "image[..., :3]"),
            (np.zeros((4, 5), np.uint8), "np.stack"),
            (np.zeros((4, 5, 3), bool), "bool array"),
            (Image.new("I;16", (4, 4)), "mode I;16, whose numbers go beyond 255"),
            (Image.new("F", (4, 4)), "mode F, whose numbers"),
            ("gone.jpg", "no file at gone.jpg"),
            (".", "is a folder"),
            ([1, 2], "found list"),
        ],
    )
    def test_refused(self, bad, says):
        assert says in line_of(rgb_of, bad)


class TestLists:
    """Several images in one call."""

    def test_as_one_by_one(self, tiny, tmp_path, image):
        Image.fromarray(image).save(tmp_path / "a.png")
        several = [image[:, :40], tmp_path / "a.png", Image.fromarray(image[::-1])]
        found = tiny.segment(several, CLASSES, **FAST, heat=["sky"])
        assert isinstance(found, list)
        for one, alone in zip(found, several, strict=True):
            expected = tiny.segment(alone, CLASSES, **FAST)
            np.testing.assert_array_equal(one.labels, expected.labels)
            assert list(one.heat) == ["sky"]
        assert tiny.segment((), CLASSES) == []

    def test_all_are_looked_at_before_the_first_is_encoded(
        self, tiny, tmp_path, image, monkeypatch
    ):
        monkeypatch.setattr(SCLIP, "window_features", pytest.fail)
        data = io.BytesIO()
        Image.fromarray(image).save(data, "JPEG")
        (tmp_path / "torn.jpg").write_bytes(data.getvalue()[:-200])
        several = [image, tmp_path / "torn.jpg", tmp_path / "gone.jpg"]
        line = line_of(tiny.segment, several, CLASSES)
        assert line.startswith("2 of 3 images cannot be used, such as images[1]: ")
        assert "torn.jpg is damaged" in line
        with pytest.raises(ImageError):
            tiny.segment([image.astype(np.uint16)], CLASSES)

    def test_masks_of_each(self, tiny, image):
        left = np.zeros((48, 64), int)
        left[:, :30] = 1
        one, two = tiny.segment([image, image], CLASSES, masks=[None, left], **FAST)
        assert len(np.unique(two.labels[:, :30])) == 1
        assert len(np.unique(one.labels[:, :30])) > 1
        for wrong in (left, [left]):
            line = line_of(tiny.segment, [image, image], CLASSES, masks=wrong)
            assert "masks of 2 images: expected a list of 2" in line

    def test_a_bar_where_there_is_a_terminal(self, tiny, image, monkeypatch, capsys):
        tiny.segment([image], CLASSES, **FAST)
        assert capsys.readouterr().err == ""
        monkeypatch.setattr(Console, "is_terminal", property(lambda self: True))
        tiny.segment([image], CLASSES, **FAST)
        assert "1/1" in capsys.readouterr().err
        tiny.segment([image], CLASSES, **FAST, progress=False)
        assert capsys.readouterr().err == ""


class TestClasses:
    """Words and the protocol, in either order, with or without their names."""

    def test_every_way_is_the_same(self, tiny, image):
        protocol, vocabulary = Protocol(**FAST), Vocabulary.from_classes(CLASSES)
        expected = tiny.segment(image, protocol=protocol, classes=CLASSES).labels
        assert len(np.unique(expected)) > 1
        same = [
            tiny.segment(image, CLASSES, protocol),
            tiny.segment(image, protocol, CLASSES),
            tiny.segment(image, protocol, classes=CLASSES),
            tiny.segment(image, CLASSES, protocol=protocol),
            tiny.segment(image, None, CLASSES, **FAST),
            tiny.segment(image, tuple(CLASSES), **FAST),
            tiny.segment(image, [["cat", "kitten"], ["grass"], ["sky"]], **FAST),
            tiny.segment(image, vocabulary, **FAST),
            tiny.segment(image, tiny.text_bank(CLASSES), **FAST),
            tiny.segment(image, protocol, CLASSES, None, "vote", ["sky"]),
        ]
        for found in same:
            np.testing.assert_array_equal(found.labels, expected)
        assert list(same[-1].heat) == ["sky"]
        logits = tiny.logits(image, CLASSES, **FAST)
        assert torch.equal(logits, tiny.logits(image, protocol, tiny.text_bank(CLASSES)))

    @pytest.mark.parametrize(
        ("given", "named", "says"),
        [
            (["cat"], {}, "Classes are a list: ['cat']"),
            (["voc2"], {}, "Did you mean 'voc2"),
            ([["cat"]], {"classes": ["dog"]}, "classes are given twice"),
            (["voc21"], {"protocol": "voc20"}, "a protocol is given twice"),
            ([{"cat", "dog"}], {}, "expected classes, such as"),
            ([3], {}, "expected classes, such as ['cat', 'grass, lawn'], found 3"),
        ],
    )
    def test_refused(self, given, named, says):
        assert says in line_of(told_apart, given, **named)

    def test_a_benchmark_by_its_name(self):
        assert told_apart(["voc21"]) == (None, "voc21")


class TestBanks:
    """What text_bank gives, given back as classes."""

    def test_its_vectors_are_those_that_count(self, tiny, image):
        bank = tiny.text_bank(["cat", "grass, lawn"])
        turned = replace(bank, embeddings=bank.embeddings[[1, 0, 0]])
        before = tiny.logits(image, bank, **FAST)
        after = tiny.logits(image, turned, **FAST)
        torch.testing.assert_close(after, before[[1, 0, 0]], atol=1e-6, rtol=0)
        assert tiny.text_bank(bank) == bank or torch.equal(
            tiny.text_bank(bank).embeddings, bank.embeddings
        )
        seg = tiny.segment(image, bank, **FAST, heat=["lawn", "grass"])
        np.testing.assert_allclose(seg.heat["lawn"], before[2].numpy(), atol=2e-6)

    def test_of_another_model(self, tiny, image):
        bank = tiny.text_bank(CLASSES)
        other = replace(bank, model="ViT-B-32 openai")
        assert "the text bank is of ViT-B-32 openai" in line_of(tiny.segment, image, other)
        narrow = replace(bank, embeddings=bank.embeddings[:, :8], model="")
        assert "with vectors of 8, and this is" in line_of(tiny.segment, image, narrow)
        unknown = replace(bank, model="")
        tiny.segment(image, unknown, **FAST)

    @pytest.mark.parametrize("of", [[0, 2, 1, 1], [0, 0, 1], [0, 0, 2, 2], [1, 1, 2, 2]])
    def test_parts_that_do_not_fit(self, tiny, image, of):
        bank = replace(tiny.text_bank(CLASSES), query_class=torch.tensor(of))
        assert "expected a class for each vector" in line_of(tiny.segment, image, bank)


class TestReprs:
    """One line each."""

    def test_all(self, tiny, image, tmp_path):
        Image.fromarray(image).save(tmp_path / "a.png")
        (tmp_path / "words.txt").write_text("cat\ngrass\n")
        settings = resolve(images=tmp_path, classes=tmp_path / "words.txt", pamr_steps=10)
        bank = tiny.text_bank([*CLASSES, "a", "b"])
        masks = np.zeros((2, 64, 48), bool)
        masks[:, 3:9, 5:7] = True
        shown = {
            repr(tiny): "SCLIP(tiny_clip tiny_clip.safetensors, attention csa, cpu, float32)",
            repr(bank): "TextBank(5 classes, vectors 6×32: cat, grass, sky, ...)",
            repr(Vocabulary.from_classes(CLASSES)): "Vocabulary(3 classes, 4 words: cat, grass, "
            "sky)",
            repr(tiny.segment(image, CLASSES, **FAST, heat=["sky"])): "Segmentation(48×64, "
            "3 classes: cat, grass, sky, heat of sky)",
            repr(Protocol(pamr_steps=10)): "Protocol(pamr_steps=10)",
            repr(Proposals.of_masks(masks)): "Proposals(2 masks, 48×64)",
            repr(open_dataset(settings)): "Dataset(custom, 1 image without ground truth, "
            "2 classes: cat, grass)",
        }
        for found, expected in shown.items():
            assert found == expected
        assert repr(settings).startswith("Settings(")
        assert "pamr_steps=10" in repr(settings)
        assert "batch_size" not in repr(settings)

    def test_of_a_method(self):
        model = SCLIP.load(**TINY, device="cpu", method="sc-clip")
        assert repr(model).endswith("method sc-clip, cpu, float32)")


@pytest.mark.slow
def test_a_users_script_is_type_checked(tmp_path):
    """The package says that it is typed (py.typed), and mypy's strict check of a script passes."""
    script = """
        from pathlib import Path

        from PIL import Image

        from sclip_core import SCLIP, Segmentation, TextBank, Vocabulary, propose_masks, read_image

        model = SCLIP.load("ViT-B-16", "openai")
        image = read_image("a.jpg")
        seg: Segmentation = model.segment(image, ["cat", "dog"], pamr_steps=10)
        many: list[Segmentation] = model.segment([Path("a.jpg"), "b.jpg"], ["cat", "dog"])
        bank: TextBank = model.text_bank([["cat", "kitten"], ["dog"]])
        model.segment(Image.open("a.jpg"), bank, heat=["kitten"])
        model.segment("a.jpg", classes=Vocabulary.named("voc21"), masks=propose_masks(image))
        print(seg.labels.shape, [one.class_names for one in many], model.logits("a.jpg", "voc21"))
    """
    (tmp_path / "script.py").write_text(textwrap.dedent(script))
    wrong = "from sclip_core import SCLIP\n\nSCLIP.load().segment('a.jpg', ['cat']).label\n"
    (tmp_path / "wrong.py").write_text(wrong)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache")]
    here = Path(__file__).parents[1]
    run = subprocess.run(
        [*command, "--config-file", "", "script.py", "wrong.py"],
        cwd=tmp_path,
        env={"MYPYPATH": str(here), "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    faults = [line for line in run.stdout.splitlines() if line.startswith(("script", "wrong"))]
    assert len(faults) == 1, run.stdout
    assert 'wrong.py:3: error: "Segmentation" has no attribute "label"' in faults[0]


def test_floats_are_rounded_to_the_nearest_byte():
    levels = np.arange(256, dtype=np.float32).reshape(16, 16, 1).repeat(3, axis=2)
    for off in (-0.4, 0.4):
        image = ((levels + off) / 255).clip(0, 1)
        np.testing.assert_array_equal(as_rgb(image), levels)


def test_floats_below_zero_are_refused():
    image = np.full((4, 4, 3), 0.5, np.float32)
    image[0, 0, 0] = -0.01
    with pytest.raises(UserError, match=r"values from -0\.01 to 0\.5"):
        as_rgb(image)
