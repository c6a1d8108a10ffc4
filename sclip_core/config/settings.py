"""Every setting of a run in one flat model: the names of pipeline.yaml, flags and parameters."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from sclip_core.config.data import OWN_DATA, DataSettings
from sclip_core.config.errors import UserError, shown, unknown
from sclip_core.config.frozen import SECTION, implied
from sclip_core.config.masks import MaskSettings, choose_source
from sclip_core.config.methods import (
    ATTENTIONS,
    ingredients_of,
    is_attention,
    method_protocol,
    method_table,
    parameter_points,
    template_set,
)
from sclip_core.config.parquet import labels_beside
from sclip_core.config.paths import HomePath, Paths, local, no_url
from sclip_core.config.places import AnyPlace, local_folder
from sclip_core.config.plugins import BUILT_IN, load_plugins, names_of, one_of, plugin_paths
from sclip_core.config.protocol import (
    Protocol,
    benchmark_name,
    benchmark_protocol,
    is_benchmark,
    tables,
)
from sclip_core.config.roles import DENSE, HOW, MASKS, Role, role_of
from sclip_core.config.stages import STAGES, stages_of
from sclip_core.config.yaml_file import load_yaml

PREFECT_KEYS = {"name", "prefect-version", "build", "push", "pull", "definitions", "deployments"}


def _stages(value: Any) -> Any:
    """``"refine,metrics"`` from a command line, a list from a file."""
    names = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    for name in names if isinstance(names, list | tuple) else ():
        if name not in STAGES:
            raise unknown("stage in force:", name, STAGES)
    return names


StageName = Annotated[str, Field(json_schema_extra={"enum": list(STAGES)})]
StageNames = Annotated[tuple[StageName, ...], BeforeValidator(_stages), HOW]
RULE = Role(
    "masks",
    order=2,
    idle=lambda run: run.mode != "hybrid",
    idle_where="outside of mode hybrid",
)
NETWORK = Role("model", recorded=False)
HOW_OF_MASKS = Role("masks", recorded=False)
ATTENTION = replace(DENSE, recorded=False, order=4)


class Settings(DataSettings, MaskSettings, Protocol):
    """The settings of a run: what to segment, with which model, by which protocol, and how."""

    mode: Annotated[
        Literal["dense", "hybrid", "baseline"], Role("masks", recorded=False, order=1)
    ] = "dense"
    """dense; hybrid: masks filled with labels; baseline: CLIP on the crop of each mask."""
    hybrid_rule: Annotated[str, RULE] = "vote"
    """Label of a mask: that of most pixels, of their mean scores, or of CLIP on its crop."""
    templates: Annotated[Literal["openai", "simple", "photo"] | None, Role("model")] = None
    """Prompts for each word: openai (80), simple (4) or photo (1). [openai; baseline: simple]"""

    model: Annotated[str, BeforeValidator(no_url), NETWORK] = "ViT-B-16"
    """An open_clip model with a ViT image tower, or the path of a model JSON or its folder."""
    pretrained: Annotated[str, BeforeValidator(no_url), NETWORK] = "openai"
    """An open_clip tag, or the path of a checkpoint or of the folder of a model of the hub."""
    attention: Annotated[str, ATTENTION] = "csa"
    """Attention of CLIP's last block: csa, vanilla, maskclip, clearclip, naclip or kk."""
    proxy_model: Annotated[str | None, BeforeValidator(no_url), NETWORK] = None
    """The second network: dino_vitb8, dino_vitb16, dinov2_vitb14, a timm ViT, or a JSON."""
    proxy_weights: Annotated[str | None, BeforeValidator(no_url), NETWORK] = None
    """Weights of the second network, a file; without it they are fetched by name."""
    sam_encoder: Annotated[str | None, BeforeValidator(no_url), NETWORK] = None
    """SAM's encoder for methods that read it: vit_b, vit_l, vit_h, or a JSON. [--sam-model]"""
    plugins: Annotated[Paths, HOW] = ()
    """Python files that register methods, attentions, mask sources and the like."""
    dtype: Annotated[Literal["auto", "fp32", "bf16", "fp16"], NETWORK] = "auto"
    """Precision of the image tower; auto: fp32 on a CPU, fp16 on a GPU."""

    masks: Annotated[HomePath | None, MASKS] = None
    """Folder of your own masks: for each image an id map, PNG or npy, of the same name."""
    sam_checkpoint: Annotated[HomePath | None, MASKS] = None
    """SAM: a .pth file of Meta's weights; without it they are fetched by name."""

    # None of the following changes a result, so none is part of a key.
    device: Annotated[str, HOW] = "auto"
    """auto, cpu, cuda, cuda:1, ..."""
    batch_size: Annotated[int, Field(ge=0, le=65536), HOW] = 0
    """Windows per forward pass; 0: as 16 of 224 pixels on a CPU, 256 on a GPU."""
    workers: Annotated[int, Field(ge=0, le=256), HOW] = 2
    """Threads that read images ahead."""
    shards: Annotated[int, Field(ge=1, le=1024), HOW] = 1
    """Parts of the long stages, each a task of its own. [as many as GPUs are used]"""
    runner: Annotated[Literal["threads", "processes", "dask", "ray"], HOW] = "threads"
    """Who computes the parts: threads of this process, processes, Dask's or Ray's workers."""
    address: Annotated[str | None, HOW] = None
    """Of Dask's scheduler (tcp://host:8786) or Ray's cluster. [started here, for the command]"""
    artifacts: Annotated[AnyPlace, HOW] = Path("artifacts")
    """Folder of all artifacts and results, or s3://bucket/prefix (gs, az)."""
    strict: Annotated[bool, HOW] = False
    """Stop at the first bad image."""
    force: StageNames = ()
    """Stages to compute again, with those that read them; trunk: only itself."""
    boundary: Annotated[bool, HOW] = False
    """Compute boundary IoU too, from the label maps."""
    object_sizes: Annotated[bool, HOW] = False
    """Compute accuracy by size of object too, from the label maps."""
    keep_trunk: Annotated[bool, HOW] = False
    """Store what the last block gets too: another attention then needs no encoder."""
    keep_embeddings: Annotated[bool, HOW_OF_MASKS] = False
    """Store SAM's image embeddings too: other thresholds then need no encoder."""
    points_per_batch: Annotated[int, Field(ge=0, le=65536), HOW_OF_MASKS] = 0
    """SAM: prompts per pass; 0: 16 on a CPU, 256 on a GPU."""
    save_vis: Annotated[HomePath | None, HOW] = None
    """Folder for pictures: image, ground truth, prediction; without --labels, label maps too."""
    frozen: Annotated[HomePath | None, HOW] = None
    """A file of `sclip freeze` that the run is compared with. [--config, if it is one]"""
    allow_changes: Annotated[bool, HOW] = False
    """Go on where settings, words, weights or images are not those of the frozen file."""

    @property
    def local_artifacts(self) -> Path:
        """The folder for what belongs to this machine; that of the artifacts, where it is one."""
        return local_folder(self.artifacts)

    @field_validator("hybrid_rule")
    @classmethod
    def _is_a_rule(cls, name: str) -> str:
        return one_of(name, [*BUILT_IN["hybrid_rule"], *names_of("rule")])

    @property
    def rule(self) -> str | None:
        """The rule that labels masks; None if the run has no masks."""
        return {"dense": None, "baseline": "crop"}.get(self.mode, self.hybrid_rule)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that the run has, in order."""
        return stages_of(self)

    @property
    def template_set(self) -> str:
        """The name of the templates that each word is put into."""
        usual = "simple" if self.mode == "baseline" else "openai"
        return self.templates or template_set(self.method) or usual


ROLES = {name: role_of(Settings, name) for name in Settings.model_fields}
# Settings that only runs with masks read; ``mode`` says whether there are any.
OF_MASKS = tuple(n for n, role in ROLES.items() if role.part == "masks" and n != "mode")


def read_pipeline(path: Path) -> dict[str, Any]:
    """The ``sclip:`` section of a pipeline.yaml, or of a file of ``sclip freeze``.

    Raises:
        UserError: no such file, not YAML, or a top-level key that neither we nor Prefect know.
    """
    if not os.path.isfile(local(path)):
        raise UserError(f"no settings file at {path}: pass the path of a pipeline.yaml")
    try:
        loaded = load_yaml(path.read_text("utf-8"), unique=True) or {}
    except OSError as error:
        raise UserError(f"settings file {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(loaded, dict):
        raise UserError(
            f"{path}: expected keys and values, such as 'sclip:' and below it '  model: ViT-B-16', "
            f"found {type(loaded).__name__}"
        )
    for key in loaded:
        if key in Settings.model_fields and key != SECTION:
            raise UserError(f"{path}: '{key}' is a setting: indent it, below a line 'sclip:'")
        if key not in PREFECT_KEYS | {"sclip", SECTION}:
            raise unknown(f"key in {path}:", key, PREFECT_KEYS | {"sclip", SECTION})
    section = loaded.get("sclip") or {}
    if not isinstance(section, dict):
        raise UserError(f"{path}: 'sclip' should hold keys and values, e.g. 'model: ViT-B-16'")
    for key in section:
        if key not in Settings.model_fields:
            raise unknown(f"key in {path}, section sclip:", key, Settings.model_fields)
    return {**section, **(implied(path, loaded[SECTION]) if SECTION in loaded else {})}


def preset_values(name: str) -> dict[str, Any]:
    """The settings of a preset: one of the table, or a benchmark's name; or of several, "a,b".

    Raises:
        UserError: a name is neither.
    """
    if "," in name:
        parts = [part.strip() for part in name.split(",")]
        sets = [part for part in parts if is_benchmark(part) and part not in tables()["presets"]]
        if len(sets) > 1:
            raise UserError(
                f"--preset {name} names {len(sets)} benchmarks, and a run has one: "
                f"for a run of each pass --dataset {','.join(sets)}"
            )
        return {key: value for part in parts for key, value in preset_values(part).items()}
    tabled = tables()
    if name in tabled["presets"]:
        return dict(tabled["presets"][name])
    plain = name.replace("-", "_")
    if plain in tabled["benchmarks"]:
        return {"dataset": plain}
    raise unknown("preset", name, [*tabled["presets"], *tabled["benchmarks"]])


def resolve(config: Path | str | None = None, preset: str | None = None, **given: Any) -> Settings:
    """The settings of a run; the later wins: benchmark's protocol, file, preset, given.

    Args:
        config: a pipeline.yaml whose ``sclip:`` section holds defaults; None: no file.
        preset: a name of the preset table or of a benchmark.
        given: settings by name; None means not given.

    Raises:
        UserError: an unknown name or an impossible value anywhere.
    """
    values, places = chosen_values(config, preset, given)
    if isinstance(values.get("parameters"), list):
        if len(values["parameters"]) > 1:
            raise UserError("several values of parameters: one run takes one of each")
        values["parameters"] = values["parameters"][0]
    return Settings.checked(values, places)


def load_own(config: Path | str | None, given: Mapping[str, Any]) -> tuple[Path, ...]:
    """Load the plugins of a command: of its file, relative to where that is, and those given.

    Args:
        config: a pipeline.yaml, or None.
        given: settings by name.

    Returns:
        Their paths, absolute.

    Raises:
        UserError: one of them cannot be loaded.
    """
    file = read_pipeline(Path(config)) if config else {}
    of_file = plugin_paths(file.get("plugins"), Path(config).parent.absolute() if config else None)
    plugins = tuple(dict.fromkeys((*of_file, *plugin_paths(given.get("plugins")))))
    load_plugins(plugins, {**file, **{k: v for k, v in given.items() if v is not None}})
    return plugins


def _file_values(config: Path | str | None, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What a pipeline.yaml sets, without the dataset where another one is asked for."""
    file = read_pipeline(Path(config)) if config else {}
    if "frozen" in file:  # which has no paths: these images are to be the same
        of_others: tuple[str, ...] = ()
    elif "images" in asked:  # other images than the file's are not its dataset
        of_others = ("dataset", "data_root", *OWN_DATA)
    elif "data_root" in asked or is_benchmark(str(asked.get("dataset", ""))):
        of_others = OWN_DATA
    else:
        of_others = ()
    return {name: value for name, value in file.items() if name not in of_others}


