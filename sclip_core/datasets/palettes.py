"""Lists of colours: which class each colour of an RGB label map stands for."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sclip_core.config import UserError
from sclip_core.config.counts import number_of
from sclip_core.config.errors import few, shown
from sclip_core.config.json_file import read_json
from sclip_core.config.places import Place
from sclip_core.datasets.causes import counted_values

NONE = -1  # class of a colour that is not evaluated
STRAY = -2  # class of a colour that the list lacks
BUILT_IN = "voc"
VOC_COLOURS = 256
VOC_CLASSES = 21
VOC_VOID = 0xE0E0C0  # the border of VOC's objects, index 255
# Names that lists of colours have for what is not evaluated.
VOID = {"void", "ignore", "ignored", "unlabeled", "unlabelled", "unknown", "dont care", "undefined"}
SEVERAL = 5  # unknown colours up to which they may have been left out of a list
MANY = 256  # colours of one label map from which on they are no classes
NUMBER = r"(\d{1,3})"
RGB = re.compile(rf"(?<![\w.]){NUMBER}\s*[,;\s]\s*{NUMBER}\s*[,;\s]\s*{NUMBER}(?![\w.])")
HEX = re.compile(r"#([0-9a-fA-F]{6})\b")
EXPECTED = "expected a line for each class, such as 'sky:128,128,128' or '128 128 128 sky'"
BESIDE = ("labelmap.txt", "class_dict.csv", "label_colors.txt")  # as tools export them


class Colour(NamedTuple):
    """A line of a list of colours."""

    code: int  # 0xRRGGBB
    name: str | None


@dataclass(frozen=True)
class Palette:
    """Which class each colour stands for.

    Attributes:
        codes: the colours, 0xRRGGBB, in ascending order.
        classes: the class of each, or `NONE`.
    """

    codes: tuple[int, ...]
    classes: tuple[int, ...]

    def classes_of(self, colours: NDArray[np.int32]) -> NDArray[np.int32]:
        """The classes (H, W) of colours (H, W); `NONE` or, of one that is not listed, `STRAY`."""
        codes = np.array(self.codes, np.int32)
        places = np.searchsorted(codes, colours).clip(max=len(codes) - 1)
        found: NDArray[np.int32] = np.array(self.classes, np.int32)[places]
        found[codes[places] != colours] = STRAY
        return found


def plain(name: str) -> str:
    """A name as it is compared: ``traffic light`` for ``__Traffic_light``."""
    return " ".join(re.sub(r"[_\W]+", " ", name.replace("'", "")).casefold().split())


def is_void(name: str | None) -> bool:
    """Whether a name says that what it names is not evaluated."""
    return name is not None and plain(name) in VOID


def read_colours(path: Path) -> list[Colour]:
    """Read a list of colours.

    Args:
        path: CVAT's ``labelmap.txt`` (``name:r,g,b::``), ``class_dict.csv`` (``name,r,g,b``),
            CamVid's ``label_colors.txt`` (``r g b name``), lines of colours alone, ``#rrggbb``, or
            JSON with a list of objects with name and color; or ``voc``.

    Raises:
        UserError: it cannot be read, lists no colour, or one twice.
    """
    if str(path) == BUILT_IN:
        codes = [*voc_colours()[:-1], VOC_VOID]
        return [Colour(code, "void" if code == VOC_VOID else None) for code in codes]
    if path.suffix.lower() == ".json":
        found = _of_json(read_json(path, "list of colours"), path)
    else:
        found = _of_text(path)
    if not found:
        raise UserError(f"{path} lists no colour: {EXPECTED}")
    seen: dict[int, str | None] = {}
    for code, name in found:
        if code in seen and seen[code] != name:
            raise UserError(
                f"{path} gives {written(code)} to both {shown(seen[code])} and {shown(name)}: "
                "each colour can stand for one class"
            )
        seen[code] = name
    return [Colour(code, name) for code, name in seen.items()]


def names_of(colours: Sequence[Colour]) -> list[str] | None:
    """The classes that a list names, each once, in its order; None: it names none."""
    names = [name for _, name in colours if name is not None and not is_void(name)]
    return list(dict.fromkeys(names)) or None


def palette_of(
    colours: Sequence[Colour],
    class_names: Sequence[str],
    words: Sequence[Sequence[str]],
    path: Path,
) -> Palette:
    """Give each colour its class: by name, or in the order of the list where it has no names.

    Args:
        colours: the list.
        class_names: the names (C,) of the classes.
        words: the words of each class; a name may be any of them.
        path: of the list, for the errors.

    Raises:
        UserError: a name has no class, a class no colour, or the numbers differ.
    """
    by_name = {plain(word): k for k, each in reversed(list(enumerate(words))) for word in each}
    by_name |= {plain(name): k for k, name in enumerate(class_names)}
    named = any(name is not None and not is_void(name) for _, name in colours)
    table: dict[int, int] = {}
    if named:
        lacking = [
            name
            for _, name in colours
            if name is not None and plain(name) not in by_name and not is_void(name)
        ]
        if lacking:
            raise UserError(
                f"{path} has colours of {few(lacking)}, which --classes does not have: give each "
                "a line there, or write void in its place if it is not to be evaluated"
            )
        for code, name in colours:
            table[code] = by_name.get(plain(name), NONE) if name is not None else NONE
        absent = [n for k, n in enumerate(class_names) if k not in table.values()]
        if absent:
            raise UserError(f"{path} has no colour of {few(absent)}: {EXPECTED}")
    else:
        of_classes = [code for code, name in colours if not is_void(name)]
        if len(of_classes) < len(class_names) or (
            len(of_classes) > len(class_names) and str(path) != BUILT_IN
        ):
            raise UserError(
                f"{path} lists {len(of_classes):,} colours without names, and there are "
                f"{len(class_names):,} classes: expected one for each, in their order"
            )
        table = dict(zip(of_classes, range(len(class_names)), strict=False))
        table |= {code: NONE for code, name in colours if is_void(name)}
    return Palette(tuple(sorted(table)), tuple(table[code] for code in sorted(table)))


def unknown_colours(found: NDArray[np.int32], image_size: int, name: str, path: Path) -> str:
    """The error for pixels whose colours a list lacks, with the likely cause.

    Args:
        found: the colours of those pixels.
        image_size: pixels of the whole label map.
        name: of the label map.
        path: of the list.
    """
    codes, counts = np.unique(found, return_counts=True)
    largest = np.argsort(-counts, kind="stable")
    told = counted_values([written(int(c)) for c in codes[largest]], counts[largest].tolist())
    edges = found.size < image_size / 3 or found.size / len(codes) < image_size / 64
    if len(codes) > MANY or (len(codes) > SEVERAL and edges):
        advice = (
            "so many colours, and few pixels of each, come of edges smoothed by a resize, "
            "anti-aliasing or JPEG: export the label maps again, without"
        )
    elif all(code >> 16 == code >> 8 & 255 == code & 255 < len(codes) + 64 for code in codes):
        advice = "they are grey: if the label maps hold class ids already, leave --palette out"
    else:
        advice = f"add them to {path}, as 'void:r,g,b' if they are not to be evaluated"
    pixels = number_of(int(found.size), "pixel", "have")
    return f"{name}: {pixels} a colour that {path} lacks: {told}; {advice}"


def colour_advice(colours: NDArray[np.int32], label: Place) -> str:
    """What to do about a label map in colours where no list of them was given.

    Args:
        colours: (H, W), 0xRRGGBB.
        label: the file.
    """
    codes, counts = np.unique(colours, return_counts=True)
    if len(codes) > MANY:
        return (
            f"it has {len(codes):,} colours: a photograph, or classes whose edges a resize, "
            "anti-aliasing or JPEG has smoothed"
        )
    for folder in list(label.parents)[:3] if isinstance(label, Path) else ():
        for file in BESIDE:
            if (folder / file).is_file():
                return f"pass its list of colours: --palette {folder / file}"
    told = few([f"({written(int(code))})" for code in codes[np.argsort(-counts, kind="stable")]], 4)
    advice = (
        f"its {len(codes)} colours, {told}, may stand for classes: pass --palette FILE with a line "
        "'name:r,g,b' for each (CVAT's labelmap.txt, class_dict.csv)"
    )
    if set(codes.tolist()) <= {*voc_colours()[:VOC_CLASSES], VOC_VOID}:
        advice += f"; if they are PASCAL VOC's, with the classes in its order, --palette {BUILT_IN}"
    return advice


def voc_colours() -> list[int]:
    """VOC's colour of each index, 0xRRGGBB: the bits of an index, spread over three channels."""
    codes = []
    for index in range(VOC_COLOURS):
        red = green = blue = 0
        for place in range(8):
            bits = index >> 3 * place
            red |= (bits & 1) << (7 - place)
            green |= (bits >> 1 & 1) << (7 - place)
            blue |= (bits >> 2 & 1) << (7 - place)
        codes.append(red << 16 | green << 8 | blue)
    return codes


