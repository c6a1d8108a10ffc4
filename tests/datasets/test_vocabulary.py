"""Vocabularies: the eight built-in ones, files, lists, and what is refused."""

from __future__ import annotations

import codecs
import doctest
from pathlib import Path

import pytest

from sclip_core.config import UserError
from sclip_core.datasets import Vocabulary, vocabulary

COUNTS = {  # classes, words
    "voc21": (21, 56),
    "voc20": (20, 30),
    "context60": (60, 60),
    "context59": (59, 59),
    "coco_object": (81, 113),
    "coco_stuff": (171, 171),
    "ade20k": (150, 150),
    "cityscapes": (19, 19),
}


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def reference_words(path: Path) -> tuple[list[str], list[int]]:
    """What the public SCLIP code does with a vocabulary file."""
    names, indices = [], []
    with open(path, encoding="utf-8") as file:
        lines = file.readlines()
    for index, line in enumerate(lines):
        words = line.split(", ")
        names += words
        indices += [index] * len(words)
    return [name.replace("\n", "") for name in names], indices


@pytest.mark.parametrize("name", COUNTS)
def test_built_in_has_the_classes_and_words_of_the_reference(name: str) -> None:
    built_in = Vocabulary.named(name)
    assert (built_in.num_classes, len(built_in.queries)) == COUNTS[name]
    words, classes = reference_words(vocabulary.BUILT_IN / f"{name}.txt")
    # One of the reference's words ends in a space, which its tokenizer removes.
    assert list(built_in.queries) == [word.strip() for word in words]
    assert list(built_in.query_class) == classes


@pytest.mark.parametrize("name", COUNTS)
def test_class_zero_is_background_where_the_benchmark_says_so(name: str) -> None:
    names = Vocabulary.named(name).class_names
    assert ("background" in names) == (name in {"voc21", "context60", "coco_object"})
    assert names.index("background") == 0 if "background" in names else True
    assert len(set(names)) == len(names) == COUNTS[name][0]


def test_background_keeps_its_words() -> None:
    assert Vocabulary.named("voc21").words[0][:3] == ("sky", "wall", "tree")


def test_odd_spellings_are_kept() -> None:
    assert "pottedplant" in Vocabulary.named("voc21").class_names
    assert "trafficlight" in Vocabulary.named("cityscapes").class_names


@pytest.mark.parametrize("name", ["COCO-Stuff", "coco_stuff164k"])
def test_other_spellings_of_a_name(name: str) -> None:
    assert Vocabulary.named(name) == Vocabulary.named("coco_stuff")


def test_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(UserError, match=r"unknown vocabulary 'cityscape'.*'cityscapes'\?"):
        Vocabulary.named("cityscape")


@pytest.mark.parametrize(
    "text",
    [
        "cat, kitten\ngrass",
        "cat, kitten\ngrass\n\n  \n",
        "cat, kitten\r\ngrass\r\n",
        codecs.BOM_UTF8 + b"cat, kitten\ngrass\n",
        " cat ,  kitten \n grass ",
    ],
    ids=["plain", "trailing blank lines", "windows", "byte order mark", "spaces"],
)
def test_file(tmp_path: Path, text: str | bytes) -> None:
    read = Vocabulary.from_file(write(tmp_path / "classes.txt", text))
    assert read.class_names == ("cat", "grass")
    assert read.words == (("cat", "kitten"), ("grass",))
    assert read.queries == ("cat", "kitten", "grass")
    assert read.query_class == (0, 0, 1)


def test_same_word_in_two_classes_is_allowed(tmp_path: Path) -> None:
    read = Vocabulary.from_file(write(tmp_path / "classes.txt", "cat, animal\ndog, animal"))
    assert read.queries == ("cat", "animal", "dog", "animal")


