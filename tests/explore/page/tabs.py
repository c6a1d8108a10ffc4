"""What tests read from a tab."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# A copy: reading a canvas itself again and again makes the browser say that this is slow.
COPY = """(side) => {
    const canvas = document.querySelector(`#layer-${side} canvas`);
    const { width, height } = canvas;
    const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    copy.drawImage(canvas, 0, 0);
    const bytes = copy.getImageData(0, 0, width, height).data;
    let text = "";
    for (let i = 0; i < bytes.length; i += 8192) {
        text += String.fromCharCode(...bytes.subarray(i, i + 8192));
    }
    return { width, height, data: btoa(text) };
}"""


def pixels(tab, side: str = "a") -> NDArray[np.uint8]:
    """(H, W, 4) of the canvas of a side."""
    import base64

    found = tab.evaluate(COPY, side)
    data = np.frombuffer(base64.b64decode(found["data"]), np.uint8)
    return data.reshape(found["height"], found["width"], 4)


def colours(tab, side: str = "a") -> set[tuple[int, ...]]:
    """Opaque colours on the canvas of a side."""
    flat = pixels(tab, side).reshape(-1, 4)
    return {tuple(colour[:3]) for colour in np.unique(flat[flat[:, 3] == 255], axis=0).tolist()}


def settled(tab, text: str) -> None:
    """Wait until the status line says so."""
    tab.wait_for_function(
        "(text) => document.querySelector('#status-text').textContent.includes(text)", arg=text
    )