def written(code: int) -> str:
    """A colour as lists of colours have it: ``128,64,128``."""
    return f"{code >> 16},{code >> 8 & 255},{code & 255}"


def _of_text(path: Path) -> list[Colour]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the list of colours {path}: {error}") from None
    lines = [line.strip() for line in text.splitlines()]
    table = _of_table(text) if lines and "," in lines[0] else None
    if table is not None:
        return table
    found: list[Colour] = []
    for number, line in enumerate(lines, 1):
        colour = _of_line(line)
        # A header, a comment or a blank line; CVAT's begin with '#', as do colours.
        if colour is None and line and not line.startswith(("#", "//")) and found:
            raise UserError(f"{path}, line {number}: no colour in {shown(line)}; {EXPECTED}")
        if colour is not None:
            found.append(colour)
    return found


def _of_table(text: str) -> list[Colour] | None:
    """The rows of a table whose header names the columns; None: it has no such header."""
    rows = csv.DictReader(io.StringIO(text.lstrip("\ufeff")), skipinitialspace=True)
    fields = {(field or "").strip().lower(): field for field in rows.fieldnames or ()}
    names = [fields.get(key) for key in ("name", "class", "label", "class_name")]
    name = next((field for field in names if field is not None), None)
    channels = next(
        (
            [fields[key] for key in keys]
            for keys in (("r", "g", "b"), ("red", "green", "blue"))
            if all(key in fields for key in keys)
        ),
        None,
    )
    if channels is None:
        return None
    found: list[Colour] = []
    for row in rows:
        values = [(row[channel] or "").strip() for channel in channels]
        colour = _code(values)
        if colour is not None:
            found.append(Colour(colour, (row[name] or "").strip() or None if name else None))
    return found


