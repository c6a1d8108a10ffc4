"""Lists of classes in the forms of other projects: read as they are meant and said, or refused."""

from __future__ import annotations

import doctest
import hashlib
from pathlib import Path

import numpy as np
import pytest

from sclip_core.config import UserError
from sclip_core.datasets import Vocabulary, word_files, word_text
from sclip_core.datasets.word_files import words_sha256

RIGHT = (("sky", "clouds"), ("grass", "lawn"), ("box", "crate"))
ONE_EACH = (("sky",), ("grass",), ("box",))


def read(folder: Path, text: str, suffix: str = ".txt") -> Vocabulary:
    path = folder / f"classes{suffix}"
    path.write_bytes(text.encode())
    return Vocabulary.from_file(path)


@pytest.mark.parametrize(
    ("text", "said"),
    {
        "segearth": ("sky,clouds\ngrass,lawn\nbox,crate\n", "words of a class separated by ','"),
        "openseg": ("0:sky,clouds\n1:grass,lawn\n2:box,crate", "numbers ('0:') are the values"),
        "tabs": ("0\tsky, clouds\n1\tgrass, lawn\n2\tbox, crate", "numbers ('0tab')"),
        "out of order": ("2: box,crate\n0: sky,clouds\n1: grass,lawn", "0 to 2"),
        "semicolons": ("sky;clouds\ngrass;lawn\nbox;crate\n", "separated by ';'"),
        "bars": ("sky|clouds\ngrass|lawn\nbox|crate\n", "separated by '|'"),
        "one line": ("sky, clouds; grass, lawn; box, crate", "one line, read as 3 classes"),
        "trailing": ("sky, clouds,\ngrass, lawn,\nbox, crate\n", "',' at the end of each line"),
        "windows": ("\ufeffsky,clouds\r\ngrass,lawn\r\nbox,crate\r\n", "separated by ','"),
        "comments": ("# mine\n\nsky, clouds # blue\ngrass, lawn\nbox, crate", "1 comment line"),
        "quotes": ('"sky", "clouds"\n"grass", "lawn"\n"box", "crate"', "quotes left out"),
        "cells": ('"sky, clouds"\n"grass, lawn"\n"box, crate"', "quotes left out"),
        "bullets": ("- sky, clouds\n- grass, lawn\n- box, crate", "'-' before every class"),
        "json": ('["sky, clouds", "grass, lawn", "box, crate"]', "read as JSON, a list of 3"),
        "json lists": ('[["sky","clouds"],["grass","lawn"],["box","crate"]]', "read as JSON"),
        "python": ("['sky, clouds', 'grass, lawn', 'box, crate']", "read as JSON"),
        "code": (
            "CLASSES = (\n  'sky, clouds',  # 0\n  'grass, lawn',\n  'box, crate',\n)",
            "code",
        ),
        "typed": ("A: list[str] = ['sky, clouds', 'grass, lawn', 'box, crate']", "read as code"),
        "synsets": (
            "n09436708 sky, clouds\nn12102133 grass, lawn\nn02883344 box, crate",
            "WordNet",
        ),
        "tuple": ("('sky, clouds',\n 'grass, lawn',\n 'box, crate')", "a list of 3"),
        "yaml": ("names:\n  0: sky, clouds\n  1: grass, lawn\n  2: box, crate\n", "read as YAML"),
    }.values(),
)
def test_words_of_each_form(tmp_path, text, said):
    """The same classes as in our own form, and a line that says how they were read."""
    found = read(tmp_path, text)
    assert found.words == RIGHT
    assert found.numbers == (0, 1, 2)
    assert sum(said in note for note in found.notes) == 1


@pytest.mark.parametrize(
    ("text", "suffix"),
    {
        "roboflow": ("Pixel Value, Class\n0, sky\n1, grass\n2, box\n", ".csv"),
        "semicolon table": ("id;name\n2;box\n0;sky\n1;grass\n", ".csv"),
        "tsv": ("index\tname\n0\tsky\n1\tgrass\n2\tbox\n", ".txt"),
        "colours": ("name,r,g,b\nsky,1,2,3\ngrass,4,5,6\nbox,7,8,9\n", ".csv"),
        "one column": ("name\nsky\ngrass\nbox\n", ".csv"),
        "comma": ("0,sky\n1,grass\n2,box\n", ".txt"),
        "space": ("0 sky\n1 grass\n2 box\n", ".txt"),
        "behind": ("sky: 0\ngrass: 1\nbox: 2\n", ".txt"),
        "one line": ("sky,grass,box", ".txt"),
        "catseg": ('["sky", "grass", "box"]', ".json"),
        "object": ('{"0": "sky", "1": "grass", "2": "box"}', ".json"),
        "inverse": ('{"sky": 0, "grass": 1, "box": 2}', ".json"),
        "records": ('[{"id": 0, "name": "sky"}, {"id": 1, "name": "grass"}, '
                    '{"id": 2, "name": "box"}]', ".json"),
        "coco": ('{"images": [], "categories": [{"id": 2, "name": "box"}, '
                 '{"id": 0, "name": "sky"}, {"id": 1, "name": "grass"}]}', ".json"),
        "hub": ('{"id2label": {"0": "sky", "1": "grass", "2": "box"}}', ".json"),
        "without quotes": ("[sky, grass, box]", ".txt"),
        "script": ("const names = ['sky', 'grass', 'box'];", ".txt"),
        "data.yaml": ("path: x\nnc: 3\nnames: [sky, grass, box]\n", ".yaml"),
        "cvat": ("# label:color_rgb\nsky:0,0,0::\ngrass:1,0,0::\nbox:0,9,0::", ".txt"),
        "camvid": ("64 128 64\tsky\n192 0 128\tgrass\n0 128 192\tbox\n", ".txt"),
    }.values(),
)  # fmt: skip
def test_names_of_each_form(tmp_path, text, suffix):
    found = read(tmp_path, text, suffix)
    assert found.words == ONE_EACH
    assert found.numbers == (0, 1, 2)
    assert found.notes


