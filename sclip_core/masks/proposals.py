"""Mask proposals of one image, in COCO's run-length encoding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sclip_core.config.optional import optional

MEASURED = 50  # masks at a time: under NumPy 2, pycocotools 2.0.11 refuses to measure 256


def coco() -> Any:
    """The module ``pycocotools.mask``.

    Raises:
        UserError: pycocotools is not installed.
    """
    return optional("pycocotools.mask", "sam", " or 'sclip-benchmark[superpixels]'")


class Region(NamedTuple):
    """One mask, cut to its box and transposed: COCO's encoding goes column by column."""

    columns: slice
    rows: slice
    inside: NDArray[np.bool_]  # (columns, rows)


@dataclass(frozen=True)
class Proposals:
    """M masks of an image; they may overlap, and need not cover it."""

    size: tuple[int, int]  # (H, W) of the image
    counts: tuple[bytes, ...]  # M compressed run lengths, as pycocotools writes them
    boxes: NDArray[np.int64]  # (M, 4) x, y, width, height, as SAM counts: last pixel minus first
    areas: NDArray[np.int64]  # (M,) pixels
    predicted_iou: NDArray[np.float64]  # (M,) by SAM; NaN of other sources
    stability_score: NDArray[np.float64]  # (M,) likewise
    points: NDArray[np.float64]  # (M, 2) x, y of the prompt, likewise
    crop_boxes: NDArray[np.int64]  # (M, 4) like boxes: the crop that the mask was found in

    def __repr__(self) -> str:
        """One line: how many masks, of an image of which size."""
        return f"Proposals({len(self)} masks, {self.size[0]}×{self.size[1]})"

    def __len__(self) -> int:
        """The number of masks, M."""
        return len(self.counts)

    @classmethod
    def of_masks(cls, masks: NDArray[np.bool_], **known: Any) -> Proposals:
        """Encode masks.

        Args:
            masks: (M, W, H) bool, each transposed.
            known: fields that the source knows, other than ``size``.
        """
        _, width, height = masks.shape
        return cls.of_runs(runs_of(masks), (height, width), **known)

    @classmethod
    def of_runs(cls, counts: Sequence[bytes], size: tuple[int, int], **known: Any) -> Proposals:
        """Take encoded masks; boxes and areas that are not known are measured, the rest is NaN.

        Args:
            counts: compressed run lengths.
            size: (H, W).
            known: fields that the source knows.
        """
        number = len(counts)
        measured = {} if {"boxes", "areas"} <= known.keys() else _measured(counts, size)
        measured |= {
            "predicted_iou": np.full(number, np.nan),
            "stability_score": np.full(number, np.nan),
            "points": np.full((number, 2), np.nan),
            "crop_boxes": np.tile(np.array([0, 0, size[1], size[0]]), (number, 1)),
        }
        return cls(size, tuple(counts), **{**measured, **known})

    def chosen(self, which: NDArray[Any]) -> Proposals:
        """Some of the masks.

        Args:
            which: their indices, in the order wanted, or (M,) bool.
        """
        numbers = np.arange(len(self))[which]
        arrays = {f.name: getattr(self, f.name)[numbers] for f in fields(self)[2:]}
        return Proposals(self.size, tuple(self.counts[n] for n in numbers), **arrays)

    @classmethod
    def joined(cls, parts: Iterable[Proposals], size: tuple[int, int]) -> Proposals:
        """The masks of several proposals of one image of ``size`` (H, W), in order."""
        parts = [cls.of_runs([], size), *parts]
        arrays = {
            f.name: np.concatenate([getattr(part, f.name) for part in parts])
            for f in fields(cls)[2:]
        }
        return cls(size, tuple(c for part in parts for c in part.counts), **arrays)

    def id_map(self, in_order: bool = False) -> NDArray[np.int64]:
        """The masks as an id map (H, W), 0 where there is none.

        Where masks overlap the smaller one is on top; of those of one size the earlier.

        Args:
            in_order: number the masks as they come; else by ascending area.
        """
        order = sorted(range(len(self)), key=lambda number: (-self.areas[number], -number))
        turned = np.zeros(self.size[::-1], np.int64)
        for place, region in enumerate(self.regions(order)):
            id_ = order[place] + 1 if in_order else len(order) - place
            np.copyto(turned[region.columns, region.rows], id_, where=region.inside)
        return np.ascontiguousarray(turned.T)

    def masks(self) -> NDArray[np.bool_]:
        """All masks, decoded: (M, H, W) bool."""
        if not len(self):
            return np.zeros((0, *self.size), np.bool_)
        rles = [{"size": list(self.size), "counts": one} for one in self.counts]
        decoded: NDArray[np.bool_] = coco().decode(rles).transpose(2, 0, 1).view(np.bool_)
        return decoded

    def regions(self, order: Sequence[int] | None = None) -> Iterator[Region]:
        """Decode masks one by one, each within its box.

        Args:
            order: indices of masks; None: all.
        """
        for number in range(len(self)) if order is None else order:
            x, y, width, height = (int(value) for value in self.boxes[number])
            columns, rows = slice(x, x + width + 1), slice(y, y + height + 1)
            yield Region(columns, rows, self._within(number, columns)[:, rows])

    def _within(self, number: int, columns: slice) -> NDArray[np.bool_]:
        """A mask in some columns, which must hold all of it: (columns, H)."""
        height = self.size[0]
        runs = run_lengths(self.counts[number])
        runs = runs[: len(runs) // 2 * 2]  # without what follows the last pixel
        inside = np.zeros((columns.stop - columns.start) * height, np.bool_)
        if len(runs):
            runs[0] -= columns.start * height
            pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
            inside[: len(pixels)] = pixels
        return inside.reshape(-1, height)


def runs_of(masks: NDArray[np.bool_]) -> list[bytes]:
    """Compressed run lengths of masks (M, W, H), each transposed."""
    if not len(masks):
        return []
    turned = np.ascontiguousarray(masks).view(np.uint8)
    return [rle["counts"] for rle in coco().encode(turned.transpose(2, 1, 0))]


def _measured(counts: Sequence[bytes], size: tuple[int, int]) -> dict[str, NDArray[Any]]:
    """Boxes (M, 4) and areas (M,) of masks."""
    boxes = np.zeros((len(counts), 4), np.int64)
    areas = np.zeros(len(counts), np.int64)
    for start in range(0, len(counts), MEASURED):
        some = counts[start : start + MEASURED]
        rles = [{"size": list(size), "counts": one} for one in some]
        boxes[start : start + len(some)] = coco().toBbox(rles)
        areas[start : start + len(some)] = coco().area(rles)
    boxes[:, 2:] -= boxes[:, 2:] > 0
    return {"boxes": boxes, "areas": areas}


def run_lengths(counts: bytes) -> NDArray[np.int64]:
    """Decompress the lengths of a mask's runs, column by column; the first one is outside of it.

    COCO's compression: signed numbers in groups of five bits, from the fourth on differences to the
    one before the last. pycocotools has no function for it and decodes whole images; decoding a
    mask within its box takes a seventh of that time.
    """
    codes = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    last = np.flatnonzero(codes & 32 == 0)  # of each number
    first = np.concatenate([[0], last[:-1] + 1])
    length = last - first + 1
    place = np.arange(len(codes)) - np.repeat(first, length)
    runs = np.add.reduceat((codes & 31) << 5 * place, first)
    runs -= (codes[last] & 16 != 0) * (1 << 5 * length)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def outlined(proposals: Proposals) -> NDArray[np.bool_]:
    """The outermost pixels of all masks: (H, W) bool."""
    turned = np.zeros(proposals.size[::-1], np.bool_)
    for columns, rows, inside in proposals.regions():
        framed = np.pad(inside, 1)
        core = framed[2:, 1:-1] & framed[:-2, 1:-1] & framed[1:-1, 2:] & framed[1:-1, :-2]
        turned[columns, rows] |= inside & ~core
    return np.ascontiguousarray(turned.T)
