"""What runs cost on this machine, by stage: time, peak memory, parameters and FLOPs."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sclip_core.config import Settings, UserError
from sclip_core.datasets import Vocabulary
from sclip_core.masks.fill import filled
from sclip_core.methods.registry import choose
from sclip_core.model import SCLIP
from sclip_core.pipeline.models import Models
from sclip_core.pipeline.run import Run
from sclip_core.profiling.memory import peak_mb, seconds_of
from sclip_core.profiling.networks import flops_of, load, passes
from sclip_core.provenance import device_name
from sclip_core.store.digests import Digests

SIZE = (336, 448)  # of synthetic images: height and width in pixels
IMAGES = 4  # of them
STAGES = ("encode", "refine", "pamr", "masks")


@dataclass(frozen=True)
class Stage:
    """What a stage takes of an image."""

    seconds: tuple[float, ...]
    """Of each image and repetition."""
    memory: float
    """The peak in MB, of the first image; see `peak_mb`."""

    @property
    def median(self) -> float:
        """The median in seconds."""
        return statistics.median(self.seconds)

    @property
    def p95(self) -> float:
        """The 95th percentile in seconds, interpolated."""
        return float(np.percentile(self.seconds, 95))


@dataclass(frozen=True)
class NetworkCost:
    """One pass of a network."""

    name: str
    size: str
    """Of what it is given."""
    parameters: int
    flops: int
    """Of one pass; a multiplication and an addition are two."""


@dataclass(frozen=True)
class MethodCost:
    """What a run takes."""

    name: str
    windows: int
    """Of the first image."""
    stages: dict[str, Stage]
    """Of those of ``STAGES`` that the run has; and ``total``."""
    flops: int
    """Of the networks and of the method, of the first image."""

    @property
    def images_per_second(self) -> float:
        """Images of all repetitions by the time that they took."""
        total = self.stages["total"].seconds
        return len(total) / sum(total)


@dataclass(frozen=True)
class Profile:
    """What runs cost on this machine."""

    machine: str
    images: int
    size: str
    """Of the images, height and width."""
    words: int
    text_seconds: float
    """All words through the text tower, once for a vocabulary."""
    networks: tuple[NetworkCost, ...]
    methods: tuple[MethodCost, ...]


def profile(
    settings: Sequence[Settings], size: tuple[int, int] = SIZE, repeats: int = 3
) -> Profile:
    """Measure runs, one method after the other, on the images of their dataset or on made-up ones.

    Nothing is read from a store, and nothing is written.

    Args:
        settings: of the runs, which share a model; ``pretrained`` ``none``: random weights. Without
            ``data_root`` and ``images``, made-up images; ``num_samples`` says how many.
        size: of made-up images, height and width in pixels.
        repeats: how often each image is measured, after a first time that does not count.

    Raises:
        UserError: no such model or data; a run without dense labels.
    """
    first = settings[0]
    if any(one.mode == "baseline" for one in settings):
        raise UserError("a profile is of runs with dense labels: take --mode dense or hybrid")
    images, vocabulary = _inputs(first, size)
    model = load(first)
    text = seconds_of(lambda: _bank(model, vocabulary, first), model.device)
    costs = tuple(_method(model, one, images, vocabulary, repeats) for one in settings)
    chosen = [choose(_protocol(one), "csa").method for one in settings]
    geometry, _ = model.windows_of(images[0], _protocol(first))
    networks = tuple(
        NetworkCost(name, shown, count, flops_of(call))
        for name, shown, count, call in passes(
            model, geometry.frame, [method for method in chosen if method]
        )
    )
    sizes = sorted({image.shape[:2] for image in images})
    shown = f"{sizes[0][0]}×{sizes[0][1]}" if len(sizes) == 1 else f"{len(sizes)} sizes"
    words = len(vocabulary.queries)
    return Profile(machine_line(model), len(images), shown, words, text, networks, costs)


def machine_line(model: SCLIP) -> str:
    """The machine in a line: processor, threads, device, precision, PyTorch."""
    dtype = str(model.encoder.dtype).removeprefix("torch.")
    parts = [processor(), f"{torch.get_num_threads()} threads"]
    if model.device.type != "cpu":
        parts.append(device_name(model.device))
    return ", ".join([*parts, dtype, f"PyTorch {torch.__version__}"])


def processor() -> str:
    """The name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _inputs(
    settings: Settings, size: tuple[int, int]
) -> tuple[list[NDArray[np.uint8]], Vocabulary]:
    """The images, and the words."""
    count = settings.num_samples or IMAGES
    if settings.images is None and settings.data_root is None:
        noise = np.random.default_rng(0)
        shape = (*size, 3)
        images = [noise.integers(0, 256, shape, np.uint8) for _ in range(count)]
        if settings.classes is not None:
            return images, Vocabulary.given(settings.classes)
        return images, Vocabulary.named(settings.vocabulary or "voc21")
    inputs = Run(settings.replace(num_samples=count), download=False).inputs
    return [inputs.image(digest) for digest in inputs.image_ids], inputs.dataset.vocabulary


