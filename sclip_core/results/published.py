"""Published figures, and whether a run can be compared with them.

The figures are in ``published.csv`` with their sources. All are mIoU in percent on the whole
validation split; those of methods that this project implements name their settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import csv

from sclip_core.config import Protocol, tables
from sclip_core.config.protocol import benchmark_protocol, is_benchmark

OPENAI = "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"  # of its ViT-B-16.pt
THEIR_MODELS = ("ViT-B-16", "ViT-B-16-quickgelu")
OF_PROTOCOL = (  # settings that a benchmark fixes and that change labels
    "short_side",
    "slide_crop",
    "slide_stride",
    "prob_thd",
    "area_thd",
    "reduce_zero_label",
)
THEIR_STEPS = {"pamr_steps": 10, "pamr_dilations": "8,16"}  # for runs with PAMR


@cache
def published() -> pa.Table:
    """Published figures: a row for each method and dataset.

    Returns:
        ``method``, ``dataset``, ``miou`` in percent, ``attention`` and ``pamr_steps`` (null for
        methods that this project does not implement) and ``source``.
    """
    file = resources.files("sclip_core.results").joinpath("published.csv")
    options = csv.ConvertOptions(strings_can_be_null=True)
    with file.open("rb") as opened:
        return csv.read_csv(opened, convert_options=options)


class Beside(NamedTuple):
    """The published figure of a run's method."""

    method: str | None  # None: no such figure
    miou: float | None  # percent
    caveats: tuple[str, ...]  # why the two cannot be compared; empty: they can

    def remarks(self) -> list[str]:
        """The figure and the caveats as text, where there are any."""
        remarks = []
        if self.miou is not None:
            remarks.append(f"published for {self.method}: {self.miou:.2f}")
        if self.caveats:
            remarks.append(f"not comparable with published figures: {'; '.join(self.caveats)}")
        return remarks


def beside(run: Mapping[str, Any]) -> Beside:
    """The figure to compare a run with; takes a row of the table ``runs``."""
    rows = published().to_pylist()
    if run["dataset"] not in {row["dataset"] for row in rows}:
        return Beside(None, None, (f"no published figures for {run['dataset']}",))
    steps = THEIR_STEPS["pamr_steps"] if run["pamr_steps"] else 0
    own = run["attention"], steps
    alike = [
        row
        for row in rows
        if (row["attention"], row["pamr_steps"]) == own
        and row["dataset"] == run["dataset"]
        and run["mode"] == "dense"
    ]
    caveats = tuple(_caveats(run))
    if not alike:
        return Beside(None, None, caveats)
    return Beside(alike[-1]["method"], alike[-1]["miou"], caveats)


def _caveats(run: Mapping[str, Any]) -> list[str]:
    """How a run on a benchmark differs from the published ones."""
    expected = tables()["benchmarks"][run["dataset"]]["num_images"]
    found = [
        _weights(run),
        _images(run["num_images"], expected),
        f"{run['num_failed']} images left out" if run["num_failed"] else None,
        "label maps made from instances" if run.get("ground_truth") == "instances" else None,
        _ignored(run.get("ignore_label")),
        "words of your own" if run.get("classes") else None,
        f"masks ({run['mode']})" if run["mode"] != "dense" else None,
        "the image tower in bf16" if run["dtype"] == "bf16" else None,
        None if run.get("templates") in (None, "openai") else f"templates {run['templates']}",
        *_settings(run),
    ]
    return [each for each in found if each]


def _weights(run: Mapping[str, Any]) -> str | None:
    """Names the weights unless they are OpenAI's ViT-B/16."""
    model, tag = run["model"], run["pretrained"]
    if model == "sclip-demo":
        return "a toy CLIP"
    if model in THEIR_MODELS and (tag == "openai" or run["weights_sha256"] == OPENAI):
        return None
    if "." in tag:  # a file's name
        return f"weights of an unknown file ({tag}), which may be random"
    return f"{model} {tag}, not OpenAI's ViT-B/16"


def _ignored(values: str | None) -> str | None:
    return None if values in (None, "255") else f"label values {values} are not evaluated"


def _images(found: int, expected: int) -> str | None:
    if found == expected:
        return None
    return f"{found:,} of {expected:,} images" if found < expected else f"{found:,} images"


def _settings(run: Mapping[str, Any]) -> list[str]:
    """Settings that differ from the benchmark's and change labels."""
    assert is_benchmark(run["dataset"])
    theirs = {**Protocol().model_dump(include={*OF_PROTOCOL, "logit_scale"})}
    theirs |= {k: v for k, v in benchmark_protocol(run["dataset"]).items() if k in theirs}
    if not run["prob_thd"]:
        del theirs["logit_scale"]  # without a threshold the best class is the same
    if run["pamr_steps"]:
        theirs |= THEIR_STEPS
    different = {k: v for k, v in theirs.items() if run.get(k) is not None and run[k] != v}
    return [f"{name} {_plain(run[name])} (theirs: {_plain(v)})" for name, v in different.items()]


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
