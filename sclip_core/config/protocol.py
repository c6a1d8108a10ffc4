"""The protocol: how an image is cut, scored and decided (the public SCLIP code's settings)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from sclip_core.config.errors import UserError, shown, unknown
from sclip_core.config.methods import (
    canonical_parameters,
    method_protocol,
    parameters_of,
)
from sclip_core.config.roles import DATA, DENSE, Role
from sclip_core.config.yaml_file import load_yaml


def split_commas(value: Any) -> Any:
    """``"8,16"`` from a command line, ``8`` from a file: both a list."""
    if isinstance(value, str):
        return [part for part in value.replace(" ", "").split(",") if part]
    return [value] if isinstance(value, int) else value


def _steps(value: Any) -> Any:
    """``"vote,closing"`` from a command line; ``none``: no step."""
    names = split_commas(value) if isinstance(value, str) else value
    return () if names in (["none"], ("none",)) else names


MOST = 2**31 - 1  # where no smaller bound is natural; larger numbers fit no array
LabelValue = Annotated[int, Field(ge=-MOST, le=MOST)]
Dilation = Annotated[PositiveInt, Field(le=65536)]
IntList = Annotated[tuple[LabelValue, ...], BeforeValidator(split_commas)]
Dilations = Annotated[tuple[Dilation, ...], BeforeValidator(split_commas), Field(min_length=1)]
METHOD = replace(DENSE, order=0)
PARAMETERS = replace(DENSE, order=3)
Steps = Annotated[tuple[str, ...], BeforeValidator(_steps)]
STEPS = replace(DENSE, order=5)
DILATIONS = replace(
    DENSE,
    order=6,
    idle=lambda run: DENSE.idle(run) or not run.pamr_steps,
    idle_where="without PAMR",
)
# The scale moves no class before another: it only says how probable the best one is, and only
# ``prob_thd`` asks for that, whether of pixels or of masks.
SCALE = Role("decision", order=7, idle=lambda run: not run.prob_thd, idle_where="without prob_thd")


@cache
def tables() -> dict[str, dict[str, dict[str, Any]]]:
    """The tables ``benchmarks``, ``layouts`` and ``presets``, by name; users' plugins add to them.

    Each file of ``config/benchmarks`` is a row of ``benchmarks`` (its protocol, layout and number
    of images) and, if it says where files lie, one of ``layouts`` (``files``, ``source``, what
    wrong label maps come from). The keys are explained in the README beside the files.
    """
    folder = resources.files("sclip_core.config")
    texts = [file for file in (folder / "benchmarks").iterdir() if file.name.endswith(".yaml")]
    read = {file.name.removesuffix(".yaml"): _loaded(file) for file in texts}
    files = dict(sorted(read.items(), key=lambda item: (item[1].get("rank", len(read)), item[0])))
    layouts: dict[str, dict[str, Any]] = {}
    for name, row in files.items():
        if "files" in row:
            if row["layout"] in layouts:
                raise ValueError(
                    f"config/benchmarks/{name}.yaml describes the files of the layout "
                    f"{row['layout']}, which another benchmark does too: give it a name of its own"
                )
            layouts[row["layout"]] = row | row["files"]
    benchmarks = {}
    for name, row in files.items():
        about = {"background": row.get("background", False), "layout": row["layout"]}
        counted = {k: v for k, v in layouts[row["layout"]].items() if k == "num_images"}
        benchmarks[name] = {"reduce_zero_label": False, **row["protocol"], **about, **counted}
    return {
        "benchmarks": benchmarks,
        "layouts": layouts,
        "presets": _loaded(folder / "presets.yaml"),
    }


def _loaded(file: Traversable) -> dict[str, Any]:
    loaded: dict[str, Any] = load_yaml(file.read_text("utf-8"))
    return loaded


def benchmark_name(name: str) -> str:
    """The canonical name of a benchmark (``coco-stuff`` and ``coco_stuff164k`` are ``coco_stuff``).

    Raises:
        UserError: the name is not in the table.
    """
    if not is_benchmark(name):
        raise unknown("dataset", name, tables()["benchmarks"])
    return plain_name(name)


def is_benchmark(name: str) -> bool:
    """Whether a name is one of the table of benchmarks, in any spelling."""
    return plain_name(name) in tables()["benchmarks"]


def is_text(value: object) -> bool:
    """Whether a value can be written down as UTF-8; the name of a file may be any bytes."""
    try:
        str(value).encode()
    except UnicodeEncodeError:
        return False
    return True


def plain_name(name: str) -> str:
    """The canonical spelling of a benchmark's name."""
    return name.lower().replace("-", "_").removesuffix("164k")


