"""A temporary folder for whole runs: pictures with ground truth, a CLIP, artifacts."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import cv2
import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from benchmarks.cases import TINY, VGA
from benchmarks.processes import PHASES, WARM, Probe, sclip_run
from sclip_core import read_image
from sclip_core.datasets import Vocabulary
from sclip_core.demo.scenes import draw_scene, evaluation_rng
from sclip_core.demo.scenes.files import write_scenes

PHOTOGRAPHS = "SCLIP_BENCH_PHOTOGRAPHS"  # a folder of JPEGs to use in place of drawn scenes
LABELS_OF = {  # of the label map of an image, what follows its name
    "coco_object": "_instanceTrainIds.png",
    "coco_stuff": "_labelTrainIds.png",
}
QUICK_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
QUICK_VISION = {"image_size": 224, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16}


class Workplace:
    """The folder in which the runs of a row are measured; removed at the end of the block."""

    def __init__(self, quick: bool) -> None:
        """Create the folder; ``quick``: few words, tiny images and models, one thread."""
        self.quick = quick
        self._kept = TemporaryDirectory(prefix="sclip-bench-", ignore_cleanup_errors=True)
        self.folder = Path(self._kept.name)
        self._artifacts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kept.cleanup()

    def artifacts(self) -> Path:
        """A new path for artifacts; those of the path before are removed."""
        shutil.rmtree(self.folder / f"artifacts-{self._artifacts}", ignore_errors=True)
        self._artifacts += 1
        return self.folder / f"artifacts-{self._artifacts}"

    def run(
        self, settings: dict[str, object], direct: bool, warm: bool = False, phases: bool = False
    ) -> Probe:
        """Measure a run in a process of its own.

        Args:
            settings: by name.
            direct: without Prefect.
            warm: load the kernels before the clock starts.
            phases: record what each thread does.
        """
        env = {name: "1" for name, asked in ((WARM, warm), (PHASES, phases)) if asked}
        if self.quick:
            settings = {**settings, "classes": self._short(str(settings["dataset"]))}
            env["OMP_NUM_THREADS"] = "1"
        return sclip_run(self.folder / "probe.json", settings, direct, **env)

    def _short(self, benchmark: str) -> Path:
        """A vocabulary file with one word for each class of a benchmark."""
        path = self.folder / f"{benchmark}.txt"
        path.write_text("\n".join(Vocabulary.named(benchmark).class_names), "utf-8")
        return path

    def demo(self, count: int) -> dict[str, object]:
        """Draw scenes; the settings of a run of the demo's CLIP over them, with PAMR."""
        root = self.folder / "scenes"
        write_scenes(root, count)
        own = {"preset": "demo", "dataset": "scenes", "data_root": root}
        return {**own, "num_samples": count, "pamr_steps": 10}

    def coco(
        self, count: int, given: Path | None, benchmark: str = "coco_object", grain: float = 0
    ) -> tuple[dict[str, object], str]:
        """Write images and label maps in the layout of a benchmark of COCO's images.

        Args:
            count: images, at most.
            given: a folder of JPEGs, whose label maps are then zeros; None: draw scenes.
            benchmark: ``coco_object`` or ``coco_stuff``.
            grain: of drawn scenes, in grey levels, so that their JPEGs are as large as photographs.

        Returns:
            The settings of a run over them with ``random_clip``, and a description of the images.
        """
        root = self.folder / benchmark
        images, labels = root / "images" / "val2017", root / "annotations" / "val2017"
        for folder in (images, labels):
            folder.mkdir(parents=True, exist_ok=True)
        found = sorted(given.glob("*.jpg"))[:count] if given else []
        if given and not found:
            raise FileNotFoundError(f"no *.jpg in {given}")
        size = TINY if self.quick else VGA
        ending = LABELS_OF[benchmark]
        for path in found:
            shutil.copy(path, images)
            empty = np.zeros_like(read_image(path)[..., 0])
            _write(labels / f"{path.stem}{ending}", empty)
        for number in range(0 if found else count):
            scene = draw_scene(evaluation_rng(number), *size)
            image = grained(scene.image, grain, number) if grain else scene.image
            _write(images / f"{number:04d}.jpg", image[..., ::-1])
            _write(labels / f"{number:04d}{ending}", scene.labels)
        drawn = f"{count} scenes {size[0]}×{size[1]}"
        own: dict[str, object] = {"dataset": benchmark, "data_root": root}
        images_used = f"{len(found)} photographs" if found else drawn
        return {**own, **random_clip(self.folder, self.quick)}, images_used


def grained(image: NDArray[np.uint8], grain: float, seed: int) -> NDArray[np.uint8]:
    """An image with noise of several scales, as surfaces in photographs have."""
    drawn = np.random.default_rng(seed)
    height, width = image.shape[:2]
    noise = np.zeros((height, width), np.float32)
    for scale in (1, 2, 4, 8):
        part = drawn.normal(0, grain, (-(-height // scale), -(-width // scale)))
        noise += cv2.resize(part.astype(np.float32), (width, height))
    found: NDArray[np.uint8] = np.clip(image + noise[..., None], 0, 255).astype(np.uint8)
    return found


def _write(path: Path, pixels: NDArray[np.uint8]) -> None:
    if not cv2.imwrite(str(path), pixels):
        raise OSError(f"{path} could not be written")


def random_clip(folder: Path, quick: bool) -> dict[str, object]:
    """Write a ViT-B/16 with random weights; return the settings that load it."""
    config: dict[str, Any] = copy.deepcopy(open_clip.get_model_config("ViT-B-16-quickgelu"))
    if quick:
        config |= {"embed_dim": 16, "vision_cfg": QUICK_VISION, "text_cfg": QUICK_TEXT}
    path, weights = folder / "random.json", folder / "random.safetensors"
    if weights.is_file():
        return {"model": str(path), "pretrained": str(weights)}
    path.write_text(json.dumps(config), "utf-8")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(open_clip.CLIP(**copy.deepcopy(config)).state_dict(), weights)
    return {"model": str(path), "pretrained": str(weights)}
