"""Which label map belongs to which image: by the image's name, or by a pattern of names."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from sclip_core.config import UserError
from sclip_core.config.errors import few
from sclip_core.config.places import Place
from sclip_core.store import places

TRIED = 8  # images whose label maps are looked for to learn how they are named
TOKENS = re.compile(r"\d+|[^\W\d_]+|.", re.DOTALL)  # numbers, words, and what stands between
SHOWN = 4  # patterns named in an error
USUAL = "{id}"
OTHER_MAPS = ("color", "colour", "instance", "vis", "overlay", "rgb")


class Named(NamedTuple):
    """Label maps by the id of their image, and how they were found."""

    files: dict[str, str]  # paths relative to the folder of the label maps
    pattern: str | None  # None: they have the names of the images
    said: bool = False  # whether a given pattern holds the whole names of the images


def matched(
    ids: Sequence[str],
    files: Sequence[tuple[str, str, str]],
    pattern: str | None,
    what: str = "label map",
    option: str = "--label-pattern",
) -> Named:
    """Find the label map of each image.

    Without a pattern a label map has the name of its image. If none has, they may all be named
    after their images in another way that is the same for all, such as ``a_mask.png`` for
    ``a.jpg`` or ``1_mask.png`` for ``1_sat.jpg``.

    Args:
        ids: of the images.
        files: path, path without ending, and ending of each label map; of two with one name the
            later is taken.
        pattern: with ``{id}`` for the name of the image; None: not given.
        what: what a file is, for the error.
        option: that gives the pattern, for the error.

    Raises:
        UserError: the files are named in several ways, each of which fits all images.
    """
    if pattern is not None:
        paths = {path for path, _, _ in files}
        endings = ["", *dict.fromkeys(end for _, _, end in files)]
        for core in _cores(ids):  # whole names first: parts of them only where no name fits
            found = max((_filled(pattern + end, ids, core, paths) for end in endings), key=len)
            if found:
                return Named(found, pattern, core is ids)
        return Named({}, pattern, True)
    by_stem = {plain_form(stem): path for path, stem, _ in files if not stem.isascii()}
    by_stem |= {stem: path for path, stem, _ in files}
    names = ((i, i if i in by_stem else plain_form(i)) for i in ids)
    found = {i: by_stem[name] for i, name in names if name in by_stem}
    if found or not ids:
        return Named(found, None)
    paths = {path for path, _, _ in files}
    for core in _cores(ids):
        fitting = _fitting(core, paths)
        whole = sorted((p for p, n in fitting.items() if n == len(ids)), key=_not_the_ids)
        if len(whole) > 1:
            several = few([f"{before}{core[0]}{after}" for before, after in whole], SHOWN)
            raise UserError(
                f"the {what} of {ids[0]} may be {several}: say which, "
                f"{option} '{USUAL.join(whole[0])}'"
            )
        if whole or (fitting and max(fitting.values()) > len(ids) / 2):
            best = max(fitting, key=lambda p: fitting[p])
            by_core = dict(zip(ids, core, strict=True))
            filled = {i: f"{best[0]}{by_core[i]}{best[1]}" for i in ids}
            return Named({i: n for i, n in filled.items() if n in paths}, USUAL.join(best))
    return Named({}, None)


def plain_form(name: str) -> str:
    """A name with composed letters: macOS writes the parts of an ü one by one."""
    return unicodedata.normalize("NFC", name)


def is_of_pattern(path: str, pattern: str) -> bool:
    """Whether a path, relative to its folder, is named as a pattern says; any ending fits."""
    before, _, after = pattern.partition(USUAL)
    shape = rf"{re.escape(before)}.+{re.escape(after)}"
    return re.fullmatch(shape, path) is not None or bool(
        re.fullmatch(shape, os.path.splitext(path)[0])
    )


def elsewhere(labels: Place, missing: Sequence[str], suffixes: Sequence[str]) -> str | None:
    """What lies in the place of missing label maps, if it is of a format that cannot be one."""
    for image_id in missing[:TRIED]:
        for suffix in suffixes:
            if places.exists(labels / f"{image_id}{suffix}"):
                return f"{labels / image_id}{suffix}"
    return None


def _filled(
    pattern: str, ids: Sequence[str], core: Sequence[str], paths: set[str]
) -> dict[str, str]:
    """The label maps that a pattern gives, of the images that have one."""
    names = {i: pattern.replace(USUAL, one) for i, one in zip(ids, core, strict=True)}
    return {i: name for i, name in names.items() if name in paths}


def _cores(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """What may stand for the image in the name of its label map: its id, or where ids differ."""
    yield ids
    if len(ids) < 2:
        return
    tokens = [TOKENS.findall(i) for i in ids]
    shortest = min(map(len, tokens))
    first = tokens[0]
    start = next((k for k in range(shortest) if any(t[k] != first[k] for t in tokens)), shortest)
    room = shortest - start
    end = next((k for k in range(room) if any(t[-1 - k] != first[-1 - k] for t in tokens)), room)
    # Without what all end in (`a_leftImg8bit`), without what all begin with, without both.
    for first_token, last in ((0, end), (start, 0), (start, end)):
        cores = ["".join(t[first_token : len(t) - last]) for t in tokens]
        if cores != list(ids) and all(cores) and len(set(cores)) == len(cores):
            yield cores


def _fitting(core: Sequence[str], paths: set[str]) -> Mapping[tuple[str, str], int]:
    """Ways to name label maps, as what stands before and after, and how many images each fits."""
    found: dict[tuple[str, str], int] = {}
    for one in core[:TRIED]:
        for path in paths:
            at = path.find(one)
            while at >= 0:
                around = path[:at], path[at + len(one) :]
                if around not in found and not _inside_a_number(one, *around):
                    found[around] = sum(f"{around[0]}{c}{around[1]}" in paths for c in core)
                at = path.find(one, at + 1)
    return found


def _not_the_ids(pattern: tuple[str, str]) -> tuple[bool, tuple[str, str]]:
    """Sorts the patterns of colours, pictures and instances behind those of class ids."""
    return any(word in "".join(pattern).lower() for word in OTHER_MAPS), pattern


def _inside_a_number(one: str, before: str, after: str) -> bool:
    """Whether an id is a part of a longer number: 1 in 12_mask.png."""
    return (one[:1].isdigit() and before[-1:].isdigit()) or (
        one[-1:].isdigit() and after[:1].isdigit()
    )
