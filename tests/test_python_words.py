"""Words that are refused or noted by the command are so in Python too."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from sclip_core import UserError
from sclip_core.datasets import Vocabulary

IMAGE = np.zeros((32, 32, 3), np.uint8)


def refused(tiny, classes) -> str:
    """The line with which the bank and the segmentation refuse classes."""
    lines = []
    for ask in (tiny.text_bank, lambda words: tiny.segment(IMAGE, words)):
        with pytest.raises(UserError) as error:
            ask(classes)
        lines.append(str(error.value))
    assert lines[0] == lines[1]
    return lines[0]


def test_words_that_are_the_same_to_the_model(tiny):
    assert "classes 'cat' and 'Cat' have the same words" in refused(tiny, ["sky", "cat", "Cat"])
    assert "has 76 tokens, and the model reads 75" in refused(tiny, [" ".join(["box"] * 76), "sky"])


@pytest.mark.parametrize("name", ["void", "__ignore__", "Unlabeled", ["ignore"]])
def test_names_that_are_no_class(tiny, name):
    line = refused(tiny, ["cat", name, "dog"])
    assert line.startswith(f"classes[1] is '{name if isinstance(name, str) else name[0]}', which ")
    assert "leave it out" in line


def test_in_quotes_it_is_a_class():
    assert Vocabulary.from_classes(["cat", '"void"']).class_names == ("cat", "void")
    assert Vocabulary.from_classes(["cat", "void, abyss"]).class_names == ("cat", "void")
    assert Vocabulary.from_classes(['"cat"']).class_names == ('"cat"',)  # as ever


def test_what_is_worth_knowing_is_a_warning_once_and_names_the_caller(tiny):
    line = "words of two classes.*'animal' of 'horse' and 'cow'"
    with pytest.warns(UserWarning, match=line) as given:
        tiny.segment([IMAGE, IMAGE], ["horse, animal", "cow, animal"], slide_crop=0)
    assert [one.filename for one in given] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny.segment(IMAGE, ["horse, animal", "cow, animal"], slide_crop=0)
        tiny.segment(IMAGE, ["horse", "cow"], slide_crop=0)
    with pytest.warns(UserWarning, match="no Latin letters"):
        tiny.text_bank(["небо", "cat"])
