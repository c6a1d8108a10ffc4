"""The picture, its words and its maps, as a person uses them."""

from __future__ import annotations

import numpy as np

from sclip_core.drawing.colours import palette

IMAGE = "?i=000003"
COLOURS = """() => {
    const { width, height } = document.querySelector("#layer-SIDE canvas");
    const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    copy.drawImage(document.querySelector("#layer-SIDE canvas"), 0, 0);
    return { height, width, data: [...copy.getImageData(0, 0, width, height).data] };
}"""


def pixels(tab, side: str = "a") -> np.ndarray:
    """(H, W, 4) of the canvas of a side."""
    found = tab.evaluate(COLOURS.replace("SIDE", side))
    return np.array(found["data"], np.uint8).reshape(found["height"], found["width"], 4)


def settled(tab, text: str) -> None:
    """Wait until the status line says so."""
    tab.wait_for_function(
        "(text) => document.querySelector('#status-text').textContent.includes(text)", arg=text
    )


def colours(tab, side: str = "a") -> set[tuple[int, ...]]:
    """Opaque colours on the canvas."""
    flat = pixels(tab, side).reshape(-1, 4)
    return {tuple(colour[:3]) for colour in np.unique(flat[flat[:, 3] == 255], axis=0).tolist()}


def first(n: int) -> set[tuple[int, ...]]:
    return {tuple(colour) for colour in palette(n).tolist()}


def test_typing_words_paints_their_labels(opened):
    tab = opened(IMAGE)
    settled(tab, "4 classes")
    assert colours(tab) == first(4)
    tab.fill("#words", "tree; rock")
    settled(tab, "2 classes")
    assert colours(tab) == first(2)
    assert tab.locator("#legend .class-name").all_inner_texts() == ["tree", "rock"]
    image = pixels(tab)
    assert image.shape == (640, 427, 4)  # the picture's own size
    assert not image[:8, :, 3].any()  # no label there: nothing is painted
    tab.wait_for_function("location.search.includes('w=tree')")
