"""The samples of a very large set as columns: 100 bytes each, where Python's objects take 400."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, repeat
from typing import TYPE_CHECKING, Any, overload

from sclip_core.datasets.below import files_below
from sclip_core.datasets.sample import Sample

if TYPE_CHECKING:  # imported where many files are listed: ``SCLIP`` alone needs no Arrow
    import pyarrow as pa

MANY = 50_000  # files, from which on columns are worth it
AT_ONCE = 2**14  # rows that become Python's objects


class Samples(Sequence[Sample]):
    """Samples that are made when they are asked for."""

    def __init__(self, above: tuple[str, str | None], table: pa.Table) -> None:
        """Take the columns.

        Args:
            above: what the paths of images begin with, and those of label maps; None: there are
                none.
            table: ``id``, ``image`` and ``label``, the rest of the paths.
        """
        self.labelled = above[1] is not None
        self._above, self._table = above, table

    def __len__(self) -> int:
        """How many there are."""
        return len(self._table)

    @overload
    def __getitem__(self, at: int) -> Sample: ...
    @overload
    def __getitem__(self, at: slice) -> Samples: ...
    def __getitem__(self, at: int | slice) -> Sample | Samples:
        """One, or some of them."""
        import pyarrow as pa

        places = range(len(self))[at]
        if isinstance(places, int):
            return next(self._made(self._table.slice(places, 1)))
        if places.step == 1:
            return Samples(self._above, self._table.slice(places.start, len(places)))
        return Samples(self._above, self._table.take(pa.array(places, pa.int64())))

    def __iter__(self) -> Iterator[Sample]:
        """All, in order."""
        for first in range(0, len(self), AT_ONCE):
            yield from self._made(self._table.slice(first, AT_ONCE))

    def column(self, name: str) -> Iterator[str]:
        """Of each sample its ``id``, or the file of its ``image`` or ``label``, in order."""
        before = {"image": self._above[0], "label": self._above[1] or ""}.get(name, "")
        for first in range(0, len(self), AT_ONCE):
            yield from (
                before + text for text in self._table[name].slice(first, AT_ONCE).to_pylist()
            )

    def __eq__(self, other: object) -> bool:
        """Whether the others are the same in the same order."""
        return isinstance(other, (Samples, tuple, list)) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def _made(self, rows: pa.Table) -> Iterator[Sample]:
        images, labels = self._above
        files = rows["label"].to_pylist() if labels is not None else repeat(None)
        columns = zip(rows["id"].to_pylist(), rows["image"].to_pylist(), files, strict=False)
        for image_id, image, label in columns:
            yield Sample(image_id, images + image, None if label is None else f"{labels}{label}")


def listed(folder: Any, suffixes: Sequence[str]) -> pa.Table | None:
    """The files of a folder that have such an ending, sorted by their path without it.

    Returns:
        ``path`` and ``stem``; None: two files have the same, or a name has letters that may be
        composed in several ways, or there are not so many: the general way is for these.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    blocks, rest, ends = [], files_below(folder), tuple(suffixes)
    while some := list(islice(rest, AT_ONCE)):
        paths = [path for path in some if path.lower().endswith(ends)]
        if not all(map(str.isascii, paths)):
            return None
        stems = [path[: path.rindex(".")] for path in paths]
        arrays = [pa.array(texts, pa.large_string()) for texts in (paths, stems)]
        blocks.append(pa.RecordBatch.from_arrays(arrays, names=["path", "stem"]))
    table = pa.Table.from_batches(blocks).combine_chunks() if blocks else None
    if table is None or len(table) < MANY:
        return None
    table = table.take(pc.sort_indices(table["stem"])).combine_chunks()
    stems = table["stem"].chunk(0)
    twice = pc.any(pc.equal(stems[1:], stems[:-1])).as_py()
    return None if twice else table


def paired(images: pa.Table, labels: pa.Table) -> pa.Table | None:
    """Images with the label maps that have their names; None: some have none.

    Args:
        images: ``listed``.
        labels: ``listed``.
    """
    import pyarrow.compute as pc

    files = labels["path"]
    if not labels["stem"].equals(images["stem"]):
        at = pc.index_in(images["stem"], value_set=labels["stem"].combine_chunks())
        if at.null_count:
            return None
        files = files.take(at)
    return _table(images, files)


def alone(images: pa.Table) -> pa.Table:
    """Images without label maps."""
    return _table(images, images["path"])


def _table(images: pa.Table, files: pa.ChunkedArray) -> pa.Table:
    import pyarrow as pa

    return pa.table({"id": images["stem"], "image": images["path"], "label": files})


def ids_of(samples: Sequence[Sample]) -> Iterator[str]:
    """The ids, in order."""
    if isinstance(samples, Samples):
        return samples.column("id")
    return (sample.image_id for sample in samples)


def image_files(samples: Sequence[Sample]) -> Iterator[str]:
    """The files of the images, in order."""
    if isinstance(samples, Samples):
        return samples.column("image")
    return (sample.image_file for sample in samples)


def label_files(samples: Sequence[Sample]) -> Iterator[str]:
    """The files of the label maps that there are, in order."""
    if isinstance(samples, Samples):
        return samples.column("label") if samples.labelled else iter(())
    return (sample.label_file for sample in samples if sample.label_file)


def without_labels(samples: Sequence[Sample]) -> Iterator[Sample]:
    """Those that have no label map."""
    if isinstance(samples, Samples) and samples.labelled:
        return iter(())
    return (sample for sample in samples if sample.label_file is None)


def with_labels(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Those that have a label map."""
    if isinstance(samples, Samples) and samples.labelled:
        return samples
    return [sample for sample in samples if sample.label_file is not None]
