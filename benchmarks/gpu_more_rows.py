"""What could make a GPU faster still: precisions and batches, graphs, compiling, nvJPEG, tiles.

Each row stands alone: one that fails says so, and the next is measured.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks.cases import TINY, VGA
from benchmarks.encoder_rows import WINDOW, encoder, window_gflop
from benchmarks.gpu_rows import WORKERS, event_seconds, matmul_tflops, on_device
from benchmarks.measure import Registry, Row, seconds, seconds_of
from benchmarks.workplace import grained
from sclip_core.datasets import decode_image
from sclip_core.demo.scenes import draw_scene, evaluation_rng
from sclip_core.encoder import Attention, DenseEncoder
from sclip_core.segmentation import pamr
from sclip_core.segmentation.backends import triton_pamr

BATCHES = (64, 128, 256, 512)  # windows
LAUNCHED = (16, 64, 256)  # where launches may count, for graphs and the compiler
GOAL = 0.4  # of a large product's rate
JPEGS = 64
GROUPS = (8, 16, 32)  # words that share a tile's weights
TILES = ((4, 128, 4), (8, 64, 4), (8, 128, 8), (16, 64, 8))  # rows, columns, warps
GRAIN = 6.0  # grey levels: JPEGs of 150 KB

Rows = Callable[[torch.device, bool], Row]


def tower(device: torch.device, dtype: torch.dtype, quick: bool) -> DenseEncoder:
    """The random image tower on a device; on a CPU in fp32."""
    visual: Any = encoder(quick).visual
    visual = visual.to(device, dtype) if device.type == "cuda" else visual
    return DenseEncoder(visual, Attention.parse("csa"))


def pixels_of(count: int, device: torch.device, quick: bool) -> Tensor:
    """Random windows; quick: two."""
    return torch.randn(2 if quick else count, 3, WINDOW, WINDOW, device=device)


def rate_row(name: str, ours: DenseEncoder, count: int, taken: float, peak: float) -> Row:
    """A pass over windows, as a share of a large product's rate."""
    rate = count * window_gflop(ours.visual, ["csa"]) / taken / 1e3
    return Row(
        name=f"GPU: {name}",
        goal=f"≥ {GOAL:.0%} of the bf16 peak",
        measured=f"{rate / peak:.1%}, {seconds(taken)}, {rate:.0f} TFLOP/s",
        ratio=rate / peak,
        floor=seconds(taken * rate / peak),
        met=rate / peak >= GOAL,
    )


def batch_row(dtype: torch.dtype, count: int, device: torch.device, quick: bool) -> Row:
    """The tower as it is, in a precision, on so many windows."""
    ours, pixels = tower(device, dtype, quick), pixels_of(count, device, quick)
    taken = event_seconds(partial(ours.tokens, pixels), 5)
    name = f"encoder in {str(dtype).removeprefix('torch.')}, {count} windows"
    return rate_row(name, ours, len(pixels), taken, matmul_tflops(device, quick))


def graph_row(count: int, device: torch.device, quick: bool) -> Row:
    """The same pass replayed as a CUDA graph; on a CPU as it is."""
    ours, pixels = tower(device, torch.bfloat16, quick), pixels_of(count, device, quick)
    replayed = partial(ours.tokens, pixels)
    if device.type == "cuda":
        event_seconds(replayed, 2)  # what is made once cannot be captured
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            replayed()
        replayed = graph.replay
    taken = event_seconds(replayed, 5)
    name = f"encoder as a CUDA graph in bfloat16, {count} windows"
    return rate_row(name, ours, len(pixels), taken, matmul_tflops(device, quick))


def compiled_row(count: int, device: torch.device, quick: bool) -> Row:
    """The same pass compiled by ``torch.compile``, and what compiling takes."""
    ours, pixels = tower(device, torch.bfloat16, quick), pixels_of(count, device, quick)
    torch.compiler.reset()
    on_gpu = device.type == "cuda"
    # on a CPU it would need a compiler, and minutes
    compiled: Any = torch.compile(ours.tokens, backend="inductor" if on_gpu else "eager")
    begun = time.perf_counter()
    compiled(pixels)
    compiling = time.perf_counter() - begun
    taken = event_seconds(partial(compiled, pixels), 5)
    name = f"encoder compiled in bfloat16, {count} windows"
    row = rate_row(name, ours, len(pixels), taken, matmul_tflops(device, quick))
    return replace(row, measured=f"{row.measured}, compiled in {seconds(compiling)}")