def _protocol(settings: Settings) -> Settings:
    """The settings as a protocol that names its method, attentions too."""
    return settings.model_copy(update={"method": settings.method or settings.attention})


def _bank(model: SCLIP, vocabulary: Vocabulary, settings: Settings) -> Any:
    return model.text_bank(vocabulary, settings.template_set)


def _method(
    model: SCLIP,
    settings: Settings,
    images: Sequence[NDArray[np.uint8]],
    vocabulary: Vocabulary,
    repeats: int,
) -> MethodCost:
    """Measure one run on all images."""
    run = _Measured(model, settings, vocabulary)
    run.once(images[0])  # kernels are compiled, buffers made
    seconds: dict[str, list[float]] = {}
    for _ in range(repeats):
        for image in images:
            for name, taken in run.once(image).items():
                seconds.setdefault(name, []).append(taken)
    memory = run.memory(images[0])
    geometry, _ = model.windows_of(images[0], run.protocol)
    return MethodCost(
        name=settings.method or settings.attention,
        windows=geometry.num_windows * run.views,
        stages={name: Stage(tuple(s), memory[name]) for name, s in seconds.items()},
        flops=flops_of(lambda: run.encode(images[0])),
    )


class _Measured:
    """The stages of one run, over any image."""

    def __init__(self, model: SCLIP, settings: Settings, vocabulary: Vocabulary) -> None:
        self.model, self.settings, self.protocol = model, settings, _protocol(settings)
        self.bank = _bank(model, vocabulary, settings)
        chosen = choose(self.protocol, "csa")
        self.views = len(chosen.method.views) if chosen.method else 1
        self.after = chosen.after
        self.has_masks = "proposals" in settings.stages
        self.propose: Callable[..., Any] | None = None
        if self.has_masks:
            models = Models(settings, Digests(Path("digests.jsonl"), keep=False), download=True)
            models.source.check()
            self.propose = models.proposer()

    def masks(self, image: NDArray[np.uint8]) -> Any:
        """The masks of an image."""
        assert self.propose is not None
        return self.propose(image)

    def encode(self, image: NDArray[np.uint8], masks: Any = None) -> Any:
        """Windows, networks, and what the method makes of them."""
        if masks is None and self.has_masks:
            masks = self.masks(image)
        regions = masks.id_map() if masks is not None else None
        return self.model.refiner(image, self.bank, self.protocol, regions)

    def labels(self, refiner: Any, steps: int) -> Any:
        """Stitching, PAMR and decision."""
        protocol = refiner.protocol.replace(pamr_steps=steps)
        [labels] = refiner.labels_at([protocol], self.bank.query_class, self.bank.num_classes)
        return labels

    def once(self, image: NDArray[np.uint8]) -> dict[str, float]:
        """Seconds of each stage."""
        device, kept = self.model.device, {}
        found: dict[str, float] = {}

        def take(name: str, call: Callable[[], Any]) -> Any:
            found[name] = seconds_of(lambda: kept.update({name: call()}), device)
            return kept[name]

        masks = take("masks", partial(self.masks, image)) if self.has_masks else None
        refiner = take("encode", partial(self.encode, image, masks))
        labels = take("refine", partial(self.labels, refiner, 0))
        steps = self.protocol.pamr_steps
        if steps:
            labels = take("with pamr", partial(self.labels, refiner, steps))
            found["pamr"] = max(0.0, found.pop("with pamr") - found["refine"])
        if masks is not None and self.settings.mode == "hybrid":
            crops = partial(self.model.mask_features, image, masks)
            rule = self.settings.hybrid_rule
            fill = partial(filled, masks, labels, refiner, self.bank, rule, crops)
            found["masks"] += seconds_of(fill, device)
        found["total"] = sum(found.values())
        return found

    def memory(self, image: NDArray[np.uint8]) -> dict[str, float]:
        """Peak memory of each stage."""
        device = self.model.device
        masks = self.masks(image) if self.has_masks else None
        refiner = self.encode(image, masks)
        steps = self.protocol.pamr_steps
        found = {
            "encode": peak_mb(partial(self.encode, image, masks), device),
            "refine": peak_mb(partial(self.labels, refiner, 0), device),
        }
        if steps:
            found["pamr"] = peak_mb(partial(self.labels, refiner, steps), device)
        if masks is not None:
            found["masks"] = peak_mb(partial(self.masks, image), device)
        found["total"] = max(found.values())
        return found
