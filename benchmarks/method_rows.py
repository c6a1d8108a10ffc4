"""Methods from kept taps against their full runs, six in one pass, and their peaks of memory.

An image of 448×600 pixels, the settings for coco_object, and networks with random weights:
ViT-B/16, DINO ViT-B/8 and B/16, SAM ViT-B. A full run is the passes through the networks and the
method's features; from taps, what the networks give is kept. For its peak of memory the image is
not resized.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import open_clip
import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.mask_rows import random_sam
from benchmarks.measure import Registry, Row, alternate, megabytes, peak_extra_mb, seconds_of
from benchmarks.measure import seconds as written
from sclip_core.config import Geometry, Protocol
from sclip_core.demo.scenes import draw_scene, evaluation_rng
from sclip_core.encoder import Attention, DenseEncoder
from sclip_core.encoder.pixels import cut_windows
from sclip_core.encoder.second import SecondNetwork
from sclip_core.encoder.taps import Tap, union
from sclip_core.encoder.views import VIEWS
from sclip_core.masks.sam.last_block import SamTrunk
from sclip_core.methods.features import Extra, features_of
from sclip_core.methods.method import Method
from sclip_core.methods.registry import BUILT_IN, choose

SIZE, TINY = (448, 600), (224, 320)
WORDS = 21  # of voc21 with one word a class
BATCH = 16  # windows of a pass
REPEATS = 3
SHARE, PASS_GOAL, MEMORY_GOAL_MB = 1 / 8, 1.5, 1000.0
OF_IMAGE = ("gla-clip", "ov-stitcher", "trident")  # whose matrix is of the whole image's tokens
POLICIES = ("csa", "naclip", "clearclip")
TOGETHER = ("sc-clip", "pearl", "resclip")  # windows of 224 pixels, 112 apart, as the policies have
DINO_PATCH = 8  # of the usual second network
TINY_DINO = {"embed_dim": 32, "depth": 2, "num_heads": 2}
TINY_SAM = {"depth": 1, "num_heads": 1, "use_rel_pos": True, "global_attn_indexes": (0,)}
PARTS = ("tokens", "queries+keys", "penultimate")  # what methods read of DINO


@cache
def encoder(quick: bool) -> DenseEncoder:
    """ViT-B/16 with random weights; quick: 12 narrow blocks."""
    torch.manual_seed(0)
    if quick:
        visual: Any = VisionTransformer(224, 16, 64, 12, 2, 4.0, output_dim=32)
    else:
        visual = open_clip.create_model("ViT-B-16-quickgelu", pretrained=None).visual
    return DenseEncoder(visual, Attention.parse("csa"))


@cache
def dino(patch: int, quick: bool) -> SecondNetwork:
    """A ViT-B of these patches with random weights."""
    from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer

    torch.manual_seed(0)
    sizes = TINY_DINO if quick else {"embed_dim": 768, "depth": 12, "num_heads": 12}
    return SecondNetwork(
        TimmVisionTransformer(img_size=224, patch_size=patch, num_classes=0, **sizes)
    )


@cache
def sam(quick: bool) -> SamTrunk:
    """SAM's image encoder with random weights."""
    from segment_anything.modeling import ImageEncoderViT

    if not quick:
        return SamTrunk(random_sam(quick).image_encoder)
    torch.manual_seed(0)
    return SamTrunk(ImageEncoderViT(embed_dim=16, **TINY_SAM))


@dataclass(frozen=True)
class Taken:
    """What the networks give of the image, and the seconds that they took for it."""

    taps: Mapping[Tap, Tensor]
    second: Mapping[str, Tensor]
    seconds: float


@dataclass(frozen=True)
class Case:
    """A method and its windows of the image."""

    method: Method
    geometry: Geometry
    windows: Tensor  # (windows, 3, h, w), without views
    quick: bool

    @classmethod
    def named(cls, name: str, quick: bool, resized: bool = True) -> Case:
        """A method by its settings for coco_object; windows 112 pixels apart at the least.

        ITACLIP's are 28 apart: 135 windows, all alike for what is measured.
        """
        size = TINY if quick else SIZE
        protocol = Protocol.named("coco_object", method=name)
        wider = max(protocol.slide_stride, 112)
        short = protocol.short_side if resized and not quick else min(size)
        protocol = protocol.replace(short_side=short, slide_stride=wider)
        method = choose(protocol).method
        if method is None:
            raise ValueError(f"{name} is an attention")
        geometry = Geometry.of(*size, protocol, encoder(quick).patch)
        pixels = torch.randn(3, *geometry.resized, generator=torch.Generator().manual_seed(0))
        return cls(method, geometry, cut_windows(pixels, geometry), quick)

    def take(self) -> Taken:
        """Run the networks."""
        ours, method = encoder(self.quick), self.method
        views = torch.cat([VIEWS[view](self.windows) for view in method.views])
        wanted = method.taps(ours.tower.layers)
        ours.taps(views[:1], wanted, method.positions)
        passes: list[Mapping[Tap, Tensor]] = []

        def encode() -> None:
            passes[:] = [ours.taps(p, wanted, method.positions) for p in views.split(BATCH)]

        taken = min(seconds_of(encode) for _ in range(2))
        second: dict[str, Tensor] = {}
        if method.second_taps:
            found, spent = second_features(self._patch, self.geometry, self.windows, self.quick)
            second, taken = {part: found[part] for part in method.second_taps}, taken + spent
        if method.reads_sam:
            found, spent = sam_features(self.quick)
            second, taken = {**second, **found}, taken + spent
        return Taken(
            {tap: torch.cat([one[tap] for one in passes]) for tap in wanted}, second, taken
        )

    def features(self, taken: Taken) -> Tensor:
        """What the method makes of that."""
        ours, method = encoder(self.quick), self.method
        words = torch.randn(WORDS, ours.width, generator=torch.Generator().manual_seed(0))
        extra = Extra(
            network=dino(self._patch, self.quick) if method.second_taps else None,
            second=taken.second,
            sam=sam(self.quick) if method.reads_sam else None,
            words=normalize(words, dim=-1),
            regions=regions(self.geometry.original) if method.reads_masks else None,
        )
        return features_of(method, ours, self.geometry, taken.taps, lambda: self.windows, extra)

    @property
    def _patch(self) -> int:
        return self.method.second_patch or DINO_PATCH


