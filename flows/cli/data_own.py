"""``sclip data check --images DIR --labels DIR --classes FILE``: a set of one's own."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from flows.cli.console import TITLE, console
from flows.cli.targets import save
from sclip_core.config import UserError, printable, resolve
from sclip_core.config.data import OWN_DATA
from sclip_core.config.errors import few
from sclip_core.config.places import Place
from sclip_core.store.files import writable_folder

if TYPE_CHECKING:
    from sclip_core.acquire import Progress
    from sclip_core.acquire.own import OwnChecked

# The settings of a run that say what its data is.
OF_CHECK = (
    *("dataset", *OWN_DATA, "vocabulary", "ignore_label", "reduce_zero_label", "num_samples"),
    *("exif", "pixel_range"),
)
SHOWN = 20  # faults, and values without a class
SIZES = 4


def check_own_data(
    given: Mapping[str, Any], pictures: Path | None, as_json: bool, progress: Progress
) -> int:
    """Check a set of one's own, print what was found, and write a few pictures.

    Args:
        given: settings of a run.
        pictures: the folder to write to; None: one named after the set.
        as_json: print JSON.
        progress: shows how far it is.

    Returns:
        The exit code: 1 if a run would leave something out.

    Raises:
        UserError: a run would refuse the set.
    """
    from sclip_core.acquire.own import check_own, pictures_of

    settings = resolve(**given)
    folder = pictures or Path(f"{settings.dataset}-check")
    _refuse_within(folder, settings.images, settings.labels)
    found = check_own(settings, progress=progress)
    if as_json:
        print(json.dumps(_as_json(found), indent=2))
    else:
        _print(found)
    drawn = list(pictures_of(found, settings))
    if drawn:
        folder.mkdir(parents=True, exist_ok=True)
        writable_folder(folder, "--pictures")
        for image_id, picture in drawn:
            save(picture, folder / f"{image_id.replace('/', '_')}.png")
        if not as_json:
            print(printable(f"look at the {len(drawn)} pictures in {folder}"))
    if found.causes:
        raise UserError(f"{found.dataset.name}: {'; '.join(found.causes)}")
    return 1 if found.faults else 0


def _refuse_within(folder: Path, *read: Place | None) -> None:
    """Raise if the pictures would be found as images or label maps by the next run."""
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise UserError(f"--pictures {folder} is a file: expected a folder, which need not exist")
    real = Path(os.path.realpath(folder))
    for other in read:
        if not isinstance(other, Path):
            continue
        if real.is_relative_to(os.path.realpath(other)):
            raise UserError(
                f"--pictures {folder} is inside {other}: pictures there would be taken for data; "
                "pass another folder"
            )


def _print(found: OwnChecked) -> None:
    """Print what was found, for a person."""
    dataset, total = found.dataset, max(found.seen.pixels, 1)
    print(printable(f"{dataset.name}: {found.images:,} images, {found.labels:,} label maps"))
    sizes = [f"{w}x{h} ({count:,})" for (w, h), count in found.sizes.most_common(SIZES)]
    more = f" and {len(found.sizes) - SIZES:,} more sizes" if len(found.sizes) > SIZES else ""
    print(f"  sizes           {', '.join(sizes)}{more}")
    print(f"  sound           {found.sound:,}")
    from sclip_core.acquire.own import NO_CLASS, NOT_EVALUATED

    by_meaning = {m: 0 for m in (NO_CLASS, NOT_EVALUATED)}
    table = Table("value", "class", "pixels", "%", title="values of the label maps", **TITLE)
    for column in table.columns[2:]:
        column.justify = "right"
    strays = 0
    for value, meaning, pixels in found.values:
        by_meaning[meaning] = by_meaning.get(meaning, 0) + pixels
        strays += meaning == NO_CLASS
        if meaning != NO_CLASS or strays <= SHOWN:
            table.add_row(value, meaning, f"{pixels:,}", f"{pixels / total:.2%}".rstrip("%"))
    print(f"  not evaluated   {by_meaning[NOT_EVALUATED] / total:.1%} of the pixels")
    if by_meaning[NO_CLASS]:
        without = f"{by_meaning[NO_CLASS] / total:.1%} of the pixels"
        print(f"  without class   {without}, values: {strays:,}")
    for what, names in (
        ("never labelled", found.absent),
        ("no label map", found.unlabelled),
        ("no image", found.alone),
    ):
        if names:
            print(printable(f"  {what:<16}{len(names):,}: {few(names, 8)}"))
    console().print(table)
    for note in found.notes:
        print(printable(f"note: {note}"))
    for fault in found.faults[:SHOWN]:
        print(printable(f"{fault.file}: {fault.what}"))
    if len(found.faults) > SHOWN:
        print(f"and {len(found.faults) - SHOWN:,} more faults (--json lists all)")


def _as_json(found: OwnChecked) -> dict[str, Any]:
    """What was found, as JSON values."""
    names = found.dataset.vocabulary.class_names
    return {
        "name": found.dataset.name,
        "images": found.images,
        "labels": found.labels,
        "sound": found.sound,
        "sizes": {f"{w}x{h}": count for (w, h), count in found.sizes.most_common()},
        "values": [value._asdict() for value in found.values],
        "pixels": dict(zip(names, found.seen.classes.tolist(), strict=True)),
        "never_labelled": found.absent,
        "images_without_label_map": found.unlabelled,
        "label_maps_without_image": found.alone,
        "notes": found.notes,
        "faults": [fault._asdict() for fault in found.faults],
        "causes": found.causes,
    }
