"""What the page is told at its start: collections, methods, limits."""

from __future__ import annotations

from typing import Any

from sclip_core.config import Settings, UserError
from sclip_core.config.methods import (
    ATTENTIONS,
    ingredient_class,
    ingredients_of,
    method_table,
    reads_masks,
)
from sclip_core.explore.gallery import Collection, RunRow
from sclip_core.explore.view import VIEWED, View, method_of, settings_of
from sclip_core.explore.words import text_of
from sclip_core.methods.registry import check_cls, choose
from sclip_core.pipeline.models import Models

TITLES = {"csa": "SCLIP", "vanilla": "CLIP", "maskclip": "MaskCLIP", "clearclip": "ClearCLIP",
          "naclip": "NACLIP", "kk": "Keys attend to keys"}  # fmt: skip


def collection_about(collection: Collection) -> dict[str, Any]:
    """A collection, its defaults and its runs."""
    settings = collection.settings
    return {
        "id": collection.id,
        "title": collection.title,
        "images": len(collection),
        "model": f"{_short(settings.model)} {_short(settings.pretrained)}",
        "has_truth": collection.has_truth,
        "encodes": collection.writable,
        "words": text_of(collection.vocabulary) if collection.vocabulary else "",
        "defaults": values_of(settings),
        "runs": [_run_about(row) for row in collection.runs],
    }


def values_of(settings: Settings) -> dict[str, Any]:
    """The fields of a view as settings have them, but for words."""
    values = {name: getattr(settings, name) for name in VIEWED}
    values["pamr_dilations"] = ",".join(map(str, settings.pamr_dilations))
    return {"method": method_of(settings), **values}


def methods_about(collections: list[Collection]) -> list[dict[str, Any]]:
    """The attentions and methods, and why some cannot be used here; nothing is fetched."""
    names = [*TITLES, *sorted(ATTENTIONS - TITLES.keys()), *method_table()]
    return [
        {
            "name": name,
            "title": TITLES.get(name) or method_table().get(name, {}).get("title", name),
            "group": "attention" if name in ATTENTIONS else "method",
            "needs": ingredient_class(ingredients_of(name)),
            "why_not": _why_not(name, collections),
        }
        for name in names
    ]


def _why_not(name: str, collections: list[Collection]) -> str | None:
    """Why a method cannot be used with the first collection's model; None: it can."""
    ours = collections[0]
    if reads_masks(name):
        return "needs masks, which are not made here: only what `sclip run` has stored is shown"
    try:
        settings = settings_of(View(collection=ours.id, method=name), ours.settings)
        chosen = choose(settings, settings.attention)
        models = Models(settings, ours.run.inputs.digests, download=False)
        check_cls(chosen.method, models.spec.name, models.spec.tower)
        models.check_networks(settings, chosen.method)
    except UserError as error:
        return str(error)
    return None


def _run_about(row: RunRow) -> dict[str, Any]:
    """A run, and the view that shows its label maps; None: no view does."""
    method = row.get("method") or row.get("attention")
    steps = row.get("pamr_steps") or 0
    parts = [str(method), *([f"PAMR {steps}"] if steps else []), *_mode(row)]
    view = {name: row[name] for name in VIEWED if row.get(name) is not None}
    if not isinstance(view.get("pamr_dilations", ""), str):
        view["pamr_dilations"] = ",".join(map(str, view["pamr_dilations"]))
    miou, created = row.get("miou"), row.get("created_at")
    return {
        "run_id": row["run_id"],
        "title": ", ".join(parts),
        "miou": None if miou is None else round(float(miou), 2),
        "created_at": None if created is None else str(created),
        "view": None if _mode(row) else {"method": method, **view},
    }


def _mode(row: RunRow) -> list[str]:
    """What a run has beside dense labels, which the page does not show."""
    mode = row.get("mode")
    return [] if mode in (None, "dense") else [f"{mode} with masks"]


def _short(name: str) -> str:
    """A model, or the file of one without its folder."""
    return name.rstrip("/").rpartition("/")[2] or name
