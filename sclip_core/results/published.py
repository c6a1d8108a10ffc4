"""Published figures, and whether a run can be compared with them.

The figures are in ``published.csv`` with their sources. All are mIoU in percent on the whole
validation split; those of methods that this project implements name their settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import csv

from sclip_core.config import Protocol, tables
from sclip_core.config.methods import method_table, template_set
from sclip_core.config.protocol import benchmark_protocol, is_benchmark
from sclip_core.results.settings import is_of_tool

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
OF_METHOD = ("pamr_steps", "parameters", "refiner", "after", "window_multiple", "image_multiple")
SAM2 = "masks by {source} (theirs: SAM 2)"
ONE_WORD = "published with one word for each class but the background"
REMARKS = {  # what the published figures have that is not here, whatever the settings
    "gem": ["not of GEM's own code, which has no protocol for benchmarks"],
    "itaclip": ["without ITACLIP's auxiliary texts and its longer vocabularies"],
    "trident": ["without SAM's refinement of the labels"],
    "corrclip": [SAM2],
    "ov-stitcher": [SAM2, "without its sentences for classes"],
}
SYNONYMS = {"voc21", "voc20", "coco_object"}  # whose classes have several words here
WITHOUT_SYNONYMS = {"proxyclip", "trident", "corrclip", "ov-stitcher"}
SECOND = {  # timm's names of the second networks that methods are published with
    "dino_vitb8": "vit_base_patch8_224.dino",
    "dino_vitb16": "vit_base_patch16_224.dino",
}
BY_ANOTHER = "label maps made by another tool, by a protocol that is not known"


@cache
def published() -> pa.Table:
    """Published figures: a row for each method and dataset.

    Returns:
        ``method``, ``dataset``, ``miou`` in percent; of what this project implements ``attention``
        and ``pamr_steps``, or ``key``, the name of the method; and ``source``.
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
    if is_of_tool(run):
        return _beside_of_tool(run, rows)
    steps = THEIR_STEPS["pamr_steps"] if run["pamr_steps"] else 0
    method = run.get("method")
    own = (None, None, method) if method else (run["attention"], steps, None)
    alike = [
        row
        for row in rows
        if (row["attention"], row["pamr_steps"], row["key"]) == own
        and row["dataset"] == run["dataset"]
        and run["mode"] == "dense"
    ]
    caveats = tuple(_caveats(run))
    if not alike:
        return Beside(None, None, caveats)
    return Beside(alike[-1]["method"], alike[-1]["miou"], caveats)


def _beside_of_tool(run: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Beside:
    """The figure of the method that predictions are named after; how they were made is unknown."""
    alike = [
        row
        for row in rows
        if row["dataset"] == run["dataset"] and _letters(row["method"]) == _letters(run["name"])
    ]
    caveats = (BY_ANOTHER, *(each for each in _of_data(run) if each))
    if not alike:
        return Beside(None, None, caveats)
    return Beside(alike[-1]["method"], alike[-1]["miou"], caveats)


def _letters(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


def _of_data(run: Mapping[str, Any]) -> list[str | None]:
    """How the images and the ground truth of a run differ from the published ones."""
    expected = tables()["benchmarks"][run["dataset"]]["num_images"]
    return [
        _images(run["num_images"], expected),
        f"split {run['split']}" if run.get("split") not in (None, "val") else None,
        f"images of {run['images_list']}" if run.get("images_list") else None,
        f"{run['num_failed']} images left out" if run["num_failed"] else None,
        "label maps made from instances" if run.get("ground_truth") == "instances" else None,
        _ignored(run.get("ignore_label")),
    ]


def _caveats(run: Mapping[str, Any]) -> list[str]:
    """How a run on a benchmark differs from the published ones."""
    templates = template_set(run.get("method")) or "openai"
    found = [
        _weights(run),
        *_of_data(run),
        "words of your own" if run.get("classes") else None,
        f"masks ({run['mode']})" if run["mode"] != "dense" else None,
        "the image tower in bf16" if run["dtype"] == "bf16" else None,
        None if run.get("templates") in (None, templates) else f"templates {run['templates']}",
        *_settings(run),
        *_of_method(run),
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
    method = run.get("method")
    read = {*OF_PROTOCOL, "logit_scale", *(OF_METHOD if method else ())}
    theirs = Protocol().model_dump(include=read)
    own = benchmark_protocol(run["dataset"], method)
    theirs |= {k: v for k, v in own.items() if k in theirs}
    if not run["prob_thd"]:
        del theirs["logit_scale"]  # without a threshold the best class is the same
    if run["pamr_steps"]:
        theirs |= THEIR_STEPS
    if method:
        theirs["pamr_steps"] = own.get("pamr_steps", 0)
        usual = Protocol().model_dump(mode="json", include={*OF_METHOD})
        run = {**run, **{k: _plain(v) for k, v in usual.items() if run.get(k) is None}}
    return [
        f"{name} {_plain(run[name])} (theirs: {_plain(v)})"
        for name, v in theirs.items()
        if run.get(name) is not None and _plain(run[name]) != _plain(v)
    ]


def _of_method(run: Mapping[str, Any]) -> list[str]:
    """How what a method reads beside CLIP differs, and what it lacks here."""
    method, model = run.get("method"), run.get("proxy_model")
    found = []
    second = method_table().get(method or "", {}).get("second")
    if model is not None and model not in (second, SECOND.get(str(second))):
        found.append(f"second network {model} (theirs: {second})")
    if file := run.get("proxy_weights"):
        found.append(f"the second network's weights of an unknown file ({file})")
    source = {"sam": f"SAM {run.get('sam_model')}", "files": "files"}
    named = source.get(str(run.get("proposals")), run.get("proposals"))
    found += [remark.format(source=named) for remark in REMARKS.get(method or "", ())]
    synonyms = run["dataset"] in SYNONYMS and not run.get("classes")
    return [*found, ONE_WORD] if method in WITHOUT_SYNONYMS and synonyms else found


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "none"
    if value == "":
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