class Checked(BaseModel):
    """A frozen model that refuses unknown fields and says what is wrong in one line."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Only what differs from the defaults: all of it would be a page."""
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if value != field.get_default():
                yield name, value

    @field_validator("*", mode="before")
    @classmethod
    def _of_its_kind(cls, value: Any, info: ValidationInfo) -> Any:
        """What pydantic would take and no user can mean."""
        kind = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and kind is not bool:
            raise ValueError(
                "expected a value, not a switch (in a pipeline.yaml, yes, no, on and off are "
                "switches: put quotes around a name)"
            )
        if isinstance(value, Path | str) and not is_text(value):
            raise ValueError("not valid UTF-8: give it another name")
        if isinstance(value, Path | str) and "\0" in str(value):
            raise ValueError("holds a zero byte, which no name has: give it another name")
        return value

    @classmethod
    def checked(cls, values: dict[str, Any], places: Mapping[str, str] | None = None) -> Self:
        """Build from a plain dict.

        Args:
            values: field values by name.
            places: where a value comes from, by name, for the error; else "settings".

        Raises:
            UserError: an unknown name (with the nearest right one) or a value out of range.
        """
        for name in values:
            if name not in cls.model_fields:
                raise unknown("key in settings:", name, cls.model_fields)
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            names = [str(part) for part in first["loc"]]
            found = f"{'.'.join(names)}={shown(first['input'])}: " if names else ""
            where = (places or {}).get(names[0] if names else "", "settings")
            raise UserError(
                f"{where}: {found}{first['msg'].removeprefix('Value error, ')}"
            ) from None

    def changed(self) -> dict[str, Any]:
        """The fields that are not at their usual values: what a key has to say of parameters.

        One that comes later then changes no key.
        """
        fields = type(self).model_fields
        return {n: v for n, field in fields.items() if (v := getattr(self, n)) != field.default}

    def replace(self, **changes: Any) -> Self:
        """A copy with other values, checked anew."""
        return type(self).checked({**self.model_dump(exclude_unset=True), **changes})


class Protocol(Checked):
    """How one image becomes a label map. The defaults are the reference's for a plain dataset."""

    method: Annotated[str | None, METHOD] = None
    """csa, naclip, sc-clip, pearl, proxyclip, ... (docs/methods.md), or one of your own. [csa]"""
    parameters: Annotated[str, BeforeValidator(canonical_parameters), PARAMETERS] = ""
    """Parameters of the method, its refiner or its steps after: 'beta=1.2 gamma=3'."""
    vocabulary: Annotated[str | None, DATA] = None
    """A built-in vocabulary, by the name of its benchmark."""
    short_side: Annotated[PositiveInt, Field(le=8192), DENSE] = 336
    """Pixels of the shorter side after the resize."""
    tile: Annotated[bool, DENSE] = False
    """Cut the windows out of the image at its own resolution, without resizing it first."""
    slide_crop: Annotated[int, Field(ge=0, le=MOST), DENSE] = 224
    """Side of a window in pixels; 0: the whole image is one window."""
    slide_stride: Annotated[PositiveInt, Field(le=MOST), DENSE] = 112
    """Pixels from one window to the next."""
    window_multiple: Annotated[int, Field(ge=0, le=8192), DENSE] = 0
    """Windows are padded with the mean colour to a multiple of this many pixels; 0: not at all."""
    image_multiple: Annotated[int, Field(ge=0, le=8192), DENSE] = 0
    """The resized image is enlarged to sides that are multiples of this; 0: not at all."""
    logit_scale: Annotated[float, Field(gt=0, le=1e30), SCALE] = 40.0
    """Factor on the cosines before the softmax."""
    prob_thd: Annotated[float, Field(ge=0, le=1), Role("decision", order=8)] = 0.0
    """Pixels whose best class is less probable than this become class 0."""
    area_thd: Annotated[float, Field(ge=0, le=1), Role("decision", order=9)] = 0.0
    """Classes of at most this share of the foreground are dropped; 0: none."""
    pamr_steps: Annotated[int, Field(ge=0, le=1000), STEPS] = 0
    """Iterations of PAMR; 0: no refinement."""
    pamr_dilations: Annotated[Dilations, DILATIONS] = (8, 16)
    """Distances of PAMR's neighbours in pixels."""
    refiner: Annotated[str, DENSE] = "pamr"
    """What refines the logits: pamr, tlp, or one of your own."""
    decision: Annotated[str, Role("decision")] = "argmax"
    """What labels pixels: argmax, the best class and the thresholds; or one of your own."""
    after: Annotated[Steps, DENSE] = ()
    """Steps after the decision: vote (one label a mask), closing, or of your own; none: no step."""
    reduce_zero_label: Annotated[bool, DATA] = False
    """Ground truth: label 0 is not evaluated, and k means class k-1."""

    @model_validator(mode="after")
    def _stride_within_crop(self) -> Self:
        if self.tile and self.slide_crop == 0:
            raise ValueError(
                "tile cuts windows, and slide_crop=0 takes the whole image as one: pass a side of "
                "windows, slide_crop=224"
            )
        if 0 < self.slide_crop < self.slide_stride:
            raise ValueError(
                f"slide_stride={self.slide_stride} is larger than slide_crop={self.slide_crop}: "
                "pixels between the windows would be left out; take a stride of at most the crop"
            )
        return self

    @classmethod
    def named(cls, name: str, method: str | None = None) -> Self:
        """The protocol of a benchmark, e.g. ``Protocol.named("voc21", method="sc-clip")``.

        Args:
            name: of the benchmark.
            method: whose settings for it are taken; None: SCLIP's.

        Raises:
            UserError: the name is not in the table.
        """
        values = {"vocabulary": benchmark_name(name), **benchmark_protocol(name, method)}
        return cls.checked({**values, "method": method})

    @property
    def parameter_values(self) -> dict[str, Any]:
        """``parameters`` by name."""
        return parameters_of(self.parameters)


def benchmark_protocol(name: str, method: str | None = None) -> dict[str, Any]:
    """What a benchmark sets of the protocol, as a dict; with a method, what that sets for it."""
    row = tables()["benchmarks"][benchmark_name(name)]
    values = {key: value for key, value in row.items() if key in Protocol.model_fields}
    return {**values, **method_protocol(method, benchmark_name(name))}