@pytest.mark.parametrize(
    "text", ["METAINFO = dict(classes=('sky', 'grass'))", "dict(\n    classes=[\n  'sky',\n])"]
)
def test_pieces_of_code_are_no_classes(tmp_path, text):
    with pytest.raises(UserError, match=r"a piece of code\? Write one class a line"):
        read(tmp_path, text)
    assert read(tmp_path, "crane (bird)\ncrane (machine)").num_classes == 2


def test_numbers_are_the_values_of_label_maps(tmp_path):
    found = read(tmp_path, "0:invalid_class_id\n1:wall,walls\n7:sky\n")
    assert (found.class_names, found.numbers) == (("wall", "sky"), (1, 7))
    assert found.ignored == ((0, "invalid_class_id"),)
    assert found.as_values(np.array([0, 1, 255], np.uint8)).tolist() == [1, 7, 255]
    assert read(tmp_path, "5:a\n300:b").as_values(np.array([0, 1], np.uint8)).max() == 300


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cat\ngrass, lawn\n", (("cat",), ("grass", "lawn"))),
        ("1,000 dollar bill\ncat", (("1,000 dollar bill",), ("cat",))),
        ("time: noon\ncat", (("time: noon",), ("cat",))),
        ("terminal 1\nterminal 2\n", (("terminal 1",), ("terminal 2",))),
        ("void, nothing\ncat", (("void", "nothing"), ("cat",))),
        ("cat/dog\ntraffic_light\ncafé au lait", (("cat/dog",), ("traffic_light",),
                                                   ("café au lait",))),
    ],
)  # fmt: skip
def test_our_own_form_is_read_as_it_is_without_a_word(tmp_path, text, words):
    found = read(tmp_path, text)
    assert (found.words, found.notes, found.labels) == (words, (), ())


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('"red,green light"\ncat, kitten', "red,green light"),
        ('"0: zero"\ncat', "0: zero"),
        ('"# hash"\ncat', "# hash"),
        ('"void"\ncat', "void"),
        ('"a;b"\ncat, kitten', "a;b"),
        ('"3 door car"\n"5 door car"', "3 door car"),
    ],
)
def test_a_word_in_double_quotes_is_taken_as_it_is(tmp_path, text, word):
    assert read(tmp_path, text).words[0] == (word,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sky, clouds\ngrass,lawn\n", "line 2: is 'grass,lawn' one word.*double quotes"),
        ("0:sky\ngrass\n", "line 1 has a number, '0:sky', and line 2 has none, 'grass'"),
        ("0:sky\n0:grass\n", "line 2: the number 0 is that of line 1"),
        ("3 door car\n5 door car\n", "every line begins with a number.*double quotes"),
        ("sky 0\ngrass 1\n", "every line ends with a number"),
        ("id name\n0 sky\n1 grass\n", "line 1 has none, 'id name'"),
        ("class\nsky\ngrass\n", "line 1 is 'class': is it a heading"),
        ("cat: kitten\ndog: hound\n", "line 1 is 'cat: kitten'"),
        ("sky\tclouds\ngrass\tlawn\n", r"line 1 has a tab, 'sky\\tclouds'"),
        ("name,id,trainId\nroad,7,0\n", "'id' and 'trainId' both hold numbers"),
        ("id,name\n0,sky\nx,grass\n", "line 3: expected a number, found 'x'"),
        ("cat, kitten,dog", "line 1 has both 'a, b' and 'a,b'"),
        ("sky\n\n# next\n\ngrass\n\nbox", "line 6 is blank"),
        ("void\n__ignore__", "no class to evaluate"),
        ("# only\n", "has no class"),
        ('{"names": ["a"], "classes": ["b"]}', "both 'names' and 'classes'"),
        ('["sky", 3]', "entry 2: expected a word"),
        ('{"sky": "blue"}', "expected a list of classes"),
        ("0:sky\n70000:grass", "number 70000"),
    ],
)
def test_what_could_mean_two_things_is_refused_in_one_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path, text)
    assert "classes.txt" in str(error.value)
    assert "\n" not in str(error.value)


