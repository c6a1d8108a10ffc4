"""What the headers of a set's images say that a user should know before a run, a line each."""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from sclip_core.config import ImageError, Protocol, UserError
from sclip_core.config.counts import number_of
from sclip_core.config.errors import few
from sclip_core.config.geometry import LONG_SIDE, window_starts
from sclip_core.config.places import ObjectPath, Place
from sclip_core.datasets.headers import SIDEWAYS, UPRIGHT, Header, read_header
from sclip_core.datasets.images import Reading, read_bytes, read_image
from sclip_core.datasets.sample import Sample

THREADS = 8
MOST_HEADERS = 50_000  # that are looked at
MOST_OBJECTS, OBJECT_THREADS = 64, 16
AT_ONCE = 64  # headers a task: to hand a task over takes longer than to read one
LOOK_AT = 16  # deep images that are decoded
MOST_SHRUNK = 4  # times that a picture is made smaller without a word
TURNS = {
    2: "mirrored",
    3: "by 180°",
    4: "mirrored upside down",
    5: "mirrored and by 90°",
    6: "by 90° clockwise",
    7: "mirrored and by 90°",
    8: "by 90° anticlockwise",
}
Headers = dict[Place, Header]


def spread(samples: Sequence[Sample]) -> Sequence[Sample]:
    """The samples whose headers are looked at: all, or of very many some, evenly spread.

    Of objects fewer, as each is read whole.
    """
    remote = bool(samples) and isinstance(samples[0].image, ObjectPath)
    return samples[:: -(-len(samples) // (MOST_OBJECTS if remote else MOST_HEADERS)) or 1]


def survey(
    paths: Iterable[Place],
    reading: Reading,
    protocol: Protocol,
    scored: bool = False,
    sizes_tell: Callable[[], bool] = lambda: True,
    labels: Mapping[Place, Place | None] | None = None,
) -> list[str]:
    """Look at the headers of all images; those that cannot be read are named elsewhere.

    Args:
        paths: of the images.
        reading: whether EXIF orientation is applied, and the range of deep images.
        protocol: how far images are made smaller.
        scored: whether there is ground truth, which may not be turned as the images are.
        sizes_tell: whether it has a size that must be its image's; asked where EXIF turns any.
        labels: label maps by image, which may have a tag of their own.

    Returns:
        A line for each thing that is not as usual.

    Raises:
        UserError: all images have more than 8 bits, and none that was looked at can be used.
    """
    headers = headers_of(paths)
    found = [
        dark_note(headers, reading),
        turned_note(headers, reading, sizes_tell, labels or {}) if scored else None,
        _of(headers, lambda h: h.xmp != UPRIGHT, XMP) if scored else None,
        *_channels(headers, reading),
        _of(headers, lambda h: h.several, FRAMES),
        tiled_note(headers, protocol) if protocol.tile else shrunk_note(headers, protocol),
    ]
    return [line for line in found if line is not None]


def headers_of(paths: Iterable[Place]) -> Headers:
    """The headers that can be read, by file; little of each file is read, objects whole."""
    listed = list(dict.fromkeys(paths))
    remote = any(isinstance(path, ObjectPath) for path in listed)
    at_once = 1 if remote else AT_ONCE
    parts = [listed[start : start + at_once] for start in range(0, len(listed), at_once)]
    threads = OBJECT_THREADS if remote else THREADS
    with ThreadPoolExecutor(threads, thread_name_prefix="sclip-headers") as pool:
        read = pool.map(lambda part: [(path, _header(path)) for path in part], parts)
        return {path: header for part in read for path, header in part if header is not None}


def _header(path: Place) -> Header | None:
    try:
        if isinstance(path, ObjectPath):
            return read_header(read_bytes(path))
        if not path.is_file():  # a pipe would block
            return None
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return read_header(data)
    except (OSError, ValueError, ImageError):  # such as a file without bytes
        return None


XMP = (
    "{name} an orientation in XMP alone, which is not applied: {few}; if label maps are "
    "drawn on the turned image, write the orientation into EXIF, or save the images upright"
)
FRAMES = "{hold} several frames or pages, of which the first is taken: {few}"
ALPHA = "{have} an alpha channel, which is dropped, also where it is transparent: {few}"
BANDS = (
    "{have} more than three bands, of which the first three are taken as red, green and blue: {few}"
)
UNNAMED = (
    "{have} bands that the file does not call colours, of which the first three are taken as "
    "red, green and blue: {few}"
)


def _of(headers: Headers, holds: Callable[[Header], bool], line: str) -> str | None:
    """A line on the images of which something holds; None: of none."""
    files = [path for path, header in headers.items() if holds(header)]
    verbs = {verb: number_of(len(files), "image", verb) for verb in ("have", "hold", "name")}
    return line.format(**verbs, few=few(files)) if files else None


def _channels(headers: Headers, reading: Reading) -> Iterable[str | None]:
    """Lines on channels that are dropped, and on values that do not fit in 8 bits."""

    def fourth(header: Header) -> bool:
        return header.kind == "TIFF" and header.bands > 3 and not header.inks and not header.alpha

    yield _of(headers, lambda h: h.alpha, ALPHA)
    yield _of(headers, lambda h: fourth(h) and h.coloured, BANDS)
    yield _of(headers, lambda h: h.kind == "TIFF" and not h.coloured, UNNAMED)
    given = reading.pixel_range
    shown = f"{given[0]:g} to {given[1]:g}" if given else "the whole range of their type"
    advice = "" if given else "; another one is chosen by --pixel-range LOW,HIGH"
    deep = "{have} more than 8 bits a channel, of which " + shown + " becomes black to white"
    yield _of(headers, lambda h: h.deep, deep + advice + ": {few}")


def dark_note(headers: Headers, reading: Reading) -> str | None:
    """What is said of deep images that are refused, of which a few are decoded.

    Raises:
        UserError: as ``survey``.
    """
    deep = [path for path, header in headers.items() if header.deep]
    looked_at = deep[:: -(-len(deep) // LOOK_AT) or 1]
    faults = []
    for path in looked_at:
        try:
            read_image(path, reading)
        except ImageError as error:
            faults.append(str(error))
    if not faults:
        return None
    if len(deep) == len(headers) and len(faults) == len(looked_at):
        raise UserError(f"no image that was looked at can be used, such as {faults[0]}")
    number = f"{len(faults)} of {len(looked_at)} images with more than 8 bits that were looked at"
    return f"{number} will be left out, such as {faults[0]}"


def turned_note(
    headers: Headers,
    reading: Reading,
    sizes_tell: Callable[[], bool],
    labels: Mapping[Place, Place | None],
) -> str | None:
    """What is said of images that EXIF turns without a size that would tell it.

    Args:
        headers: by file.
        reading: whether the turn is applied.
        sizes_tell: whether a label map of another size than its image is found anyway.
        labels: label maps by image, which may have a tag of their own.
    """
    turned = {path: h for path, h in headers.items() if h.orientation != UPRIGHT}
    if reading.exif == "ignore":
        if not turned:
            return "--exif ignore changes nothing: no image has an EXIF orientation"
        number = number_of(len(turned), "image", "stay")
        return f"--exif ignore: {number} as stored ({_kinds(turned)}): {_few(turned)}"
    fractions = bool(turned) and not sizes_tell()
    silent = {
        path: header
        for path, header in turned.items()
        if fractions or header.orientation not in SIDEWAYS or _is_square(header)
    }
    maps = headers_of(path for image in silent if (path := labels.get(image)) is not None)
    tagged = {path for path, header in maps.items() if header.orientation != UPRIGHT}
    both = {path: header for path, header in silent.items() if labels.get(path) in tagged}
    if both and len(both) == len(silent):
        return (
            f"EXIF turns {number_of(len(both), 'image')} and their label maps alike: {_few(both)}"
        )
    silent = {path: header for path, header in silent.items() if path not in both}
    if not silent:
        return None
    return (
        f"EXIF turns {number_of(len(silent), 'image')} ({_kinds(silent)}): {_few(silent)}; "
        "their label maps are not turned, and no size tells on which image they were drawn: if on "
        "the pixels as they are stored, the score is wrong and needs --exif ignore"
    )


def _is_square(header: Header) -> bool:
    return header.size[0] == header.size[1]


def _kinds(headers: Headers) -> str:
    counts = Counter(TURNS[header.orientation] for header in headers.values())
    return ", ".join(f"{number:,} {kind}" for kind, number in counts.most_common())


def _few(headers: Headers) -> str:
    return few(list(headers))


def shrunk_note(headers: Headers, protocol: Protocol) -> str | None:
    """What is said of pictures that the resize makes much smaller."""
    factors = {path: _shrunk(header.size, protocol) for path, header in headers.items()}
    much = {path: factor for path, factor in factors.items() if factor > MOST_SHRUNK}
    if not much:
        return None
    worst = max(much, key=lambda path: much[path])
    height, width = headers[worst].shown
    number = f" and {len(much) - 1:,} others are much smaller, too" if len(much) > 1 else ""
    return (
        f"the short side of {worst} is {min(height, width):,} pixels and is resized to "
        f"{min(height, width) / much[worst]:.0f}, {much[worst]:.0f} times smaller{number}: small "
        "things vanish; --tile segments at the picture's own resolution, and --short-side sets "
        "another size"
    )


def _shrunk(size: Sequence[int], protocol: Protocol) -> float:
    if min(size) < 1:
        return 1.0
    return 1 / min(LONG_SIDE / max(size), protocol.short_side / min(size))


def tiled_note(headers: Headers, protocol: Protocol) -> str | None:
    """How many windows pictures take at their own resolution."""
    counts = {path: _windows(header.size, protocol) for path, header in headers.items()}
    if not counts:
        return None
    worst = max(counts, key=lambda path: counts[path])
    height, width = headers[worst].shown
    return (
        f"--tile: {number_of(len(counts), 'image')} without a resize, in all "
        f"{sum(counts.values()):,} windows of {protocol.slide_crop} pixels, up to "
        f"{counts[worst]:,} an image ({worst}, {width:,}x{height:,}); "
        "a longer --slide-stride needs fewer"
    )


def _windows(size: Sequence[int], protocol: Protocol) -> int:
    crop, stride = protocol.slide_crop, protocol.slide_stride
    down, across = (len(window_starts(side, crop, stride)) for side in size)
    return down * across
