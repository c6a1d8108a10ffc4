"""Files of what is shown: the picture, the label map, the heat of a word."""

from __future__ import annotations

import io
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sclip_core.config import unknown
from sclip_core.drawing import poster
from sclip_core.drawing.heat import heated
from sclip_core.explore.desk import Answer, Task
from sclip_core.explore.labels import NO_LABEL, Labeller, Scene
from sclip_core.explore.maps import heat

KINDS = ("picture", "labels", "heat")


def saved(labeller: Labeller, scene: Scene, what: str, word: str, task: Task) -> Answer:
    """A PNG.

    Args:
        labeller: makes the labels.
        scene: the view.
        what: ``picture``, with a legend, as ``sclip segment`` draws it; ``labels`` at the original
            size, value k is class k, as ``sclip segment --labels-out`` writes them; ``heat``.
        word: a class or a word, for ``heat``.
        task: is told how far it is.

    Raises:
        UserError: none of these, or no such word.
    """
    if what not in KINDS:
        raise unknown("file", what, KINDS)
    pixels = scene.collection.pixels(scene.image)
    stem = PurePath(str(scene.collection.file(scene.image))).stem
    if what == "heat":
        values = heat(labeller, scene, word, task)
        shown = "".join(c if c.isalnum() or c in " -" else "_" for c in word)[:80].strip()
        return _png(heated(Image.fromarray(pixels), values), f"{stem}.{shown or 'heat'}.heat.png")
    labels = labeller.labels(scene, task)
    vocabulary = scene.words.vocabulary
    if what == "labels":
        return _png(Image.fromarray(vocabulary.as_values(labels)), f"{stem}.labels.png")
    drawn: NDArray[Any] = labels
    if vocabulary.distractors:
        drawn = np.where(labels == NO_LABEL, -1, labels.astype(np.int32))
    return _png(poster(pixels, drawn, vocabulary.class_names), f"{stem}.sclip.png")


def _png(picture: Image.Image, name: str) -> Answer:
    into = io.BytesIO()
    picture.save(into, "PNG", compress_level=1)
    return Answer({"name": name, "type": "image/png"}, into.getvalue())
