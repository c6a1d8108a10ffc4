"""An explorer over a copy of the scenes' runs, as the tests of labels and maps use it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sclip_core.config import Settings
from sclip_core.explore.desk import Answer, Cancelled, Task
from sclip_core.explore.explorer import Explorer
from sclip_core.explore.view import View

WORDS = "sky, clouds; grass, lawn; brick wall; tree; house, cottage; ball"
CLASSES = [part.strip() for part in WORDS.split(";")]


def explorer_of(artifacts: Path) -> Explorer:
    """One over the runs of a folder of artifacts."""
    return Explorer.open(Settings(artifacts=artifacts), own=False)


def copied(scenes_runs: Path, target: Path) -> Path:
    """A copy of the runs, which may be written to; the scenes stay where they are."""
    return Path(shutil.copytree(scenes_runs, target / "artifacts"))


def view_of(explorer: Explorer, image: int = 0, **values: Any) -> View:
    """A view of one of the scenes."""
    collection = explorer.collections[0]
    return View(collection=collection.id, image=collection.ids()[image], **values)


def map_of(answer: Answer) -> NDArray[np.uint16]:
    """The label map of an answer."""
    return np.frombuffer(answer.blob, "<u2").reshape(answer.about["shown"])


def sent_by_page(explorer: Explorer, pixels: NDArray[np.uint8]) -> tuple[str, str]:
    """Collection and id of an uploaded image (H, W, 3)."""
    data = cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()
    found = explorer.upload("photo.png", data)
    return found["collection"], found["image"]


class CancelledAfter(Task):
    """A task that is cancelled at its n-th line of progress."""

    def __init__(self, lines: int) -> None:
        super().__init__()
        self.left = lines

    def progress(self, done: int, total: int, what: str, **more: Any) -> None:
        self.left -= 1
        if self.left < 0:
            raise Cancelled