def test_json_that_is_none_is_named(tmp_path):
    with pytest.raises(UserError, match=r"classes.json is not valid JSON"):
        read(tmp_path, '["sky", ', ".json")


def test_the_list_of_labelme_begins_below_zero(tmp_path):
    """Its labelme2voc.py gives the k-th line the value k-2, and `__ignore__` 255."""
    found = read(tmp_path, "__ignore__\n_background_\ngrass\nbox\n")
    assert found.class_names == ("_background_", "grass", "box")
    assert found.numbers == (0, 1, 2)
    assert found.ignored == ()
    assert "in which '__ignore__' is -1 and '_background_' is 0" in found.notes[0]
    numbered = read(tmp_path, "0: __ignore__\n1: _background_\n2: box\n")
    assert numbered.numbers == (1, 2)


@pytest.mark.parametrize("name", ["__ignore__", "void", "Unlabeled", "unlabelled", "ignore"])
def test_a_name_that_means_ignore_is_no_class(tmp_path, name):
    found = read(tmp_path, f"sky\n{name}\ngrass, lawn\n")
    assert found.words == (("sky",), ("grass", "lawn"))
    assert (found.numbers, found.ignored) == ((0, 2), ((1, name),))
    assert f"'{name}' is no class: pixels of label 1 are not evaluated" in found.notes[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cat,dog,grass", (("cat",), ("dog",), ("grass",))),
        ("cat; dog; grass;", (("cat",), ("dog",), ("grass",))),
        ("cat, kitten; grass", (("cat", "kitten"), ("grass",))),
        ("cat,kitten; grass,lawn", (("cat", "kitten"), ("grass", "lawn"))),
        ('["cat", "dog"]', (("cat",), ("dog",))),
        ("0:cat,1:dog", (("cat",), ("dog",))),
        ("cat, kitten", (("cat", "kitten"),)),
        ("cat\ndog", (("cat",), ("dog",))),
    ],
)
def test_classes_written_out_in_a_command(text, words):
    assert Vocabulary.given(text).words == words


def test_one_class_is_said():
    (note,) = Vocabulary.given("cat, kitten").notes
    assert "one class, so every pixel becomes 'cat': for 2 classes write 'cat; kitten'" in note


@pytest.mark.parametrize("text", ["classes.txt", "data/classes", "cat", "a,b/list.json"])
def test_a_file_that_is_missing_is_no_class(text):
    with pytest.raises(UserError, match=f"no vocabulary file at {text}"):
        Vocabulary.given(text)


def test_a_file_goes_before_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("cat,dog").write_text("sky\ngrass")
    assert Vocabulary.given("cat,dog").class_names == ("sky", "grass")
    assert Vocabulary.given("cat", single=True).class_names == ("cat",)


@pytest.mark.parametrize(
    ("classes", "shown"),
    [
        (["sky, clouds", "grass"], "2 classes, 3 words: sky, grass; background: none"),
        (["background", "cat"], "2 classes, 2 words: background, cat; background: background"),
        (["cat", "background"], "none ('background' is class 1, and only class 0 can be)"),
        ([f"a word {k}" for k in range(50)], "50 classes, 50 words: a word 0, a word 1, "),
        (["x" * 500, "cat"], "2 classes, 2 words: xxx"),
    ],
)
def test_summary(classes, shown):
    summary = Vocabulary.from_classes(classes).summary
    assert shown in summary
    assert len(summary) < 200


def test_background_by_name_with_words_of_its_own(tmp_path):
    found = read(tmp_path, "background: sky, wall\ncat, kitten\n")
    assert found.class_names == ("background", "cat")
    assert found.words[0] == ("sky", "wall")


def test_doctests():
    assert doctest.testmod(word_text).failed == doctest.testmod(word_files).failed == 0


@pytest.mark.parametrize(
    ("text", "suffix", "separator"),
    [
        ("sky, clouds\ngrass", ".txt", ", "),
        ("sky\ngrass", ".txt", ", "),
        ("sky; clouds\ngrass; lawn; meadow", ".txt", "; "),
        ("sky;clouds\ngrass", ".txt", ";"),
        ("sky,clouds\ngrass", ".txt", ","),
        ("0: sky | clouds\n1: grass", ".txt", "| "),
        ('[["sky", "clouds"], ["grass"]]', ".json", None),
    ],
)
def test_the_separator_that_was_found(tmp_path, text, suffix, separator):
    file = tmp_path / f"words{suffix}"
    file.write_text(text)
    found = Vocabulary.from_file(file)
    assert found.words[0][0] == "sky"
    assert found.separator == separator


def test_the_digest_of_words_is_that_of_their_json(tmp_path):
    file = tmp_path / "words.txt"
    file.write_text("sky; clouds\ngr\u00fcn")
    by_hand = hashlib.sha256(b'[["sky","clouds"],["gr\\u00fcn"]]').hexdigest()
    assert words_sha256(Vocabulary.from_file(file).words) == by_hand
    assert words_sha256([["sky", "clouds"], ["gr\u00fcn"]], ["car"]) != by_hand
