"""Words that PAMR leaves out since they cannot win: their share; no label depends on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Row
from benchmarks.pipeline_rows import PHOTOGRAPHS
from sclip_core import SCLIP, Protocol, Vocabulary, read_image
from sclip_core.config import tables
from sclip_core.demo.scenes import draw_scene, evaluation_rng

IMAGES = 10
SIZE = (360, 480)


def skipping_rows(quick: bool) -> list[Row]:
    """The demo's CLIP and words on drawn scenes, and on photographs where a folder is given."""
    count = 1 if quick else IMAGES
    size = (96, 128) if quick else SIZE
    scenes = [draw_scene(evaluation_rng(number), *size).image for number in range(count)]
    rows = [skipping_row("drawn scenes", scenes)]
    folder = os.environ.get(PHOTOGRAPHS)
    if folder:
        found = sorted(Path(folder).glob("*.jpg"))[:count]
        rows.append(skipping_row("photographs", [read_image(path) for path in found]))
    return rows


def skipping_row(kind: str, images: Sequence[NDArray[np.uint8]]) -> Row:
    """Labels with and without the words that are left out."""
    from sclip_core.segmentation.backends import numba_decision  # needs Numba

    preset = tables()["presets"]["demo"]
    model = SCLIP.load(preset["model"], preset["pretrained"], device="cpu")
    fields = {name: preset[name] for name in Protocol.model_fields if name in preset}
    protocol = Protocol(**fields).replace(pamr_steps=10)
    bank = model.text_bank(Vocabulary.named("scenes"))
    dominated, shares, different = numba_decision.dominated, [], 0

    def noted(cosines: Any) -> NDArray[np.bool_]:
        shares.append(float(dominated(cosines).mean()))
        return dominated(cosines)

    for image in images:
        refiner = model.refiner(image, bank, protocol)
        with patch.object(numba_decision, "dominated", noted):
            ours = refiner.labels(bank.query_class, bank.num_classes)
        with patch.object(numba_decision, "dominated", lambda c: np.zeros(c.shape[-1], np.bool_)):
            by_all = refiner.labels(bank.query_class, bank.num_classes)
        different += int((ours != by_all).sum())
    return Row(
        name=f"words left out before PAMR, demo CLIP, {len(bank.queries)} words, "
        f"{len(images)} {kind}",
        goal="no label differs",
        measured=f"{np.mean(shares):.1%} left out, at most {max(shares):.0%}; "
        f"{different} labels differ",
        met=different == 0,
        detail={"shares": shares, "labels_that_differ": different},
    )


ROWS: dict[str, Callable[[bool], list[Row]]] = {"skipping": skipping_rows}
