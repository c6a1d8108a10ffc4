"""Which image annotations are of, by names that differ."""

from __future__ import annotations

import pytest

from sclip_core.config import UserError
from sclip_core.datasets.annotations.pairing import paired
from sclip_core.datasets.label_names import matched

SAME = ["a", "b"]


@pytest.mark.parametrize(
    ("known", "foreign"),
    [
        (["images/a", "images/b"], False),
        (["media/upload/a", "media/upload/b"], True),
        (["one/a", "two/b"], True),
        (["A", "B"], False),
        (["%61", "b"], False),
    ],
)
def test_names_that_mean_the_same_files(known: list[str], foreign: bool) -> None:
    assert paired(known, SAME, "x", foreign).known_as == dict(zip(SAME, known, strict=True))


def test_unicode_forms() -> None:
    assert paired(["caf\u0065\u0301"], ["caf\u00e9"], "x").known_as == {"caf\u00e9": "cafe\u0301"}


def test_names_that_two_images_have_are_not_paired() -> None:
    with pytest.raises(UserError, match="x has none of the images: it lists 1"):
        paired(["far/a"], ["one/a", "two/a"], "x", foreign=True)


# --- other names, as in LabelMe's imagePath


def test_another_name_counts_where_no_image_has_the_first() -> None:
    found, notes = paired(["001", "b"], SAME, "x", also_named={"001": "images/a", "b": "a"})
    assert found == {"a": "001", "b": "b"}
    (line,) = notes
    assert line == "x: 1 name fits an image by the 'imagePath' in the file: '001' for 'a'"


def test_another_name_with_its_folder_goes_before_its_last_part() -> None:
    names = {"001": "one/a", "002": "two/a"}
    assert paired([*names], ["one/a", "two/a"], "x", also_named=names).known_as == {
        "one/a": "001",
        "two/a": "002",
    }


def test_another_name_that_two_files_have_is_none() -> None:
    found, _ = paired(["001", "002", "b"], SAME, "x", also_named={"001": "a", "002": "a"})
    assert found == {"b": "b"}


@pytest.mark.parametrize(
    ("names", "said"),
    [(["sp0.png", "sp1.png", "s0.png", "s1.png"], True), (["s0.png", "s1.png"], False)],
)
def test_a_given_pattern_is_of_whole_names_first(names, said):
    """What fits parts of the names alone may be of another set, and has to be said."""
    files = [(name, name.removesuffix(".png"), ".png") for name in names]
    found = matched(["p0", "p1"], files, "s{id}.png")
    assert found.files == {"p0": names[0], "p1": names[1]}
    assert found.said is said