def test_words_need_not_be_ascii(tmp_path: Path) -> None:
    read = Vocabulary.from_file(write(tmp_path / "classes.txt", "café, Straße\n猫"))
    assert read.queries == ("café", "Straße", "猫")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("cat\n\ndog\n", "line 2 is blank"),
        ("\ncat\n", "line 1 is blank"),
        ("cat\ndog, , hound\n", "line 2: empty word in 'dog, , hound'"),
        ("cat\ndog, \nsky", "line 2: empty word"),
        ("cat\ndog, ", "line 2: empty word"),
        (", cat", "line 1: empty word"),
        ("cat\ndog\nsky\ncat, kitten", r"line 4: a class called 'cat'.*line 1\)"),
        ("chat\nCafé\n".encode("latin-1"), "not UTF-8"),
        ("cat\ndog".encode("utf-16"), "not UTF-8"),
    ],
)
def test_bad_file_is_refused_in_one_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = write(tmp_path / "classes.txt", text)
    with pytest.raises(UserError, match=message) as error:
        Vocabulary.from_file(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no vocabulary file at .*nowhere.txt"):
        Vocabulary.from_file(tmp_path / "nowhere.txt")
    with pytest.raises(UserError, match="cannot read the vocabulary"):
        Vocabulary.from_file(tmp_path)


def test_lists_of_both_kinds_and_a_vocabulary_give_the_same() -> None:
    flat = Vocabulary.from_classes(["cat", "grass, lawn"])
    assert flat.words == (("cat",), ("grass", "lawn"))
    assert Vocabulary.from_classes([["cat"], ["grass", "lawn"]]) == flat
    assert Vocabulary.from_classes((("cat",), ("grass", "lawn"))) == flat
    assert Vocabulary.from_classes(flat) == flat


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("cat", "expected a list"),
        (None, "expected a list"),
        ({"cat": 0}, "expected a list"),
        ([], "list is empty"),
        (["cat", ""], r"classes\[1\]: empty word"),
        (["cat", []], r"classes\[1\]: empty word"),
        (["cat", 3], r"classes\[1\]: expected a word or a list of words, found 3"),
        (["cat", ["dog", 3]], r"classes\[1\]: expected a word or a list of words"),
        (["cat", "dog", "cat, kitten"], r"classes\[2\].*'cat'.*classes\[0\]"),
    ],
)
def test_bad_list_is_refused(classes: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Vocabulary.from_classes(classes)  # type: ignore[arg-type]


def test_background_must_be_class_zero() -> None:
    with pytest.raises(UserError, match="class 1 is called 'background'"):
        Vocabulary.from_classes(["sky", "background"]).with_background()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("background", ["sky", "wall", "cat"]),
        ("sky, wall, cat", ["sky", "wall", "cat"]),
        ("wall", ["wall"]),
        ("sky", ["sky"]),  # the class is called background
        ("cat", ["cat", "kitten"]),  # a class, though another one has such a word
        ("cat, kitten", ["cat", "kitten"]),
        ("kitten", ["kitten"]),
        ("old, grey", ["old, grey"]),
    ],
)
def test_a_name_stands_for_the_words_of_its_class_or_for_one_word(name, words) -> None:
    classes = [["sky", "wall", "cat"], ["cat", "kitten"], ["dog", "old, grey"]]
    vocabulary = Vocabulary.from_classes(classes).with_background()
    found = vocabulary.words_of(name)
    assert [vocabulary.queries[index] for index in found] == words
    assert len({vocabulary.query_class[index] for index in found}) == 1


@pytest.mark.parametrize("name", ["", "Cat", "kitten, cat", "cat,kitten", "catt"])
def test_a_name_of_nothing_is_refused(name) -> None:
    vocabulary = Vocabulary.from_classes(["cat, kitten", "grass"])
    with pytest.raises(UserError, match=f"unknown word '{name}'.*Known: cat, grass, kitten"):
        vocabulary.words_of(name)


def test_doctests() -> None:
    assert doctest.testmod(vocabulary).failed == 0
