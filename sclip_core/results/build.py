"""The tables of a run, built from its areas and confusions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from sclip_core.evaluation import Areas, Confusion, Scores, SparseAreas
from sclip_core.evaluation.areas import NO_PREDICTION

LONGEST_NAME = 40  # characters of the dataset's name in the id of a run, which names files
ROWS_AT_ONCE = 1 << 20  # of ``image_areas``


def run_name(dataset: str, key: str) -> str:
    """A name for files, of the dataset and the key; never that of a hidden file or a flag."""
    letters = dataset[:LONGEST_NAME]
    name = "".join(c if c.isalnum() or c in "_-" else "_" for c in letters).strip("_-")
    return f"{name or 'run'}-{key[:12]}"


def image_tables(run_id: str, ids: Sequence[str], areas: SparseAreas) -> Iterator[pa.Table]:
    """The table ``image_areas`` in parts: a row for each class that an image has or was given.

    Args:
        run_id: of the run.
        ids: N, of the images.
        areas: of these.
    """
    for low in range(0, max(1, len(areas.image)), ROWS_AT_ONCE):
        part = slice(low, low + ROWS_AT_ONCE)
        image = areas.image[part]
        first, last = (int(image[0]), int(image[-1])) if len(image) else (0, -1)
        names = pa.array(ids[first : last + 1], pa.string())
        yield pa.table(
            {
                "run_id": pa.repeat(run_id, len(image)),
                "image_id": names.take(pa.array(image - first)),
                "class_id": pa.array(areas.class_id[part], pa.int32()),
                **{
                    name: pa.array(area[part], pa.int64())
                    for name, area in zip(Areas._fields, areas.areas, strict=True)
                },
            }
        )


def confusion_table(run_id: str, class_names: Sequence[str], confused: Confusion) -> pa.Table:
    """The table ``confusion``: pixels over the dataset for each pair of label and prediction.

    The prediction is null for pixels that were given no class.
    """
    names = [*class_names, None]  # None: NO_PREDICTION, which is -1
    labels, predictions, pixels = confused
    return pa.table(
        {
            "run_id": pa.repeat(run_id, len(pixels)),
            "label_id": pa.array(labels, pa.int32()),
            "label_name": pa.array([names[i] for i in labels], pa.string()),
            "prediction_id": pa.array(
                predictions % len(names), pa.int32(), mask=predictions == NO_PREDICTION
            ),
            "prediction_name": pa.array([names[i] for i in predictions], pa.string()),
            "pixels": pixels,
        }
    )


def class_table(run_id: str, class_names: Sequence[str], summed: Areas, scored: Scores) -> pa.Table:
    """The table ``class_iou``: areas and scores of every class; an undefined score is null."""
    return pa.table(
        {
            "run_id": pa.repeat(run_id, len(class_names)),
            "class_id": pa.array(range(len(class_names)), pa.int32()),
            "class_name": list(class_names),
            "intersect": summed.intersect,
            "union": summed.union,
            "prediction": summed.prediction,
            "label": summed.label,
            "iou": pa.array(scored.iou, from_pandas=True),  # NaN: null
            "acc": pa.array(scored.acc, from_pandas=True),
            "precision": pa.array(scored.precision, from_pandas=True),
            "dice": pa.array(scored.dice, from_pandas=True),
        }
    )