def _method_of(chosen: dict[str, Any], asked: dict[str, Any]) -> str | None:
    """The chosen method; None: an attention, whose name is put where attentions' names stand.

    Raises:
        UserError: two things say which attention.
    """
    method = chosen.pop("method", None)
    if method is None:
        return None
    attention = chosen.pop("attention", None) if asked.get("attention") else None
    if attention is not None and attention != method:
        named = ",".join(map(str, attention)) if isinstance(attention, list) else attention
        raise UserError(
            f"--method {method} and --attention {named} conflict: an attention is a method of its "
            f"own; use only one, or --method {method},{named}"
        )
    if not isinstance(method, str):
        raise UserError(f"method: expected a name such as csa, found {shown(method)}")
    if is_attention(method):
        chosen["attention"] = method
        return None
    if method not in method_table():
        raise unknown("method", str(method), [*method_table(), *sorted(ATTENTIONS)])
    chosen.pop("attention", None)
    chosen["method"] = method
    return str(method)


def _refuse_nothing(chosen: Mapping[str, Any], config: Path | str | None) -> None:
    """See that a command without images of one's own names a benchmark.

    Raises:
        UserError: it names none.
    """
    if "dataset" not in chosen:
        raise UserError(
            "nothing to segment: give --dataset NAME --data-root DIR, "
            "or --images DIR --classes FILE and, to be scored, --labels DIR"
        )
    if "frozen" in chosen and not is_benchmark(str(chosen["dataset"])):
        raise UserError(
            f"{config} is of images that are no benchmark's: pass --images DIR --labels DIR"
        )


