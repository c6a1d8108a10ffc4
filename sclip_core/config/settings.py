"""Every setting of a run in one flat model: the names of pipeline.yaml, flags and parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, PositiveInt

from sclip_core.config.errors import UserError, unknown
from sclip_core.config.protocol import IntList, Protocol, benchmark_protocol, tables

STAGES = ("text_bank", "dense_features", "refine", "metrics", "results")
PREFECT_KEYS = {"name", "prefect-version", "build", "push", "pull", "definitions", "deployments"}

StageName = Literal["text_bank", "dense_features", "refine", "metrics", "results"]
StageNames = Annotated[
    tuple[StageName, ...], BeforeValidator(lambda v: v.split(",") if isinstance(v, str) else v)
]


class Settings(Protocol):
    """A run: what to segment, with which model, by which protocol, and how to go about it."""

    dataset: str = "custom"  # a benchmark, or any name for a folder of one's own
    data_root: Path | None = None
    images: Path | None = None  # a folder of one's own: images, labels, classes
    labels: Path | None = None
    classes: Path | None = None  # vocabulary file; may replace a benchmark's
    ignore_label: IntList = (255,)  # label values that are not evaluated
    num_samples: PositiveInt | None = None  # the first N images

    model: str = "ViT-B-16"
    pretrained: str = "openai"
    attention: str = "csa"
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"

    # None of these changes a result, so none is part of a key.
    device: str = "auto"
    batch_size: Annotated[int, Field(ge=0)] = 0  # windows per forward pass; 0: by device
    workers: Annotated[int, Field(ge=0, le=256)] = 2  # threads that decode images
    shards: Annotated[int, Field(ge=1, le=1024)] = (
        1  # independent tasks of dense_features and refine
    )
    artifacts: Path = Path("artifacts")
    strict: bool = False  # stop at the first bad image
    force: StageNames = ()  # stages to compute again, with those below them
    save_vis: Path | None = None


def read_pipeline(path: Path) -> dict[str, Any]:
    """The ``sclip:`` section of a pipeline.yaml.

    Raises:
        UserError: no such file, not YAML, or a top-level key that neither we nor Prefect know.
    """
    if not path.is_file():
        raise UserError(f"no settings file at {path}: pass the path of a pipeline.yaml")
    try:
        loaded = yaml.safe_load(path.read_text("utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not valid YAML: {reason}") from None
    if not isinstance(loaded, dict):
        raise UserError(f"{path}: expected keys and values, found {type(loaded).__name__}")
    for key in loaded:
        if key not in PREFECT_KEYS | {"sclip"}:
            raise unknown(f"key in {path}:", key, PREFECT_KEYS | {"sclip"})
    section = loaded.get("sclip") or {}
    if not isinstance(section, dict):
        raise UserError(f"{path}: 'sclip' should hold keys and values, e.g. 'model: ViT-B-16'")
    for key in section:
        if key not in Settings.model_fields:
            raise unknown(f"key in {path}, section sclip:", key, Settings.model_fields)
    return section


def preset_values(name: str) -> dict[str, Any]:
    """The settings of a preset: one of the table, or a benchmark's name.

    Raises:
        UserError: the name is neither.
    """
    tabled = tables()
    if name in tabled["presets"]:
        return dict(tabled["presets"][name])
    plain = name.replace("-", "_")
    if plain in tabled["benchmarks"]:
        return {"dataset": plain}
    raise unknown("preset", name, [*tabled["presets"], *tabled["benchmarks"]])


def resolve(config: Path | None = None, preset: str | None = None, **given: Any) -> Settings:
    """The settings of a run; the later wins: benchmark's protocol, file, preset, given.

    Args:
        config: a pipeline.yaml whose ``sclip:`` section holds defaults; None: no file.
        preset: a name of the preset table or of a benchmark.
        given: settings by name; None means not given.

    Raises:
        UserError: an unknown name or an impossible value anywhere.
    """
    given = {name: value for name, value in given.items() if value is not None}
    chosen = {
        **(read_pipeline(config) if config else {}),
        **(preset_values(preset) if preset else {}),
        **given,
    }
    if "images" in given and "dataset" not in given:
        chosen["dataset"] = "custom"  # own images on the command line beat the file's dataset
    name = str(chosen.get("dataset", "custom"))
    if chosen.get("images") is None:
        if "dataset" not in chosen:
            raise UserError(
                "nothing to segment: give --dataset NAME --data-root DIR, "
                "or --images DIR --labels DIR --classes FILE"
            )
        protocol = benchmark_protocol(name)
        chosen["dataset"] = chosen["vocabulary"] = (
            name.lower().replace("-", "_").removesuffix("164k")
        )
    else:
        protocol = {}
    return Settings.checked({**protocol, **chosen}, where="settings")
