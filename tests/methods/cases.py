"""Each method with its golden arrays: which file, which networks, which protocol for which set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sclip_core import Protocol

from ..conftest import GOLDEN

BENCHMARK = {"coco_stuff164k": "coco_stuff"}  # where the arrays have another name


@dataclass(frozen=True)
class Case:
    """A method, and what its arrays were computed with."""

    method: str
    array: str  # its name in the arrays'
    file: str = ""  # of the arrays; without it the name in the arrays
    dino: str | None = None
    sam: bool = False
    masks: bool = False
    logits: float = 5e-6  # bound of 99 % of them
    largest: float = 1e-3  # bound of all

    @property
    def arrays(self) -> str:
        """The first part of the name of the arrays' file."""
        return self.file or self.array

    @property
    def head(self) -> bool:
        """Whether the arrays are of the CLIP with another projection."""
        return self.file != "clip_only"

    def networks(self) -> dict[str, str]:
        """The second network and SAM, as ``SCLIP.load`` is given them."""
        found = {}
        if self.dino:
            found["proxy"], found["proxy_pretrained"] = weights_of(self.dino)
        if self.sam:
            found["sam"], found["sam_pretrained"] = weights_of("tiny_sam")
        return found

    def settings(self) -> dict[str, Any]:
        """The same as settings of a run."""
        names = {"proxy": "proxy_model", "proxy_pretrained": "proxy_weights"}
        names |= {"sam": "sam_encoder", "sam_pretrained": "sam_checkpoint"}
        return {"method": self.method} | {names[k]: v for k, v in self.networks().items()}

    def protocol(self, name: str) -> Protocol:
        """The method's protocol for a set; ``_thd0``: without its threshold."""
        benchmark = name.removesuffix("_thd0")
        found = Protocol.named(BENCHMARK.get(benchmark, benchmark), method=self.method)
        return found.replace(prob_thd=0) if benchmark != name else found

    def sets(self, arrays: Mapping[str, np.ndarray]) -> list[str]:
        """The sets that the arrays have labels of, ``voc21_thd0`` among them."""
        start = f"labels_{self.array}_"
        names = [name.removeprefix(start) for name in arrays if name.startswith(start)]
        return sorted(name for name in names if not name.endswith("spread"))


def weights_of(name: str) -> tuple[str, str]:
    """A small network beside the arrays: its JSON and its weights."""
    return str(GOLDEN / f"{name}.json"), str(GOLDEN / f"{name}.safetensors")


def rgb(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """The image of the arrays (H, W, 3)."""
    return np.ascontiguousarray(arrays["image_bgr"][..., ::-1])


CASES = {
    case.method: case
    for case in (
        Case("sc-clip", "scclip", "clip_only", largest=6e-6),
        Case("pearl", "pearl", "clip_only", logits=5e-5, largest=5e-5),
        Case("resclip", "resclip", "clip_only", largest=6e-6),
        Case("itaclip", "itaclip", "clip_only", logits=3e-5, largest=3e-5),
        Case("proxyclip", "proxyclip", dino="tiny_dino8"),
        Case("gla-clip", "glaclip", dino="tiny_dino8"),
        Case("corrclip", "corrclip", dino="tiny_dino8", masks=True),
        Case("ov-stitcher", "ovstitcher", dino="tiny_dino8", masks=True),
        Case("trident", "trident", dino="tiny_dino16", sam=True),
    )
}
CLIP = Path(GOLDEN / "tiny_clip12.json")
