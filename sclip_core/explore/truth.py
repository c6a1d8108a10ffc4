"""The ground truth of an image as the page shows it."""

from __future__ import annotations

from typing import Any

import numpy as np

from sclip_core.config import UserError
from sclip_core.datasets import Vocabulary
from sclip_core.drawing.colours import palette
from sclip_core.explore.desk import Answer
from sclip_core.explore.gallery import Collection
from sclip_core.explore.labels import NO_LABEL, sent, shares
from sclip_core.explore.view import View, shown_size
from sclip_core.explore.words import words_of


def truth_answer(collection: Collection, view: View) -> Answer:
    """The classes of an image's pixels, uint16 row by row, 65535 where they are not evaluated.

    Args:
        collection: of the image.
        view: the image, and the words that it is looked at with.

    Returns:
        Its ``about`` says whether labels by these words can be compared with it: they are the words
        of the collection, and it is as large as the image.

    Raises:
        UserError: there is no ground truth, or it cannot be read.
    """
    size, truth = collection.size(view.image), collection.truth(view.image)
    if truth is None:
        raise UserError(f"{collection.title} has no ground truth: `sclip explore --labels DIR`")
    vocabulary, shown = collection.dataset.vocabulary, shown_size(size)
    counted = np.where(truth < 0, vocabulary.num_classes, truth)
    about = {
        "classes": classes_about(vocabulary, shares(counted, vocabulary.num_classes)),
        "shown": list(shown),
        "comparable": truth.shape == size and _has_own_words(collection, view),
    }
    return Answer(about, sent(np.where(truth < 0, NO_LABEL, truth), shown))


def _has_own_words(collection: Collection, view: View) -> bool:
    """Whether a view has the words of the collection."""
    try:
        return words_of(view.words, collection).own
    except UserError:  # none, or too many
        return False


def classes_about(vocabulary: Vocabulary, parts: list[float]) -> list[dict[str, Any]]:
    """The classes of a vocabulary with their words and colours, and each one's share in percent."""
    colours = palette(vocabulary.num_classes).tolist()
    return [
        {
            "name": name,
            "words": list(words),
            "colour": "#{:02x}{:02x}{:02x}".format(*colour),
            "share": share,
        }
        for (name, words), colour, share in zip(vocabulary.named_words, colours, parts, strict=True)
    ]