def decode_row(device: torch.device, quick: bool) -> Row:
    """JPEGs decoded by OpenCV in threads and by nvJPEG through torchvision."""
    from torchvision.io import decode_jpeg

    count, size = (2, TINY) if quick else (JPEGS, VGA)
    pictures = [grained(draw_scene(evaluation_rng(n), *size).image, GRAIN, n) for n in range(count)]
    files = [cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes() for picture in pictures]
    tensors = [torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in files]

    def there() -> list[Tensor]:
        found = decode_jpeg(tensors, device=device)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return list(found)

    with ThreadPoolExecutor(WORKERS) as readers:

        def ours() -> list[Any]:
            return list(readers.map(lambda file: decode_image(file, "scene"), files))

        apart = max(
            int(np.abs(a.astype(int) - b.permute(1, 2, 0).cpu().numpy()).max())
            for a, b in zip(ours(), there(), strict=True)
        )
        taken = {
            name: statistics.median(seconds_of(one) for _ in range(5))
            for name, one in (("ours", ours), ("there", there))
        }
    rates = {name: count / each for name, each in taken.items()}
    return Row(
        name=f"GPU: JPEGs decoded, {size[0]}×{size[1]}, nvJPEG against OpenCV in {WORKERS} threads",
        goal="> 1×, if it is to be used",
        measured=f"{rates['there']:.0f} images/s (OpenCV {rates['ours']:.0f}), "
        f"at most {apart} grey levels apart",
        ratio=rates["there"] / rates["ours"],
        detail={"apart": apart, **rates},
    )


def tiles_row(device: torch.device, quick: bool) -> Row:
    """PAMR by several tiles of its Triton kernel; on a CPU the portable one."""
    case = on_device("coco_stuff", device, quick, pamr_steps=10)
    image, logits = case.image().to(device), case.stitched()
    taken: dict[str, float] = {}
    tiles, groups = (TILES[:1], GROUPS[:1]) if quick else (TILES, GROUPS)
    for rows, columns, warps in tiles:
        tile = {"ROWS": rows, "COLUMNS": columns, "num_warps": warps}
        for group in groups:
            name = f"{rows}×{columns}, {warps} warps, {group} words"
            with (
                patch.dict(triton_pamr.TILE, tile),
                patch.object(triton_pamr, "GROUP", group),
            ):
                try:
                    taken[name] = event_seconds(partial(pamr, image, logits, 10, (8, 16)), 5)
                except Exception as error:  # a tile that does not fit; Triton has no class for it
                    taken[name] = float("inf")
                    print(f"  {name}: {type(error).__name__}")
    best = min(taken, key=lambda name: taken[name])
    return Row(
        name=f"GPU: PAMR {case}, {len(taken)} tiles",
        goal="≤ 1.5 ms",
        measured=f"{seconds(taken[best])} by {best}",
        met=taken[best] <= 1.5e-3,
        detail={"taken": taken},
    )


def _each(quick: bool) -> Iterator[tuple[str, Rows]]:
    """The rows by name, the most valuable first."""
    for dtype in (torch.float16, torch.bfloat16):
        for count in BATCHES[:1] if quick else BATCHES:
            yield f"{dtype} {count}", partial(batch_row, dtype, count)
    for count in LAUNCHED[:1] if quick else LAUNCHED:
        yield f"graph {count}", partial(graph_row, count)
    yield "decode", decode_row
    for count in LAUNCHED[:1] if quick else LAUNCHED[1:]:
        yield f"compiled {count}", partial(compiled_row, count)
    yield "tiles", tiles_row


def more_rows(quick: bool) -> Iterator[Row]:
    """All rows where there is a GPU; with ``quick``, the same code on the CPU."""
    if not torch.cuda.is_available() and not quick:
        yield Row("GPU: more", f"≥ {GOAL:.0%}", "not measured: no CUDA device here", met=None)
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for name, row in _each(quick):
        try:
            yield row(device, quick)
        except Exception as error:
            said = f"failed: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
            yield Row(f"GPU: {name}", "", said, met=False, detail={"error": str(error)})


ROWS: Registry = {"gpu-more": more_rows}