_second: dict[Any, tuple[dict[str, Tensor], float]] = {}


def second_features(
    patch: int, geometry: Geometry, windows: Tensor, quick: bool
) -> tuple[dict[str, Tensor], float]:
    """All that methods read of DINO, in one pass, and its seconds; run once for equal windows."""
    key = patch, geometry.tops, geometry.lefts, tuple(windows.shape), quick
    if key not in _second:
        network = dino(patch, quick)
        found: dict[str, Tensor] = {}

        def encode() -> None:
            passes = [network.taps(network.prepare(one), PARTS) for one in windows.split(1)]
            found.update({part: torch.cat([one[part] for one in passes]) for part in PARTS})

        _second[key] = found, seconds_of(encode)
    return _second[key]


@cache
def sam_features(quick: bool) -> tuple[dict[str, Tensor], float]:
    """What the last block of SAM's encoder reads, and the seconds of the blocks before it."""
    image = draw_scene(evaluation_rng(0), *(TINY if quick else SIZE)).image
    found: dict[str, Tensor] = {}
    taken = seconds_of(lambda: found.update(sam=sam(quick).input(image)))
    return found, taken


def regions(size: tuple[int, int]) -> Tensor:
    """An id map (H, W) of 48 masks, one of them what no mask covers."""
    rows, columns = (
        torch.arange(side) * parts // side for side, parts in zip(size, (6, 8), strict=True)
    )
    return rows[:, None] * 8 + columns


def share_row(name: str, quick: bool) -> Row:
    """A method from what is kept of the networks, as a share of its full run."""
    case = Case.named(name, quick)
    taken = case.take()
    case.features(taken)
    alone = statistics.median(
        seconds_of(lambda: case.features(taken)) for _ in range(1 if quick else REPEATS)
    )
    share = alone / (taken.seconds + alone)
    return Row(
        name=f"{name} from taps, {case.geometry.num_windows} windows of {case.geometry.frame[1]}",
        goal="≤ 1/8 of its full run",
        measured=f"1/{1 / share:.1f}: {written(alone)}, the networks {written(taken.seconds)}",
        ratio=share,
        met=share <= SHARE,
        detail={"seconds": alone, "networks": taken.seconds},
    )


def share_rows(quick: bool) -> Iterator[Row]:
    """Every method."""
    return (share_row(name, quick) for name in BUILT_IN)


def memory_rows(quick: bool) -> Iterator[Row]:
    """Peaks of the methods whose matrix is of the tokens of the whole image."""
    for name in OF_IMAGE:
        case = Case.named(name, quick, resized=False)
        taken = case.take()
        extra = peak_extra_mb(partial(case.features, taken))
        yield Row(
            name=f"{name}, peak memory beyond taps, {SIZE[0]}×{SIZE[1]}",
            goal="≤ 1 GB",
            measured=megabytes(extra),
            met=extra <= MEMORY_GOAL_MB,
            detail={"extra_mb": extra},
        )


def pass_rows(quick: bool) -> Iterator[Row]:
    """Six methods of one geometry, one pass: from pixels to features, against one."""
    ours = encoder(quick)
    cases = [Case.named(name, quick) for name in TOGETHER]
    attentions = [Attention.parse(name) for name in POLICIES]
    windows, grid = cases[0].windows, cases[0].geometry.tokens

    def encode(several: Sequence[Case], policies: Sequence[Attention]) -> None:
        wanted = union([[ours.trunk_tap], *(c.method.taps(ours.tower.layers) for c in several)])
        passes = [ours.taps(part, wanted) for part in windows.split(BATCH)]
        taps = {tap: torch.cat([one[tap] for one in passes]) for tap in wanted}
        ours.features_from(taps[ours.trunk_tap], grid, policies)
        for case in several:
            case.features(Taken(taps, {}, 0))

    functions: dict[str, Callable[[], object]] = {
        "one": partial(encode, [], attentions[:1]),
        "six": partial(encode, cases, attentions),
    }
    for function in functions.values():
        function()
    taken = alternate(functions, 1 if quick else REPEATS)
    ratio = taken["six"] / taken["one"]
    yield Row(
        name=f"{', '.join((*POLICIES, *TOGETHER))} in one pass, {len(windows)} windows",
        goal=f"≤ {PASS_GOAL:g}× the time of csa",
        measured=f"{written(taken['six'])}, csa {written(taken['one'])}",
        ratio=ratio,
        met=ratio <= PASS_GOAL,
        detail={"seconds": taken},
    )


ROWS: Registry = {
    "methods": share_rows,
    "methods-pass": pass_rows,
    "methods-memory": memory_rows,
}
