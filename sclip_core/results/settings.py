"""In what runs differ: the settings in the rows of ``runs``, compared and put into words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sclip_core.config import printable
from sclip_core.config.methods import ingredient_class, ingredients_of
from sclip_core.results.derived import OF_IMAGES, OF_RUNS

Row = dict[str, Any]
PREDICTIONS = "predictions"  # the mode of label maps that another tool made
OF_TOOL = "another tool"  # which needs nobody knows what

# Columns of ``runs`` that are not settings; what remains may set a run apart from the others.
NO_SETTINGS = {
    "run_id", "created_at", "dataset", "mode", "weights_sha256", "sam_sha256", "num_images",
    "num_failed", "num_samples", "miou", "macc", "aacc", "versions", "vocabulary",
    "proxy_sha256", "sam_encoder_sha256", "ingredients",
    "schema_version", "data_root", "images", "labels", "sam_checkpoint",
    "masks", "words_sha256", "words_separator", *OF_RUNS, *OF_IMAGES,
    "name", "predictions", "prediction_format", "prediction_values", "prediction_pattern",
    "prediction_palette", "missing_predictions",
}  # fmt: skip
OF_THE_DATA = ("dataset", "num_samples")  # differences only where runs are compared directly
BY_DEFAULT = {
    "num_samples": "all",
    "images_list": "all",
    "split": "val",
    "distractors": "none",
}  # what no value means; for other settings ``-``
UNDER_NAMES = {  # digests that tell runs apart where the names of what they are of do not
    "weights_sha256": ("model", "pretrained"),
    "words_sha256": ("dataset", "classes", "vocabulary", "distractors"),
}
ALWAYS_READ = {
    *OF_THE_DATA,
    "classes",
    "distractors",
    "ground_truth",
    "split",
    "images_list",
}  # no value is a value


def differing_settings(runs: Iterable[Row], together: bool = False) -> list[str]:
    """Names of the settings that differ among the runs on some dataset; ``mode`` comes first.

    A setting that only one of two modes reads is not a difference of its own. Where a run is by a
    method, ``method`` stands for the attentions of the others too. ``ingredients`` is among the
    names where there are several classes of methods.

    Args:
        runs: rows of the table ``runs``.
        together: compare the runs with each other whatever their datasets; the names of what they
            were measured on then come first.
    """
    runs = list(runs)
    by_dataset: dict[str, list[Row]] = {}
    for run in runs:
        by_dataset.setdefault("" if together else run["dataset"], []).append(run)
    names = dict.fromkeys(name for group in by_dataset.values() for run in group for name in run)
    settings = [
        name
        for name in names
        if name not in NO_SETTINGS and not name.startswith(("seconds_", "state_", "key_"))
    ]
    by_method = any(run.get("method") or run.get("name") for run in runs)
    settings = [name for name in settings if name not in ("method", "attention")]
    first = ("mode", "method" if by_method else "attention", "ingredients")
    found = []
    for name in (*(OF_THE_DATA if together else ()), *first, *settings):
        unread = set() if name in ALWAYS_READ else {"-"}
        values = [{setting(run, name) for run in group} - unread for group in by_dataset.values()]
        if any(len(each) > 1 for each in values):
            found.append(name)
    for digest, under in UNDER_NAMES.items():
        if any(_differ(group, digest, under) for group in by_dataset.values()):
            found.append(digest)
    return found


def _differ(runs: Iterable[Row], digest: str, names: Iterable[str]) -> bool:
    """Whether two runs have different contents, by their digests, under the same names."""
    digests: dict[tuple[str, ...], set[str]] = {}
    for run in runs:
        named = tuple(setting(run, name) for name in names)
        digests.setdefault(named, set()).add(setting(run, digest))
    return any(len(found - {"-"}) > 1 for found in digests.values())


def setting(run: Row, name: str) -> str:
    """A setting as it is shown; ``-``: the run does not read it."""
    computed = {"mode": described_mode, "method": method_name, "ingredients": ingredients}
    value = computed[name](run) if name in computed else run.get(name)
    if name == "pamr_dilations" and not run.get("pamr_steps"):
        value = None
    if value is None:
        return BY_DEFAULT.get(name, "-")
    if name in UNDER_NAMES:
        return str(value)[:8]
    return f"{value:g}" if isinstance(value, float) else printable(str(value))


def method_name(run: Row) -> str | None:
    """The method of a run, or the attention of the last block; None: it has no dense labels.

    Of predictions, the name that they were given.
    """
    name: str | None = run.get("name") or run.get("method") or run.get("attention")
    return name


def is_of_tool(run: Mapping[str, Any]) -> bool:
    """Whether the label maps of a row of ``runs`` were made by another tool."""
    return run.get("mode") == PREDICTIONS


def ingredients(run: Row) -> str:
    """What a run needs beside CLIP, as a class of methods: ``CLIP alone``, ``+ DINO``, ..."""
    if is_of_tool(run):
        return OF_TOOL
    if known := run.get("ingredients"):
        return str(known)
    masks = ["masks"] if run.get("mode", "dense") != "dense" else []
    return ingredient_class([*ingredients_of(run.get("method")), *masks])


def described_mode(run: Row) -> str:
    """``dense``, ``hybrid vote, sam vit_b``, ``baseline, slic``, ``predictions``."""
    if run["mode"] in ("dense", PREDICTIONS):
        return str(run["mode"])
    source = f"sam {run['sam_model']}" if run["proposals"] == "sam" else run["proposals"]
    rule = f" {run['hybrid_rule']}" if run["mode"] == "hybrid" else ""
    return f"{run['mode']}{rule}, {source}"
