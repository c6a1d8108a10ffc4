"""The tables of a run, built from its areas and confusions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from sclip_core.evaluation import Areas, Confusion, Scores

LONGEST_NAME = 40  # characters of the dataset's name in the id of a run, which names files


def run_name(dataset: str, key: str) -> str:
    """A name for files, of the dataset and the key; never that of a hidden file or a flag."""
    letters = dataset[:LONGEST_NAME]
    name = "".join(c if c.isalnum() or c in "_-" else "_" for c in letters).strip("_-")
    return f"{name or 'run'}-{key[:12]}"


def image_table(run_id: str, by_image: Mapping[str, Areas]) -> pa.Table:
    """The table ``image_areas``: a row for each class that an image has or was given."""
    present = {image_id: np.flatnonzero(areas.union) for image_id, areas in by_image.items()}
    ids = np.repeat(list(present), [len(classes) for classes in present.values()])
    columns = {
        name: np.concatenate([getattr(by_image[i], name)[present[i]] for i in present])
        for name in Areas._fields
    }
    return pa.table(
        {
            "run_id": pa.repeat(run_id, len(ids)),
            "image_id": pa.array(ids.tolist(), pa.string()),
            "class_id": pa.array(np.concatenate(list(present.values())), pa.int32()),
            **columns,
        }
    )


def confusion_table(
    run_id: str, class_names: Sequence[str], confused: Iterable[Confusion]
) -> pa.Table:
    """The table ``confusion``: pixels over the dataset for each pair of label and prediction.

    The prediction is null for pixels that were given no class.
    """
    names = [*class_names, None]  # None: NO_PREDICTION, which is -1
    label, prediction, pixels = np.concatenate([np.stack(each) for each in confused], axis=1)
    width = len(names)
    codes, places = np.unique(label * width + prediction % width, return_inverse=True)
    total = np.zeros(len(codes), np.int64)
    np.add.at(total, places, pixels)
    labels, predictions = np.divmod(codes, width)
    return pa.table(
        {
            "run_id": pa.repeat(run_id, len(total)),
            "label_id": pa.array(labels, pa.int32()),
            "label_name": pa.array([names[i] for i in labels], pa.string()),
            "prediction_id": pa.array(predictions, pa.int32(), mask=predictions == width - 1),
            "prediction_name": pa.array([names[i] for i in predictions], pa.string()),
            "pixels": total,
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
        }
    )
