"""Label maps of rarer forms, and lists of classes that do not fit them: said before a score."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from .test_label_maps import (
    CLASSES,
    NAMES,
    classes_of,
    opened,
    own,  # noqa: F401
    refused,
    write,
)


def in_alpha(classes: np.ndarray, colour: int = 0) -> np.ndarray:
    """(H, W, 4) of one colour; the box is what is opaque."""
    pixels = np.full((*classes.shape, 4), colour, np.uint8)
    pixels[..., 3] = np.where(classes == 2, 255, 0)
    return pixels


@pytest.mark.parametrize("colour", [0, 255])
def test_masks_in_alpha_are_no_empty_masks(own, colour):  # noqa: F811
    """Read by their colours, all pixels would be the background, and its score 100."""
    labels = write(own / "labels", lambda classes: in_alpha(classes, colour))
    assert "hold the values 0, 255" in refused(own, labels, classes=Path("background; box"))
    dataset, notes = opened(own, labels, classes=Path("background; box"), label_values=(0, 255))
    assert any("have one colour and the mask in their alpha channel" in line for line in notes)
    for number, sample in enumerate(dataset.samples):
        np.testing.assert_array_equal(
            dataset.classes(sample.label, sample.label.read_bytes()), classes_of(number) == 2
        )


def test_arrays_are_label_maps(own):  # noqa: F811
    (own / "labels").mkdir()
    for number, name in enumerate(NAMES):
        np.save(own / f"labels/{name}.npy", classes_of(number).astype(np.int64))
    dataset, notes = opened(own, own / "labels")
    for number, sample in enumerate(dataset.samples):
        np.testing.assert_array_equal(
            dataset.classes(sample.label, sample.label.read_bytes()), classes_of(number)
        )
    assert not [line for line in notes if "label maps" in line]


def test_other_files_in_their_place_are_counted(own):  # noqa: F811
    (own / "labels").mkdir()
    for name in NAMES:
        (own / f"labels/{name}.mat").write_bytes(b"MATLAB")
    assert "holds no label map: expected .png" in refused(own, own / "labels")
    assert refused(own, own / "labels").endswith("there are 3 .mat")


def test_minus_one_is_not_taken_for_a_wrong_order(own):  # noqa: F811
    (own / "labels").mkdir()
    for number, name in enumerate(NAMES):
        values = classes_of(number).astype(np.int32)
        values[0] = -1
        np.save(own / f"labels/{name}.npy", values)
    message = refused(own, own / "labels")
    assert "--ignore-label 255,-1" in message
    assert "--label-values" not in message


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"classes": Path("background; sky; grass; box")}, "never labelled.*a line too many"),
        (
            {"reduce_zero_label": True},
            "'box', while 0, which --reduce-zero-label leaves out, has [0-9.]+% of",
        ),
        ({"ignore_label": (0,)}, "'sky': its value, 0, is in --ignore-label 0$"),
    ],
)
def test_a_list_that_is_off_by_one_is_said(own, given, words):  # noqa: F811
    _, notes = opened(own, write(own / "labels", np.array), **given)
    assert any(re.search(words, line) for line in notes), notes


def test_a_score_of_one_class_alone_is_called_that(own):  # noqa: F811
    labels = write(own / "labels", lambda classes: np.uint8(classes == 2))
    given = {"classes": Path("background; box"), "ignore_label": (0,)}
    _, notes = opened(own, labels, **given)
    assert any("all pixels that are evaluated are 'box'" in line for line in notes)
    labels = write(own / "empty", lambda classes: classes * 0)
    _, notes = opened(own, labels)
    assert any(f"are '{CLASSES[0]}': the score is of that class alone" in line for line in notes)
