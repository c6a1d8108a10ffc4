"""Palettes of papers: a class has the colour that its dataset gives it, by name or by place."""

from __future__ import annotations

import pytest

from sclip_core import UserError
from sclip_core.datasets import Vocabulary
from sclip_core.datasets.known_colours import class_colours


def named(palette: str, vocabulary: str) -> dict[str, tuple[int, ...]]:
    names = Vocabulary.named(vocabulary).class_names
    return dict(zip(names, map(tuple, class_colours(palette, names).tolist()), strict=True))


def test_voc_with_and_without_its_background():
    whole, objects = named("voc", "voc21"), named("voc", "voc20")
    assert whole["background"] == (0, 0, 0)
    assert whole["aeroplane"] == (128, 0, 0)
    assert whole["person"] == (192, 128, 128)
    assert whole == {"background": (0, 0, 0), **objects}


def test_ade20k_and_cityscapes():
    ade, city = named("ade20k", "ade20k"), named("cityscapes", "cityscapes")
    assert (len(ade), len(city)) == (150, 19)
    assert (ade["wall"], ade["sky"], ade["flag"]) == ((120, 120, 120), (6, 230, 230), (92, 0, 255))
    assert (city["road"], city["sky"]) == ((128, 64, 128), (70, 130, 180))
    assert city["bicycle"] == (119, 11, 32)


def test_as_many_classes_of_other_names_take_the_colours_in_order():
    names = [f"class {k}" for k in range(21)]
    assert class_colours("voc", names)[:2].tolist() == [[0, 0, 0], [128, 0, 0]]
    with pytest.raises(UserError, match=r"^palette voc has no colour of class 0, .*21 col"):
        class_colours("voc", names[:5])


def test_a_file(tmp_path):
    file = tmp_path / "colours.txt"
    file.write_text("grass:1,2,3\nsky:4,5,6\nvoid:0,0,0\n")
    assert class_colours(file, ["sky", "grass"]).tolist() == [[4, 5, 6], [1, 2, 3]]
    with pytest.raises(UserError, match="has no colour of cat"):
        class_colours(file, ["cat"])
    file.write_text("1 2 3\n4 5 6\n")
    assert class_colours(file, ["cat"]).tolist() == [[1, 2, 3]]