def chosen_values(
    config: Path | str | None,
    preset: str | None,
    given: dict[str, Any],
    filled_by_method: bool = False,
) -> tuple[dict[str, Any], dict[str, str]]:
    """The values of a run's settings, not yet checked, and where those of the file stand.

    Args:
        config: a pipeline.yaml, or None.
        preset: a name of the preset table or of a benchmark, or None.
        given: settings by name.
        filled_by_method: masks that are asked for are for a method of the command, so they do not
            mean that labels are to fill them.
    """
    given = {name: value for name, value in given.items() if value is not None}
    plugins = load_own(config, given)
    asked = {**(preset_values(preset) if preset else {}), **given}
    if plugins:
        asked["plugins"] = plugins
    file = _file_values(config, asked)
    chosen = {**file, **asked}
    method = _method_of(chosen, asked)
    choose_source(chosen, asked)
    undecided = "mode" not in asked and chosen.get("mode", "dense") == "dense"
    undecided = undecided and not filled_by_method
    if undecided and {"proposals", "masks"} & asked.keys():
        chosen["mode"] = "hybrid"  # masks are asked for, so something is to be done with them
    elif undecided:
        of_sam = ("sam_model", "sam_checkpoint") if "sam" in ingredients_of(method) else ()
        unread = next((n for n in asked if n in OF_MASKS and n not in of_sam), None)
        if unread:
            flag = f"--{unread.replace('_', '-')}"
            raise UserError(f"{flag} is for masks, and none are asked for: add --use-sam")
    name = str(chosen.get("dataset", "custom"))
    if chosen.get("images") is None:
        _refuse_nothing(chosen, config)
        protocol = benchmark_protocol(name, method)
        chosen["dataset"] = chosen["vocabulary"] = benchmark_name(name)
    elif is_benchmark(name):
        raise UserError(
            f"images of your own cannot be called {name}, which is a benchmark: give them another "
            "name with --dataset, or leave --images out and give --data-root"
        )
    else:
        protocol = method_protocol(method, None)
    if chosen.get("parameters"):
        usual = protocol.get("parameters", "")
        chosen["parameters"] = parameter_points(chosen["parameters"], method, usual)
    if chosen.get("labels") is None and chosen.get("images") is not None:
        beside = labels_beside(chosen["images"], chosen.get("parquet_columns"))
        chosen |= {"labels": beside} if beside else {}
    places = {name: f"{config}, section sclip" for name in file.keys() - asked.keys()}
    return {**protocol, **chosen}, places
