"""What wrong label maps of a benchmark most likely are, judged by their values."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

from sclip_core.config import tables

IGNORE_LABEL = 255  # value of pixels that are not evaluated, in the benchmarks' label maps
SHOWN = 5  # values named in an error
VOID_VALUES = {255, 65535, 65534, 2**31 - 1}  # by which sets mark what is not labelled
PER_CLASS = 1000  # ids of a class's objects in Cityscapes' instance maps and other panoptic ones
IN_TWO_BYTES = 256  # the same in Mapillary's
FEW = 4  # classes; of more, one that a map lacks and a value past the last are no renumbering
MANY = 24  # values of one map from which on they may be shades


def likely_cause(values: Collection[int], layout: str | None) -> str | None:
    """Why label maps have values without a class; None if it is not a known mistake.

    Args:
        values: the values found in the label maps.
        layout: the layout of the benchmark; None for the user's own images.

    >>> likely_cause({0, 20, 181, 255}, "coco_stuff")
    'ids up to 181: these are raw stuff maps, run `sclip data prepare coco_stuff`'
    """
    highest = max((value for value in values if value != IGNORE_LABEL), default=0)
    for mistake in tables()["layouts"].get(layout or "", {}).get("mistakes", ()):
        lowest, last = mistake["highest"]
        if lowest <= highest <= last:
            return str(mistake["means"])
    return None


def suspicion(layout: str, values: Collection[int]) -> str | None:
    """What is odd about label maps whose values all have a meaning; None if nothing is.

    Args:
        layout: the layout of the benchmark.
        values: the values found in the label maps.
    """
    meaning = tables()["layouts"][layout].get("odd_255")
    return f"value 255 occurs: {meaning}" if meaning and IGNORE_LABEL in values else None


def counted_values(values: Sequence[object], pixels: Sequence[int]) -> str:
    """Values of a label map and how many pixels have them, as an error names them.

    >>> counted_values([171, 180], [1024, 3])
    '171 (1,024 px), 180 (3 px)'
    """
    pairs = list(zip(values, pixels, strict=True))[:SHOWN]
    more = f" and {len(values) - SHOWN} more values" if len(values) > SHOWN else ""
    return ", ".join(f"{value} ({count:,} px)" for value, count in pairs) + more


def listed(values: Collection[int]) -> str:
    """Values as a flag takes them."""
    return ",".join(map(str, values))


def own_cause(
    found: Mapping[int, int],
    num_classes: int,
    reduce_zero_label: bool = False,
    ignore_label: tuple[int, ...] = (IGNORE_LABEL,),
) -> str:
    """What values beyond the classes most likely are in a user's own label maps, and what to do.

    Values that look like classes are never advised to be ignored: that would hide them.

    Args:
        found: all values of the label maps, with their pixels.
        num_classes: classes of the vocabulary.
        reduce_zero_label: value k means class k-1.
        ignore_label: values that are not evaluated.

    >>> own_cause({0: 90, 7: 5, 1007: 5}, 19).split(":")[0]
    "1007 is most likely 1000 x class + instance, as in Cityscapes' and other panoptic maps"
    """
    end = num_classes + reduce_zero_label
    stray = sorted(v for v in found if not 0 <= v < end and v not in ignore_label)
    ids = [value for value in stray if value not in VOID_VALUES and value >= 0]
    distinct = sorted(value for value in found if value >= 0)
    void = f"if they mean 'not labelled', pass --ignore-label {listed([*ignore_label, *stray])}"
    in_order = _in_order(distinct, num_classes, reduce_zero_label, ignore_label)
    if stray[0] < -(1 << 16):
        ids.append(1 << 32)  # of 32 bits without a sign
    if not ids:
        return f"{in_order}; {void}" if in_order else void
    packed = _packed(ids, num_classes)
    if packed and not (in_order and _evenly_spaced(distinct)):
        return packed
    shades = shades_cause(found)
    if shades:
        return shades
    just_past = ids == [end] and len(ids) == len(stray)
    if in_order and not (just_past and num_classes >= FEW):
        return in_order
    if just_past:
        void = f"if {end} means 'not labelled', pass --ignore-label {listed([*ignore_label, end])}"
        if reduce_zero_label:
            return f"give its class a line in the classes; or, {void}"
        return (
            f"if 0 means 'none' and 1 is the first class, pass --reduce-zero-label; {void}; if it "
            "is a class, give it a line in the classes"
        )
    return (
        f"they look like classes that the vocabulary lacks: give each value up to {ids[-1]} a line "
        "in the classes, or pass --label-values with the value of each class"
    )


def shades_cause(found: Mapping[int, int]) -> str | None:
    """What is said of values that are most likely shades; None: they are not.

    Args:
        found: all values of a label map, with their pixels.
    """
    if not _shades(found):
        return None
    return (
        f"{sum(value >= 0 for value in found)} different values, most of them between those of "
        "many pixels: a photograph, a map of probabilities, or classes whose edges a resize, "
        "anti-aliasing or JPEG has smoothed; export the label maps again, without"
    )


def _in_order(
    distinct: Sequence[int], num_classes: int, reduce_zero_label: bool, ignore_label: Sequence[int]
) -> str | None:
    """What is said of as many values as there are classes; None: there are more or fewer."""
    for values in (distinct, [value for value in distinct if value not in ignore_label]):
        if list(values) == list(range(num_classes)):  # what is beyond them is another matter
            continue
        if len(values) == num_classes > 1 and not reduce_zero_label and values[0] != 1:
            return (
                "as many values as classes: if they stand for the classes in this order, pass "
                f"--label-values {listed(values)}"
            )
    return None


def _evenly_spaced(values: Sequence[int]) -> bool:
    """Whether values are spread from 0 on, as an editor shows classes: 0, 128, 255."""
    gaps = [high - low for low, high in pairwise(values)]
    return values[0] == 0 and max(gaps) - min(gaps) <= 1


def _packed(ids: Sequence[int], num_classes: int) -> str | None:
    """What is said of ids that hold a class and an instance; None: they do not look like that."""
    if ids[-1] > 1 << 31:
        return (
            "they are ids of segments in 32 bits, as panoptic maps have them, not classes: give "
            "label maps of classes"
        )
    large = [value for value in ids if value >= IN_TWO_BYTES] or ids
    such = f"{large[0]} is" if len(large) == 1 else f"values such as {listed(large[:3])} are"
    once = "give label maps of classes, with value // {0}"
    if large[0] >= PER_CLASS and large[-1] < PER_CLASS * IN_TWO_BYTES:
        return (
            f"{such} most likely {PER_CLASS} x class + instance, as in Cityscapes' and other "
            f"panoptic maps: {once.format(PER_CLASS)}"
        )
    if ids[0] >= IN_TWO_BYTES and all(value // IN_TWO_BYTES < num_classes for value in ids):
        return (
            f"{such} most likely {IN_TWO_BYTES} x class + instance, as in Mapillary's maps: "
            f"{once.format(IN_TWO_BYTES)}"
        )
    if ids[-1] >= 1 << 16:
        return (
            f"{such} ids of segments, as panoptic maps have them, not classes: give label maps of "
            "classes, or COCO's panoptic JSON as --labels"
        )
    return None


def _shades(found: Mapping[int, int]) -> bool:
    """Whether values are most likely shades: many of 8 bits, with few pixels each."""
    if len(found) < MANY or max(found) > IGNORE_LABEL:
        return False
    pixels = sorted(found.values())
    few = sum(pixels[: len(pixels) // 2])
    return len(found) > IGNORE_LABEL * 3 / 4 or few < sum(pixels) / 20
