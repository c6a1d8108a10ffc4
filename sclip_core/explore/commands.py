"""A view as a command and as lines of Python: only what differs from their usual settings."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sclip_core.config import Protocol, Settings, resolve
from sclip_core.config.methods import method_protocol, template_set
from sclip_core.explore.gallery import Collection
from sclip_core.explore.uploaded import UploadedCollection
from sclip_core.explore.view import View, method_of, settings_of
from sclip_core.explore.words import Words, text_of, words_of
from sclip_core.tensors.device import find_device, find_dtype

DATA = ("dataset", "data_root", "images", "labels", "split", "images_list")
OF_DATA = ("ignore_label", "parquet_columns", "label_values", "palette", "label_pattern",
           "missing_labels", "num_samples", "exif", "pixel_range", "reduce_zero_label")  # fmt: skip
OF_MODEL = ("model", "pretrained", "device", "dtype", "proxy_model", "proxy_weights",
            "sam_encoder", "sam_checkpoint", "plugins")  # fmt: skip
OF_PROTOCOL = tuple(n for n in Protocol.model_fields if n not in ("method", "vocabulary"))


def commands(collection: Collection, view: View) -> dict[str, Any]:
    """What gives the labels of a view.

    Returns:
        ``command`` for a shell, and ``python``, lines of it.

    Raises:
        UserError: no words, or an unknown method.
    """
    settings = settings_of(view, collection.settings)
    words = words_of(view.words, collection)
    file = str(collection.file(view.image)) if view.image else "photo.jpg"
    whole = not isinstance(collection, UploadedCollection)
    if whole and (words.own or (settings.labels is None and settings.images is not None)):
        command = _run(settings, words)
    else:
        command = _segment(settings, words, file)
    return {"command": command, "python": _python(settings, words, file)}


def _run(settings: Settings, words: Words) -> str:
    """``sclip run`` over all images of the collection."""
    given = {name: getattr(settings, name) for name in DATA}
    given = {name: value for name, value in given.items() if _was_given(settings, name, value)}
    if settings.images is not None:
        given["classes"] = settings.classes if words.own else text_of(words.vocabulary)
    elif settings.classes is not None:
        given["classes"] = settings.classes
    names = *OF_DATA, "templates", *OF_PROTOCOL, *OF_MODEL, "artifacts"
    return shlex.join(["sclip", "run", *_flags(_completed(given, settings, names))])


def _segment(settings: Settings, words: Words, file: str) -> str:
    """``sclip segment`` of one image."""
    names = *OF_PROTOCOL, *OF_MODEL, "exif", "pixel_range"
    start: dict[str, Any] = {"images": Path(file).parent}
    found = _completed(start, settings, (n for n in names if n != "reduce_zero_label"))
    flags = _flags({name: value for name, value in found.items() if name != "images"})
    labels = f"{Path(file).stem}.labels.png"
    given = ["--classes", text_of(words.vocabulary), "--labels-out", labels]
    return shlex.join(["sclip", "segment", file, *given, *flags])


def _was_given(settings: Settings, name: str, value: Any) -> bool:
    """Whether a setting of the data is another than none at all."""
    return value is not None and (name != "dataset" or value != "custom")


def _completed(given: dict[str, Any], wanted: Settings, names: Iterable[str]) -> dict[str, Any]:
    """The settings that a command has to be given to come to those that are wanted."""
    if method_of(wanted) != "csa":
        given = {**given, "method": method_of(wanted)}
    found = resolve(**given)
    differing = {n: getattr(wanted, n) for n in names if getattr(found, n) != getattr(wanted, n)}
    if found.template_set == wanted.template_set:
        differing.pop("templates", None)
    if _is_usual(wanted):
        differing.pop("dtype", None)
    return {**given, **differing}


def _is_usual(settings: Settings) -> bool:
    """Whether the precision is what this device has by itself."""
    device = find_device(settings.device)
    return find_dtype(settings.dtype, device) == find_dtype("auto", device)


def _flags(given: dict[str, Any]) -> list[str]:
    """Settings as flags."""
    found: list[str] = []
    for name, value in given.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            found.append(flag if value else f"--no-{name.replace('_', '-')}")
        elif isinstance(value, tuple | list):
            found += [flag, ",".join(map(str, value)) or "none"]
        elif value is not None:
            found += [flag, str(value)]
    return found


def _python(settings: Settings, words: Words, file: str) -> str:
    """Three lines: the import, the model, the labels."""
    load = {name: getattr(settings, name) for name in ("model", "pretrained")}
    load |= {"method": method_of(settings), "device": settings.device, "dtype": settings.dtype}
    load |= {"proxy": settings.proxy_model, "proxy_pretrained": settings.proxy_weights}
    load |= {"sam": settings.sam_encoder, "sam_pretrained": settings.sam_checkpoint}
    usual = {"model": "ViT-B-16", "pretrained": "openai", "method": "csa"}
    usual |= {"device": "auto", "dtype": "auto"}
    usual |= {"dtype": settings.dtype} if _is_usual(settings) else {}
    load = {n: v for n, v in load.items() if v is not None and v != usual.get(n)}
    classes = repr([", ".join(each) for each in words.vocabulary.words])
    if settings.template_set != (template_set(settings.method) or "openai"):
        classes = f"model.text_bank({classes}, {settings.template_set!r})"
    protocol = Protocol.checked(method_protocol(settings.method, None))
    differing = {n: getattr(settings, n) for n in OF_PROTOCOL if n != "reduce_zero_label"}
    differing = {n: v for n, v in differing.items() if v != getattr(protocol, n)}
    called = [repr(file), classes, *(f"{n}={_plain(v)}" for n, v in differing.items())]
    arguments = ", ".join(f"{n}={_plain(v)}" for n, v in load.items())
    return "\n".join(
        [
            "from sclip_core import SCLIP",
            f"model = SCLIP.load({arguments})",
            f"found = model.segment({', '.join(called)})",
        ]
    )


def _plain(value: Any) -> str:
    """A value as Python writes it; of a path its name."""
    return repr(str(value) if isinstance(value, Path) else value)
