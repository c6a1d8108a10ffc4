"""The conversions from raw annotations to label maps, by layout."""

from __future__ import annotations

from sclip_core.acquire.cityscapes import cityscapes_jobs
from sclip_core.acquire.coco import object_jobs, stuff_jobs
from sclip_core.acquire.context import context_jobs, context_split_is_there, write_context_split
from sclip_core.acquire.conversion import Conversion
from sclip_core.acquire.sources import source_of
from sclip_core.config import UserError, unknown

# By layout. COCO-Object's two definitions differ, so none is chosen because it happens to be there.
CONVERSIONS: dict[str, Conversion] = {
    "coco_stuff": Conversion(("stuff",), stuff_jobs),
    "coco_object": Conversion(("stuff", "instances"), object_jobs),
    "cityscapes": Conversion(("labelIds", "polygons"), cityscapes_jobs, choose_what_is_there=True),
    "voc2010": Conversion(
        ("trainval_merged",),
        context_jobs,
        check=context_split_is_there,
        finish=write_context_split,
    ),
}


def checked_source(name: str, source: str | None) -> str | None:
    """The source that a user chose for a benchmark's label maps, in its usual spelling.

    Args:
        name: the benchmark.
        source: as the user wrote it; None: no choice was made.

    Raises:
        UserError: the benchmark's maps have one source only, or none of this name.
    """
    if source is None:
        return None
    conversion = CONVERSIONS.get(source_of(name).layout)
    if conversion is None:
        raise UserError(f"{name}: its label maps have one source, leave --source out")
    known = {one.lower(): one for one in conversion.sources}
    if source.lower() not in known:
        raise unknown("source", source, conversion.sources)
    return known[source.lower()]