def _of_line(line: str) -> Colour | None:
    """The colour in a line of text, and what else is in it as its name."""
    found = HEX.search(line)
    if found is not None:
        code: int | None = int(found[1], 16)
    else:
        if line.startswith(("#", "//")):
            return None
        numbers = list(RGB.finditer(line))
        # four numbers and no name: the first is an index
        index = re.match(rf"\d+\s*[,;:\s]\s*(?={NUMBER}\D+{NUMBER}\D+{NUMBER}\s*$)", line)
        found = RGB.search(line, index.end()) if index else (numbers[0] if numbers else None)
        code = _code(list(found.groups())) if found else None
    if found is None or code is None:
        return None
    before, after = line[: found.start()], line[found.end() :]
    name = re.sub(r"^\d+\s*[,;:\s]\s*", "", before).strip(" \t,;:\"'[]()") or after.strip(
        " \t,;:\"'[]()"
    )
    return Colour(code, name if re.search(r"[^\W\d]", name) else None)


def _of_json(loaded: Any, path: Path) -> list[Colour]:
    """Objects with a name and a colour, in a list or below ``classes``, ``labels`` and the like."""
    keys = ("classes", "labels", "categories", "items")
    entries = loaded
    if isinstance(loaded, dict):
        entries = next((loaded[key] for key in keys if isinstance(loaded.get(key), list)), None)
        if entries is None:
            entries = [{"name": name, "color": colour} for name, colour in loaded.items()]
    if not isinstance(entries, list):
        raise UserError(f"{path}: expected a list of objects with name and color")
    found: list[Colour] = []
    for entry in entries:
        of = entry if isinstance(entry, dict) else {"color": entry}
        name = next((of[key] for key in ("readable", "name", "title") if key in of), None)
        colour = next((of[key] for key in ("color", "colour", "rgb") if key in of), None)
        listed = colour if isinstance(colour, list) else None
        one = (
            Colour(code, None)
            if listed and (code := _code(list(map(str, listed[:3])))) is not None
            else _of_line(str(colour))
        )
        if one is None:
            raise UserError(f"{path}: no colour in {shown(entry)}; expected name and color")
        found.append(Colour(one.code, str(name) if name is not None else None))
    return found


def _code(channels: Sequence[str | None]) -> int | None:
    """Red, green and blue as one number; None if they are not three of 0..255."""
    if len(channels) != 3 or not all(c and c.isascii() and c.isdigit() for c in channels):
        return None
    red, green, blue = (int(c) for c in channels if c)
    return red << 16 | green << 8 | blue if max(red, green, blue) <= 255 else None
