"""A run as a dataset of Hugging Face's: Parquet, a card, and the settings of the run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from sclip_core.config.optional import optional
from sclip_core.datasets.images import read_sample
from sclip_core.evaluation.scores import mean_defined, percent
from sclip_core.exports.places import check_folder, whole_folder
from sclip_core.exports.png import as_values, value_table
from sclip_core.exports.stored import Segmented, StoredRun

EXTRA = "hub"
AT_ONCE = 64  # rows that are held in memory, and of a row group
TASK = "image-segmentation"
SHOWN = (  # settings in the card, where the run has them
    *("dataset", "split", "model", "pretrained", "method", "attention", "parameters", "mode"),
    *("hybrid_rule", "proposals", "short_side", "slide_crop", "slide_stride", "pamr_steps"),
    *("pamr_dilations", "logit_scale", "prob_thd", "area_thd", "templates", "weights_sha256"),
)


def features_of(run: StoredRun, with_images: bool = False) -> Any:
    """The ``datasets.Features`` of a run.

    Args:
        run: a stored one.
        with_images: whether there is a column of the images themselves.

    Raises:
        UserError: datasets is not installed.
    """
    hf = optional("datasets", EXTRA)
    classes = [hf.ClassLabel(names=list(run.class_names))]
    columns = {
        "image_id": hf.Value("string"),
        **({"image": hf.Image()} if with_images else {}),
        "labels": hf.Image(),
        "classes": classes,
        "miou": hf.Value("float64"),
        "aacc": hf.Value("float64"),
    }
    return hf.Features(columns)


def rows_of(
    run: StoredRun,
    with_images: bool = False,
    each: Callable[[Segmented], object] = lambda image: None,
) -> Iterator[dict[str, Any]]:
    """The rows of a run: id, label map and scores of each image.

    Args:
        run: a stored one.
        with_images: whether the bytes of each image's file are in its row.
        each: is called with each image.

    Yields:
        ``labels``: a PNG with the values 0 to C-1, and 255 (of 16 bits 65535) where a pixel has no
        class; ``classes``: those that are in it; ``miou`` and ``aacc`` of the image in percent,
        None where nothing was evaluated.
    """
    table, free = value_table(run.source.dataset, len(run.class_names), "classes")
    scores = _scores(run)
    for image in run:
        png = BytesIO()
        Image.fromarray(as_values(image.labels, table, free)).save(png, "PNG", compress_level=4)
        name = f"{image.image_id}.png"
        row: dict[str, Any] = {"image_id": image.image_id}
        if with_images:
            row["image"] = {"bytes": read_sample(image.file), "path": image.name}
        miou, aacc = scores[image.image_id]
        yield row | {
            "labels": {"bytes": png.getvalue(), "path": name},
            "classes": [int(k) for k in np.unique(image.labels) if k >= 0],
            "miou": miou,
            "aacc": aacc,
        }
        each(image)


def _scores(run: StoredRun) -> dict[str, tuple[float | None, float | None]]:
    """The mIoU and the share of right pixels of each image, in percent."""
    ids, found = list(run.image_ids), {}
    sparse = run.areas.of(pa.array(ids, pa.string()), len(run.class_names))
    for start in range(0, len(ids), AT_ONCE):
        part = ids[start : start + AT_ONCE]
        areas = sparse.dense(start, start + len(part))
        miou = mean_defined(percent(areas.intersect, areas.union))
        aacc = percent(areas.intersect.sum(axis=1), areas.label.sum(axis=1))
        for i, one, other in zip(part, miou.tolist(), aacc.tolist(), strict=True):
            found[i] = (one if one == one else None, other if other == other else None)
    return found


def to_dataset(run: StoredRun, with_images: bool = False) -> Any:
    """A ``datasets.Dataset`` of a run, in memory; its ``push_to_hub`` publishes it.

    Args:
        run: a stored one.
        with_images: whether there is a column of the images themselves.

    Raises:
        UserError: datasets is not installed, or the run's label maps are gone.
    """
    features = features_of(run, with_images)
    rows = list(rows_of(run, with_images))
    return optional("datasets", EXTRA).Dataset.from_list(rows, features=features)


def write_dataset(
    run: StoredRun,
    folder: Path,
    with_images: bool = False,
    each: Callable[[Segmented], object] = lambda image: None,
) -> None:
    """Write a folder that ``datasets.load_dataset`` opens, without holding the run in memory.

    Args:
        run: a stored one.
        folder: new or empty; gets ``data/results.parquet``, ``README.md`` and ``run.json``.
        with_images: whether there is a column of the images themselves.
        each: is called with each image that was written.

    Raises:
        UserError: the folder has files, datasets is not installed, or label maps are gone.
    """
    check_folder(folder)
    schema = features_of(run, with_images).arrow_schema
    with whole_folder(folder) as place:
        (place / "data").mkdir()
        rows = rows_of(run, with_images, each)
        with pq.ParquetWriter(place / "data" / "results.parquet", schema) as file:
            while batch := list(islice(rows, AT_ONCE)):
                file.write_table(pa.Table.from_pylist(batch, schema=schema))
        about = {"run": run.row, "class_names": run.class_names, "made_with": run.provenance}
        text = json.dumps(about, ensure_ascii=False, indent=1, default=str)
        (place / "run.json").write_text(text + "\n", "utf-8")
        (place / "README.md").write_text(card(run), "utf-8")


def card(run: StoredRun) -> str:
    """The dataset card: what the run is, its scores, settings and classes, in Markdown."""
    hub = optional("huggingface_hub", EXTRA)
    data = hub.DatasetCardData(
        pretty_name=f"Label maps of {run.run_id}",
        task_categories=[TASK],
        tags=["open-vocabulary-segmentation", "sclip-benchmark"],
        configs=[
            {"config_name": "default", "data_files": [{"split": "test", "path": "data/*.parquet"}]}
        ],
    )
    row = run.row
    scores = [_two(row[name]) for name in ("miou", "macc", "aacc")]
    lines = [
        f"# {run.run_id}",
        "",
        f"Label maps of {len(run):,} images of {row['dataset']}, by sclip-benchmark. `labels` has "
        "the values 0 to C-1, in the order of the classes below, and 255 (in 16 bits 65535) "
        "where a pixel has no class. `miou` and `aacc` are of single images, in percent.",
        "",
        "| mIoU | mAcc | aAcc | images |",
        "|---|---|---|---|",
        "| " + " | ".join([*scores, str(row["num_images"])]) + " |",
        "",
        "| setting | value |",
        "|---|---|",
        *(f"| {name} | {_cell(row[name])} |" for name in SHOWN if row.get(name) is not None),
        "",
        "All settings, versions and keys are in `run.json`.",
        "",
        *(f"{k}. {_cell(name)}" for k, name in enumerate(run.class_names)),
    ]
    return f"---\n{data.to_yaml()}\n---\n\n" + "\n".join(lines) + "\n"


def _two(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.2f}"


def _cell(value: object) -> str:
    """A value in a table of Markdown, without a tag of HTML."""
    text = str(value).replace("&", "&amp;").replace("<", "&lt;")
    return text.replace("|", "\\|").replace("\n", " ")
