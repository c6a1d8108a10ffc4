"""The goals on a GPU: medians of times by CUDA events, beside the time that is needed at least.

Without a GPU there is one row that says so. See docs/performance.md.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize

from benchmarks.cases import TINY, VGA, Case
from benchmarks.encoder_rows import WINDOW, encoder, window_gflop
from benchmarks.measure import Registry, Row, seconds, seconds_of
from sclip_core.config import Geometry, Protocol
from sclip_core.datasets import decode_image
from sclip_core.demo.scenes import draw_scene, evaluation_rng
from sclip_core.encoder import Attention, DenseEncoder
from sclip_core.encoder.pixels import cut_windows, normalise, resize
from sclip_core.evaluation import image_areas
from sclip_core.segmentation import Refiner, pamr

REPEATS = 21
BATCH = 256  # windows
IMAGES = 200
WORKERS = 8  # threads that decode


def on_device(name: str, device: torch.device, quick: bool, **settings: object) -> Case:
    """``Case.named``, its features and words on a device."""
    case = Case.named(name, VGA, quick, **settings)
    features, words = (t.to(device) for t in (case.refiner.features, case.refiner.embeddings))
    return replace(case, refiner=replace(case.refiner, features=features, embeddings=words))


def event_seconds(function: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median seconds by CUDA events; by the clock without a GPU."""
    function()
    taken = []
    for _ in range(repeats):
        if not torch.cuda.is_available():
            taken.append(seconds_of(function))
            continue
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        function()
        end.record()
        end.synchronize()
        taken.append(start.elapsed_time(end) / 1e3)
    return statistics.median(taken)


def copy_gbs(device: torch.device, quick: bool) -> float:
    """GB/s of a large copy, bytes read and written added up."""
    source = torch.zeros(2**16 if quick else 2**28, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / event_seconds(partial(target.copy_, source)) / 1e9


def matmul_tflops(device: torch.device, quick: bool) -> float:
    """TFLOP/s of a large product in bf16."""
    size = 64 if quick else 8192
    a, b = torch.randn(2, size, size, device=device, dtype=torch.bfloat16)
    return 2 * size**3 / event_seconds(partial(torch.mm, a, b)) / 1e12


def pamr_row(device: torch.device, quick: bool) -> Row:
    """The function ``pamr`` on logits that are there already."""
    case = on_device("coco_stuff", device, quick, pamr_steps=10)
    image, logits = case.image().to(device), case.stitched()
    taken = event_seconds(partial(pamr, image, logits, 10, (8, 16)))
    floor = 10 * 2 * logits.nbytes / copy_gbs(device, quick) / 1e9
    return timed_row(f"GPU: PAMR {case}, 10 steps (8, 16)", 1.5e-3, taken, floor)


def labels_row(device: torch.device, quick: bool) -> Row:
    """Features to labels without PAMR."""
    case = on_device("coco_stuff", device, quick)
    taken = event_seconds(case.labels)
    floor = case.moved_bytes() / copy_gbs(device, quick) / 1e9
    return timed_row(f"GPU: features to labels without PAMR, {case}", 1e-3, taken, floor)


def timed_row(name: str, limit: float, taken: float, floor: float) -> Row:
    """A row that is judged by its seconds; ``floor``: what moving its bytes takes at least."""
    return Row(
        name=name,
        goal=f"≤ {1e3 * limit:g} ms",
        measured=seconds(taken),
        ratio=taken / floor,
        floor=f"{seconds(floor)} (bytes)",
        met=taken <= limit,
    )


def encoder_row(device: torch.device, quick: bool) -> Row:
    """The encoder's rate in bf16, as a share of a large product's."""
    count, ours = 2 if quick else BATCH, bf16_encoder(device, quick)
    pixels = torch.randn(count, 3, WINDOW, WINDOW, device=device)
    taken = event_seconds(partial(ours.tokens, pixels), 5)
    rate = count * window_gflop(ours.visual, ["csa"]) / taken / 1e3
    peak = matmul_tflops(device, quick)
    return Row(
        name=f"GPU: encoder in bf16, {count} windows of {WINDOW}",
        goal="≥ 40 % of the bf16 peak",
        measured=f"{rate / peak:.1%}, {seconds(taken)}, {rate:.0f} TFLOP/s",
        ratio=rate / peak,
        floor=f"{peak:.0f} TFLOP/s (a product of 8192³)",
        met=rate / peak >= 0.4,
    )


def bf16_encoder(device: torch.device, quick: bool) -> DenseEncoder:
    """The random image tower on a device."""
    visual: Any = encoder(quick).visual
    visual = visual.to(device, torch.bfloat16) if device.type == "cuda" else visual
    return DenseEncoder(visual, Attention.parse("csa"))


def chain_row(device: torch.device, quick: bool) -> Row:
    """JPEG bytes to areas of every class: decode, encode, label, count; without the store."""
    ours, protocol = bf16_encoder(device, quick), Protocol.named("coco_stuff")
    size = TINY if quick else VGA
    protocol = protocol.replace(short_side=224) if quick else protocol
    picture = draw_scene(evaluation_rng(0), *size)
    data = cv2.imencode(".jpg", picture.image[..., ::-1])[1].tobytes()
    words = normalize(torch.randn(171, ours.width, device=device), dim=-1)
    classes = torch.arange(171)
    geometry = Geometry.of(*size, protocol, 16)

    def load(_: int) -> torch.Tensor:
        return cut_windows(
            normalise(resize(decode_image(data, "scene"), geometry.resized)), geometry
        )

    def count(labels: NDArray[Any]) -> object:
        return image_areas(labels, picture.labels.astype(np.int32), 171)

    for features in ours.patch_features(load(0)).split(geometry.num_windows):  # not on the clock
        Refiner(geometry, features, words, protocol).labels(classes, 171)
    images, group = (2, 1) if quick else (IMAGES, max(1, BATCH // geometry.num_windows))
    with ThreadPoolExecutor(WORKERS) as readers, ThreadPoolExecutor(2) as counters:
        begun, counted = time.perf_counter(), []
        loaded = list(range(0, images, group))
        ahead = [[readers.submit(load, i) for i in range(group)] for _ in loaded[:2]]
        for number in range(len(loaded)):
            windows = torch.cat([future.result() for future in ahead.pop(0)])
            if number + 2 < len(loaded):
                ahead.append([readers.submit(load, i) for i in range(group)])
            for features in ours.patch_features(windows).split(geometry.num_windows):
                refiner = Refiner(geometry, features, words, protocol)
                counted.append(counters.submit(count, refiner.labels(classes, 171)))
        for future in counted:
            future.result()
        taken = time.perf_counter() - begun
    rate = len(counted) / taken
    return Row(
        name=f"GPU: JPEG to areas, {size[0]}×{size[1]}, {geometry.num_windows} windows, 171 words",
        goal="≥ 100 images/s",
        measured=f"{rate:.0f} images/s",
        met=rate >= 100,
    )


def gpu_rows(quick: bool) -> Iterator[Row]:
    """All rows where there is a GPU; with ``quick``, the same code on the CPU."""
    if not torch.cuda.is_available() and not quick:
        yield Row("GPU", "PAMR ≤ 1.5 ms, …", "not measured: no CUDA device here", met=None)
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for row in (pamr_row, labels_row, encoder_row, chain_row):
        yield row(device, quick)


ROWS: Registry = {"gpu": gpu_rows}
