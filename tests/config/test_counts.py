"""Numbers, nouns and verbs of messages agree."""

from __future__ import annotations

import pytest

from sclip_core.config.counts import fitting, number_of


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ((0, "image", "have"), "0 images have"),
        ((1, "image", "are"), "1 image is"),
        ((2, "image", "are"), "2 images are"),
        ((1, "class"), "1 class"),
        ((1234, "class"), "1,234 classes"),
        ((1, "image", "hold", 2000), "1 of 2,000 images holds"),
        ((2, "patch", "lie", 3), "2 of 3 patches lie"),
        ((1, "image", "have", 1), "1 of 1 image has"),
    ],
)
def test_they_agree(asked, line):
    assert number_of(*asked) == line


def test_verbs():
    assert [fitting(verb, 1) for verb in ("have", "are", "name", "stay")] == [
        *("has", "is", "names", "stays")
    ]
    assert fitting("have", 0) == "have"
